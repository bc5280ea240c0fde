"""The four roles as Django groups: viewer sees, operator runs, editor defines, admin manages people and tokens too."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.models import Group, Permission
from django.db import transaction

APPS = ("inbox", "tasks", "workflows", "apilogs")
ALL = ["add", "change", "delete"]
OPERATOR = {
    "inbox": {"webhook": ["change"], "forward": ["add", "change"], "replay": ["add", "change"], "savedview": ALL},
    "tasks": {"taskexecution": ["add", "change"]},
    "workflows": {"workflowexecution": ["add", "change"], "stepexecution": ["change"]},
}
EDITOR = {
    "inbox": {"source": ALL, "webhook": ["change", "delete"]},
    "tasks": {"scheduledtask": ALL, "secret": ALL, "notificationchannel": ALL},
    "workflows": {"workflow": ALL, "messagetemplate": ALL, "namedschema": ALL},
}
ADMIN_APPS = (*APPS, "automation_lab", "auth", "axes", "admin", "procrastinate")


def grant_roles(app_config: AppConfig, using: str = "default", **kwargs: Any) -> None:
    """After `migrate` of one app: make the groups and give them what their role may do with its tables.

    Only adds, so that rights given by hand stay.
    """
    label = app_config.label
    if label not in ADMIN_APPS:
        return
    operator = _codenames(OPERATOR, label)
    editor = operator | _codenames(EDITOR, label)
    with transaction.atomic(using=using):
        permissions = list(Permission.objects.using(using).filter(content_type__app_label=label))
        views = {item.codename for item in permissions if item.codename.startswith("view_")} if label in APPS else set()
        everything = {item.codename for item in permissions}
        for role, codenames in {
            "viewer": views,
            "operator": views | operator,
            "editor": views | editor,
            "admin": everything,
        }.items():
            group, _ = Group.objects.using(using).get_or_create(name=role)
            group.permissions.add(*[item for item in permissions if item.codename in codenames])


def _codenames(role: dict[str, dict[str, list[str]]], label: str) -> set[str]:
    return {f"{verb}_{model}" for model, verbs in role.get(label, {}).items() for verb in verbs}

"""The step type `approval`: people decide."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User

from automation_lab.core import json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import has_expression, redact
from tasks.notifying.messages import Message
from workflows import links
from workflows.steps.base import Fault, StepContext, Wait, WaitingType
from workflows.steps.notify import CHANNELS, missing_channels, send_to

LONGEST_SECONDS = 31_622_400
NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 50, "default": []}


class ApprovalStep(WaitingType):
    """Wait until `required` people approve or one rejects; the output is `{"decision", "by", "at", "comment", "form"}`.

    They decide in the console, over the API, or by the one-time link `callbacks.<id>`.
    """

    key = "approval"
    title = "Approval"
    unrendered = frozenset({"form"})
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "message": {"type": "string", "maxLength": 4000, "default": "", "title": "Question"},
            "assignees": {**NAMES, "title": "People", "description": "User names; nobody named: everybody who may."},
            "groups": {**NAMES, "title": "Groups"},
            "required": {"type": "integer", "minimum": 1, "maximum": 20, "default": 1, "title": "Approvals needed"},
            "form": {
                "type": "object",
                "title": "Form",
                "description": "JSON Schema of what an approval has to fill in.",
            },
            "timeout_seconds": {
                "type": "number",
                "minimum": 1,
                "maximum": LONGEST_SECONDS,
                "default": 259_200,
                "title": "Wait at most (seconds)",
            },
            "on_timeout": {"enum": ["reject", "approve", "fail"], "default": "reject", "title": "When nobody decides"},
            "on_reject": {
                "enum": ["fail", "branch"],
                "default": "fail",
                "title": "When rejected",
                "description": "branch goes on; a later condition can look at the decision.",
            },
            "notify": {**CHANNELS, "title": "Tell these channels", "description": "The message carries the link."},
            "allow_self": {
                "type": "boolean",
                "default": False,
                "title": "By who started the run",
                "description": "Whether the person who started the run may approve it.",
            },
        },
    }

    def begin(self, *, config: dict[str, Any], context: StepContext) -> Wait:
        until = context.now + timedelta(seconds=config["timeout_seconds"])
        kept = ("message", "assignees", "groups", "required", "form", "allow_self")
        if "notify" in config:
            _tell(config["notify"], redact(config["message"]), context)
        return Wait(
            "approval",
            until=until,
            state=redact({name: config[name] for name in kept if name in config}),
            record=lambda step: links.register(step, expires_at=until),
        )

    def resume(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], signal: Any) -> Any:
        if signal is None and config["on_timeout"] == "fail":
            raise RunError("Nobody has decided in time.", code="timeout.wait")
        if signal is None:
            decision = "approved" if config["on_timeout"] == "approve" else "rejected"
            comment = "Nobody has decided in time."
            signal = {"decision": decision, "by": "", "at": context.now.isoformat(), "comment": comment, "form": {}}
            signal["decisions"] = state.get("decisions") or []
        if signal["decision"] == "rejected" and config["on_reject"] == "fail":
            raise RunError(_refusal(signal), code="approval.rejected", detail=signal)
        return signal

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        if not isinstance(config.get("form"), dict):
            return []
        try:
            json_schema.check_schema(config["form"])
        except Invalid as error:
            return [{"path": "form", "code": "configuration.schema", "message": error.message}]
        return []

    def warnings(self, config: dict[str, Any]) -> list[str]:
        people = _missing(config.get("assignees"), User.objects.filter(is_active=True), "username")
        groups = _missing(config.get("groups"), Group.objects.all(), "name")
        found = [f"There is no active user {name!r}." for name in people]
        found += [f"There is no group {name!r}." for name in groups]
        if config.get("notify"):
            found += missing_channels(config["notify"])
            if not settings.PUBLIC_URL:
                found.append("PUBLIC_URL is not set, so the channels are told a path that nobody outside can follow.")
        return found


def _tell(channels: str | list[str], question: str, context: StepContext) -> None:
    """The question and the link. A channel that cannot be reached does not keep the run from waiting."""
    url = context.names["callbacks"][context.path.rpartition("/")[2]]
    message = Message("info", f"{context.execution.workflow.name} waits for an approval", question, url)
    with contextlib.suppress(RunError):  # each is in the run's log
        send_to(channels, message, context)


def _refusal(signal: dict[str, Any]) -> str:
    by = f" by {signal['by']}" if signal["by"] else ""
    comment = f": {signal['comment']}" if signal["comment"] else "."
    return f"Rejected{by}{comment}"


def _missing(names: Any, rows: Any, field: str) -> list[str]:
    wanted = (
        [name for name in names if isinstance(name, str) and not has_expression(name)]
        if isinstance(names, list)
        else []
    )
    known = set(rows.filter(**{f"{field}__in": wanted}).values_list(field, flat=True)) if wanted else set()
    return [name for name in wanted if name not in known]

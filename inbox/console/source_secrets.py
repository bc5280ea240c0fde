"""How the console changes the secrets of a source: what a new one replaces, and what another scheme cannot use."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils import timezone
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from automation_lab.core.console.forms import WriteOnlyField
from inbox.models import Source
from inbox.secrets import SIGNATURE, VERIFY_TOKEN, signing_secrets
from inbox.services import WITH_VERIFY_TOKEN, SecretInput
from inbox.verification.configuration import secret_fault

MAX_OVERLAP_HOURS = 720
DEFAULT_OVERLAP_HOURS = 24
WITHOUT_SECRETS = ("sns",)


class RotateForm(BaseDialogForm):
    new_secret = WriteOnlyField(label="New secret", help_text="What the sender signs with from then on.")
    starts_at = forms.DateTimeField(
        label="Valid from (UTC)",
        required=False,
        widget=UnfoldAdminTextInputWidget({"type": "datetime-local", "step": "1"}),
        help_text="Empty: at once.",
    )
    keep_hours = forms.IntegerField(
        label="Keep the old one for",
        initial=DEFAULT_OVERLAP_HOURS,
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Hours beside the new one. 0: it ends when the new one starts.",
    )


class RemoveForm(BaseDialogForm):
    secret = forms.ChoiceField(label="Secret", widget=UnfoldAdminSelectWidget)

    def __init__(self, request: HttpRequest, object_id: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        source = Source.objects.filter(pk=object_id).first()
        self.fields["secret"].choices = (
            [(secret["id"], _described(secret)) for secret in source.secrets] if source else []
        )


def describe_secrets(source: Source) -> str:
    """How many, and how each ends: never more."""
    if not source.secrets:
        return "No secret is set."
    shown = [_described(secret) for secret in source.secrets if not _is_token(secret)]
    return f"Set: {', '.join(shown)}. A new one replaces it." if shown else "No secret is set."


def _described(secret: dict[str, Any]) -> str:
    shown = f"ends …{secret['last4']}" if secret.get("last4") else "hidden"
    if _is_token(secret):
        shown = f"verify token, {shown}"
    return f"{shown} (until {secret['expires_at'][:16]})" if secret.get("expires_at") else shown


# --- changing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What was filled in. The secrets until now end `hours` after the new one starts; an empty text changes nothing."""

    value: str = field(default="", repr=False)
    starts_at: datetime | None = None
    hours: int = 0
    verify_token: str = field(default="", repr=False)


def changed(source: Source, given: Given, *, scheme: str, unfit: Collection[str]) -> list[SecretInput]:
    """All secrets that `source` is to have with `scheme`, without those that have the ids `unfit`."""
    kept = [secret for secret in source.secrets if secret["id"] not in unfit]
    signing = [_kept(secret) for secret in kept if not _is_token(secret)]
    tokens = [_kept(secret) for secret in kept if _is_token(secret)]
    if given.value:
        end = (given.starts_at or timezone.now()) + timedelta(hours=given.hours)
        signing = [{"value": given.value, "starts_at": given.starts_at}, *_ended(signing, end)]
    if given.verify_token and scheme in WITH_VERIFY_TOKEN:
        tokens = [{"value": given.verify_token, "use": VERIFY_TOKEN}]
    return [*signing, *tokens]


def without(source: Source, secret_id: str) -> list[SecretInput]:
    return [_kept(secret) for secret in source.secrets if secret["id"] != secret_id]


def unfit_ids(source: Source, scheme: str, options: dict[str, Any]) -> set[str]:
    """The secrets that `scheme` cannot use. One that cannot be decrypted is not judged, as nobody can judge it."""
    if scheme in WITHOUT_SECRETS:
        return {secret["id"] for secret in source.secrets}
    unfit = {secret.id for secret in signing_secrets(source) if secret_fault(scheme, options, secret.value)}
    if scheme not in WITH_VERIFY_TOKEN:
        unfit |= {secret["id"] for secret in source.secrets if _is_token(secret)}
    return unfit


def _ended(secrets: Iterable[SecretInput], end: datetime) -> list[SecretInput]:
    """What is valid before `end`, up to then; an end that is over takes all of them."""
    if end <= timezone.now():
        return []
    ended: list[SecretInput] = []
    for secret in secrets:
        starts_at, expires_at = secret["starts_at"], secret["expires_at"]
        if not (starts_at and starts_at >= end):
            ended.append({**secret, "expires_at": min(expires_at or end, end)})
    return ended


def _kept(secret: dict[str, Any]) -> SecretInput:
    starts_at, expires_at = (_instant(secret.get(name)) for name in ("starts_at", "expires_at"))
    return {"id": secret["id"], "starts_at": starts_at, "expires_at": expires_at}


def _is_token(secret: dict[str, Any]) -> bool:
    return secret.get("use", SIGNATURE) != SIGNATURE


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

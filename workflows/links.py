"""One-time links into a waiting run. A token can be computed before its step begins; only its hash is stored."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from automation_lab.core.safe_json import dump
from workflows.models import StepExecution, WaitToken, WorkflowExecution
from workflows.running.scope import Scope

KINDS = {"wait_for_webhook": WaitToken.Kind.WEBHOOK, "approval": WaitToken.Kind.APPROVAL}
ADDRESSES = {WaitToken.Kind.WEBHOOK: "/v1/callbacks/", WaitToken.Kind.APPROVAL: "/approve/"}
TOKEN = re.compile(r"wait_[A-Za-z0-9_-]{43}")
HIDDEN = "wait_***"


def token_for(execution_id: int, path: str, generation: int) -> str:
    """The token of one wait. Known to nobody without SECRET_KEY, and the same each time it is asked for."""
    digest = salted_hmac("workflows.links", f"{execution_id}/{generation}/{path}", algorithm="sha256").digest()
    return "wait_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def address(kind: str, token: str) -> str:
    return f"{settings.PUBLIC_URL}{ADDRESSES[WaitToken.Kind(kind)]}{token}"


def hide_tokens(value: Any) -> Any:
    """`value` without the tokens in its texts: who reads a run must not be able to answer for another."""
    if isinstance(value, str):
        return TOKEN.sub(HIDDEN, value) if "wait_" in value else value
    if isinstance(value, dict):
        return {key: hide_tokens(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_tokens(item) for item in value]
    return value


def contains_token(value: Any) -> bool:
    return bool(TOKEN.search(value if isinstance(value, str) else dump(value)))


class Callbacks(Mapping[str, str]):
    """`callbacks.<id>`: the address that answers a step of this sequence or of one around it.

    Looking one up has its token written, so an answer may come before the step waits for it.
    """

    def __init__(self, scope: Scope, issue: Callable[[dict[str, Any], str], str]) -> None:
        self._links = scope.links
        self._issue = issue

    def __getitem__(self, step_id: str) -> str:
        return self._issue(*self._links[step_id])

    def __contains__(self, step_id: object) -> bool:
        return step_id in self._links

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)


def register(step: StepExecution, *, expires_at: datetime) -> None:
    """Write the token of a step that begins to wait; if its link was given out before, it now ends with the wait."""
    token = token_for(step.execution_id, step.path, step.generation)
    values = {"kind": KINDS[step.type], "step": step, "expires_at": expires_at}
    WaitToken.objects.update_or_create(token_hash=token_hash(token), defaults=values)


def new_token(execution: WorkflowExecution, record: StepExecution, *, expires_at: datetime) -> tuple[WaitToken, str]:
    """The unwritten row of a step's link, and its address."""
    kind = KINDS[record.type]
    token = token_for(execution.pk, record.path, record.generation)
    return WaitToken(kind=kind, token_hash=token_hash(token), expires_at=expires_at), address(kind, token)

"""How one webhook looks in the list and on its page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from django.utils.html import format_html
from django.utils.safestring import SafeString

from automation_lab.core.admin import Panel, panel_of
from automation_lab.core.console import display as show
from automation_lab.core.redaction import redact_query
from inbox import subscriptions
from inbox.console import words
from inbox.console.json_paths import clickable_json, indented
from inbox.masking import mask_credentials
from inbox.models import PAYLOAD_REMOVED, Webhook
from inbox.receiving import handshakes
from inbox.verification import Verification

PANEL_ROWS = 20
PREVIEW_CHARACTERS = 4_000
NONE = SafeString('<span class="lab-none">-</span>')
"""Nothing, and on a small screen not even its row."""
WARNING_FLAGS = ("conflict", "maybe_incomplete")


def verification_label(verification: str) -> SafeString:
    """The result in a word or two, its meaning on hover."""
    known = verification in Verification.values
    tone = show.TONES.get(verification, "bad" if known and not Verification(verification).accepted else "quiet")
    label = show.label(words.label_of(verification), tone)
    return show.titled(label, words.reason_of(verification))


def verdict(webhook: Webhook) -> SafeString:
    """The result with its reason and what to do about it."""
    parts = [verification_label(webhook.verification), words.reason_of(webhook.verification)]
    if webhook.matched_secret:
        parts.append(format_html("Matched the secret {}.", show.mono(webhook.matched_secret)))
    advice = words.advice_of(webhook.verification)
    return show.lines([*parts, *([show.muted(advice)] if advice else [])])


def why_rejected(webhook: Webhook) -> SafeString:
    return show.lines([words.reason_of(webhook.verification), show.muted(words.advice_of(webhook.verification))])


def event(webhook: Webhook) -> SafeString:
    """The event type, with what is unusual: another method, a handshake, repetitions."""
    method = [] if webhook.method == "POST" else [show.tag(webhook.method)]
    handshake = [show.tag("handshake")] if "handshake" in webhook.flags else []
    repeats = [repetition(webhook)] if webhook.is_duplicate or webhook.duplicate_count else []
    return show.joined([*method, *handshake, show.clipped(webhook.event_type), *repeats])


def repetition(webhook: Webhook) -> Any:
    if webhook.is_duplicate:
        first = webhook.duplicate_of_id
        text = show.object_link("inbox.webhook", first, f"repeats #{first}") if first else "repeats a deleted one"
        return show.joined([text, show.label("other body", "warn")]) if "conflict" in webhook.flags else text
    if not webhook.duplicate_count:
        return NONE
    return show.muted(
        "repeated once" if webhook.duplicate_count == 1 else f"repeated {webhook.duplicate_count:,} times"
    )


def flags(webhook: Webhook) -> SafeString:
    return show.joined(
        show.label(flag.replace("_", " "), "warn") if flag in WARNING_FLAGS else show.tag(flag)
        for flag in webhook.flags
    )


def is_confirmable(webhook: Webhook) -> bool:
    """It asks for the confirmation of an SNS subscription, which nobody has given yet."""
    asks = isinstance(webhook.body, dict) and webhook.body.get("Type") == "SubscriptionConfirmation"
    return asks and handshakes.FLAG in webhook.flags and subscriptions.CONFIRMED not in webhook.flags


def request_target(webhook: Webhook) -> str:
    """Path and query as they were sent; credentials in the query are masked."""
    query = f"?{redact_query(webhook.query_string)}" if webhook.query_string else ""
    return (webhook.path + query)[:2000]


def headers(webhook: Webhook) -> SafeString:
    return show.pairs_table(mask_credentials(show.as_pairs(webhook.headers)))


def query(webhook: Webhook) -> SafeString:
    return show.pairs_table(redact_query(show.as_pairs(webhook.query_params)))


def body_views(webhook: Webhook, *, download_url: str) -> SafeString:
    raw = bytes(webhook.raw_body)
    if not raw:
        return _no_body(webhook)
    views = {"Raw": show.text_block(raw.decode("utf-8", "replace")), "Hex": show.hex_block(raw)}
    if webhook.body is not None:
        views = {"Pretty": clickable_json(raw.decode("utf-8-sig"), "body"), **views}
    return show.views(views, download_url=download_url)


def body_preview(webhook: Webhook) -> SafeString:
    text = bytes(webhook.raw_body[: PREVIEW_CHARACTERS * 4]).decode("utf-8", "replace")
    if webhook.body is not None and webhook.size_bytes <= PREVIEW_CHARACTERS:
        text = indented(text.removeprefix("\ufeff"), longest=PREVIEW_CHARACTERS)
    cut = len(text) > PREVIEW_CHARACTERS or webhook.size_bytes > PREVIEW_CHARACTERS * 4
    return show.text_block(text[:PREVIEW_CHARACTERS] + ("…" if cut else "")) if text else _no_body(webhook)


def _no_body(webhook: Webhook) -> SafeString:
    removed = PAYLOAD_REMOVED in webhook.flags
    return show.muted(
        "removed by the retention of its source; size and SHA-256 are of what came" if removed else "empty"
    )


# --- what it set off --------------------------------------------------------------------------------------------------


def workflow_runs(webhook: Any) -> Panel:
    """Through the relation's name: the inbox knows nothing of workflows."""
    panel = panel_of(
        "Workflow runs",
        ["Run", "Status", "Workflow", "Why", "Steps", "Duration", "Started", "Error"],
        webhook.workflow_executions.select_related("workflow").order_by("-id"),
        lambda run: [
            show.object_link("workflows.workflowexecution", run.pk, f"#{run.pk}"),
            show.state(run.status),
            show.object_link("workflows.workflow", run.workflow_id, run.workflow.name),
            show.label("edited body", "warn")
            if run.trigger_source == "replay_edited"
            else show.tag(run.trigger_source),
            f"{run.current_step} of {run.total_steps}",
            show.duration(run.duration_ms),
            show.when(run.started_at),
            show.shortened(run.error_message),
        ],
        limit=PANEL_ROWS,
        url=show.list_url("workflows.workflowexecution", webhook__id__exact=webhook.pk),
    )
    return replace(panel, empty=_why_nothing_ran(webhook))


def _why_nothing_ran(webhook: Webhook) -> str:
    if webhook.status == Webhook.Status.REJECTED:
        return "A rejected webhook starts nothing, unless it is verified again and accepted."
    if handshakes.FLAG in webhook.flags:
        return "A handshake starts nothing."
    if webhook.is_duplicate:
        return "A repetition starts nothing: see the first one."
    wanted = {"source": webhook.source} | ({"event_type": webhook.event_type} if webhook.event_type else {})
    return f"No workflow matched it. One with this trigger would: {orjson.dumps(wanted).decode()}"


def forwards(webhook: Webhook) -> Panel:
    return panel_of(
        "Sent to addresses",
        ["Forward", "Status", "To", "Body", "Tries", "Answer", "Duration", "When"],
        webhook.forwards.order_by("-id"),
        lambda forward: [
            show.object_link("inbox.forward", forward.pk, f"#{forward.pk}"),
            show.state(forward.status),
            show.shortened(forward.target),
            show.label(forward.mode, "warn") if forward.mode == forward.Mode.EDITED else show.tag(forward.mode),
            forward.attempt,
            answer_cell(forward.answer, forward.error_message),
            show.duration(forward.duration_ms),
            show.when(forward.created_at),
        ],
        limit=PANEL_ROWS,
        url=show.list_url("inbox.forward", webhook__id__exact=webhook.pk),
    )


def answer_cell(answer: Any, error: str) -> Any:
    """The status that was answered, the whole answer behind it; else why there is none."""
    if isinstance(answer, dict) and answer.get("status"):
        return show.folded(show.status_code(answer["status"]), show.json_view(answer))
    return show.shortened(error)


def repetitions(webhook: Webhook) -> Panel:
    return panel_of(
        "Repetitions",
        ["Webhook", "From", "Body", "Received"],
        webhook.duplicates.without_bodies().order_by("-id"),
        lambda repeat: [
            show.object_link("inbox.webhook", repeat.pk, f"#{repeat.pk}"),
            repeat.remote_addr or show.EMPTY,
            show.label("other body", "warn") if repeat.sha256 != webhook.sha256 else "the same",
            show.when(repeat.received_at),
        ],
        limit=PANEL_ROWS,
        url=show.list_url("inbox.webhook", is_duplicate="true", delivery_id=webhook.delivery_id),
    )

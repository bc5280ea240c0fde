"""Sending webhooks again from the console: one, with another body if wanted, or a selection whose count is shown first."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from automation_lab.core import audit
from automation_lab.core.admin import LabModelAdmin
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import add_errors
from automation_lab.core.console.pages import page, row_or_404
from automation_lab.core.exceptions import AutomationLabError, Invalid
from automation_lab.core.registry import replay_targets
from automation_lab.core.safe_json import parse_api_body
from inbox.console.listing import conditions_of
from inbox.models import Webhook
from inbox.receiving.handshakes import FLAG as HANDSHAKE
from inbox.replaying import replays
from inbox.replaying.models import FASTEST_RATE, SLOWEST_RATE
from inbox.searching import selection

TEMPLATE = "inbox/replay.html"
TARGETS = [
    ("workflows", "Matching workflows, as they are now"),
    ("workflow", "One workflow"),
    ("url", "An address"),
]
MOST_WORKFLOWS = 500
EDITABLE_BYTES = 65_536
MAX_EDITED_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Chosen:
    """The webhooks of a selection: all of them, and what some targets leave out."""

    ids: Sequence[int]
    rejected_count: int
    handshake_count: int
    repetition_count: int

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def is_too_many(self) -> bool:
        return self.count > replays.MOST_WEBHOOKS


class ReplayForm(forms.Form):
    target = forms.ChoiceField(label="To", choices=TARGETS, widget=forms.RadioSelect)
    workflow = forms.ChoiceField(label="Workflow", required=False, widget=UnfoldAdminSelectWidget)
    url = forms.CharField(
        label="Address",
        required=False,
        max_length=2048,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://example.com/hook", "spellcheck": "false"}),
        help_text="Private addresses need an entry in OUTBOUND_ALLOW.",
    )
    signing = forms.BooleanField(
        label="Sign anew with the source's own secret",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="An old signature is stale for a receiver that checks the time.",
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, *args: Any, offered: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [choice for choice in TARGETS if choice[0] in offered]
        self.fields["target"].choices = choices  # type: ignore[attr-defined]  # a choice field
        self.fields["target"].initial = choices[0][0] if choices else None
        self.fields["workflow"].choices = workflow_choices()  # type: ignore[attr-defined]
        self.fields["key"].initial = uuid.uuid4().hex

    def options(self) -> dict[str, Any]:
        """What the target needs. Raises Invalid."""
        data = self.cleaned_data
        if data["target"] == "workflow":
            if not data["workflow"]:
                raise Invalid("Choose a workflow.", field="workflow")
            return {"workflow": int(data["workflow"])}
        if data["target"] == "url":
            return {"url": data["url"].strip(), **({"signing": {"scheme": "source"}} if data["signing"] else {})}
        return {}


class SingleReplayForm(ReplayForm):
    """With another body, which is marked where it arrives."""

    edited = forms.BooleanField(label="Send another body", required=False, widget=UnfoldBooleanWidget)
    body = forms.CharField(
        label="Body",
        required=False,
        strip=False,
        max_length=MAX_EDITED_CHARACTERS,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "lab-json", "rows": 10, "spellcheck": "false"}),
        help_text="JSON for workflows, any text for an address. The run or request is marked as edited.",
    )

    def options(self) -> dict[str, Any]:
        options = super().options()
        if not self.cleaned_data["edited"]:
            return options
        # Browsers send every line break of a form as \r\n.
        text = self.cleaned_data["body"].replace("\r\n", "\r\n" if "\r\n" in self.initial["body"] else "\n")
        if self.cleaned_data["target"] == "url":
            return {**options, "body": text}
        try:
            return {**options, "body": parse_api_body(text.encode())}
        except Invalid as error:
            raise Invalid(error.message, field="body", code=error.code) from error


class BatchReplayForm(ReplayForm):
    rate_per_second = forms.FloatField(
        label="Webhooks a second",
        initial=replays.DEFAULT_RATE,
        min_value=SLOWEST_RATE,
        max_value=FASTEST_RATE,
        widget=UnfoldAdminDecimalFieldWidget,
    )
    count = forms.IntegerField(widget=forms.HiddenInput)


def workflow_choices() -> list[tuple[str, str]]:
    """Enabled workflows, through the relation's name: the inbox knows nothing of workflows."""
    runs: Any = Webhook._meta.get_field("workflow_executions").related_model
    workflows = runs._meta.get_field("workflow").related_model._default_manager.filter(enabled=True)
    found = workflows.order_by("name").values_list("pk", "name")[:MOST_WORKFLOWS]
    return [("", "Choose one"), *((str(pk), name) for pk, name in found)]


def offered_targets(request: HttpRequest) -> list[str]:
    """The targets for which the user has the permission."""
    return [
        name
        for name, _ in TARGETS
        if name in replay_targets and request.user.has_perm(replay_targets.get(name).permission)
    ]


class ReplayPages(LabModelAdmin):
    """The pages of the admin of webhooks on which replays are ordered."""

    def has_replay_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(offered_targets(request))

    def replay_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET shows the form, POST sends the webhook again."""
        offered = offered_targets(request)
        if not offered or not self.has_view_permission(request):
            raise PermissionDenied
        webhook = row_or_404(self, request, object_id)
        form = SingleReplayForm(request.POST or None, offered=offered, initial=_initial(request, webhook))
        if request.method == "POST" and form.is_valid():
            try:
                return self._replay_one(request, webhook, form)
            except AutomationLabError as error:
                refuse(form, error)
        title = f"Replay webhook #{webhook.pk}"
        return page(self, request, TEMPLATE, title=title, row=webhook, form=form, media=self.media)

    def _replay_one(self, request: HttpRequest, webhook: Webhook, form: SingleReplayForm) -> HttpResponse:
        with transaction.atomic():
            replay = replays.replay_webhook(
                webhook=webhook,
                target=form.cleaned_data["target"],
                options=form.options(),
                created_by=request.user.get_username(),
                idempotency_key=f"console:{form.cleaned_data['key']}",
            )
            audit.record(request.user, replay, audit.ADDITION, "Ordered.")
        self.message_user(request, f"Sent again: replay #{replay.pk}.", messages.SUCCESS)
        return HttpResponseRedirect(self.page_of(webhook))

    def replay_batch(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> HttpResponse | None:
        """The page that counts a selection, and, posted from there, the order."""
        offered, chosen = offered_targets(request), choose(_replayable(request, queryset))
        if not chosen.count or chosen.is_too_many:
            self._refuse_selection(request, chosen)
            return None
        is_order = "ordered" in request.POST
        form = BatchReplayForm(request.POST if is_order else None, offered=offered, initial={"count": chosen.count})
        if is_order and form.is_valid():
            if form.cleaned_data["count"] == chosen.count:
                try:
                    return self._replay_all(request, chosen, form)
                except AutomationLabError as error:
                    refuse(form, error)
            else:
                form.add_error(None, "The selection has changed meanwhile: look at the number again.")
                form.data = {**form.data.dict(), "count": chosen.count}  # type: ignore[attr-defined]  # of a request
        context = {"chosen": chosen, "form": form, "media": self.media, **_selection(request)}
        return page(self, request, TEMPLATE, title="Replay webhooks", **context)

    def _refuse_selection(self, request: HttpRequest, chosen: Chosen) -> None:
        try:
            replays.check_count(chosen.count)
        except Invalid as error:
            self.message_user(request, error.message, messages.ERROR)

    def _replay_all(self, request: HttpRequest, chosen: Chosen, form: BatchReplayForm) -> HttpResponse:
        target = form.cleaned_data["target"]
        ids = chosen.ids if target == "url" else _starting(chosen.ids)
        query = request.GET.urlencode()
        with transaction.atomic():
            replay = replays.replay_webhooks(
                webhook_ids=ids,
                filters={"console": query} if takes_all(request) else {"ids": list(ids)},
                target=target,
                options=form.options(),
                rate_per_second=form.cleaned_data["rate_per_second"],
                created_by=request.user.get_username(),
                idempotency_key=f"console:{form.cleaned_data['key']}",
            )
            audit.record(request.user, replay, audit.ADDITION, "Ordered.")
        self.message_user(request, f"Ordered: {replay.total_count:,} webhooks are sent again.", messages.SUCCESS)
        return HttpResponseRedirect(show.object_url("inbox.replay", replay.pk))


def refuse(form: ReplayForm, error: AutomationLabError) -> None:
    """Show the fault, with a new key: what is sent next is another order, even if the browser went back in between."""
    add_errors(form, error)
    form.data = {**form.data.dict(), "key": uuid.uuid4().hex}  # type: ignore[attr-defined]  # of a request


def choose(queryset: QuerySet[Webhook]) -> Chosen:
    """The ids of a selection, one more than may be replayed at most."""
    ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: replays.MOST_WEBHOOKS + 1])
    counts = Webhook.objects.filter(pk__in=ids).aggregate(
        rejected=Count("pk", filter=Q(status=Webhook.Status.REJECTED)),
        handshakes=Count("pk", filter=Q(flags__contains=[HANDSHAKE])),
        repetitions=Count("pk", filter=Q(is_duplicate=True)),
    )
    return Chosen(ids, counts["rejected"], counts["handshakes"], counts["repetitions"])


def _replayable(request: HttpRequest, queryset: QuerySet[Webhook]) -> QuerySet[Webhook]:
    """Rows that were ticked are taken as they are; what a filter finds, as the API takes it."""
    return selection.for_replay(queryset, conditions_of(request.GET)) if takes_all(request) else queryset


def takes_all(request: HttpRequest) -> bool:
    """Everything that the filter finds is chosen, on other pages of the list, too."""
    return request.POST.get("select_across") == "1"


def _starting(ids: Sequence[int]) -> list[int]:
    """Without those that start no workflow: nobody knows who has sent a rejected one, and a handshake tells of nothing."""
    kept = Webhook.objects.filter(pk__in=ids).exclude(status=Webhook.Status.REJECTED)
    kept = kept.exclude(flags__contains=[HANDSHAKE])
    return list(kept.order_by("pk").values_list("pk", flat=True))


def _selection(request: HttpRequest) -> dict[str, Any]:
    """What the second step has to repeat of the first."""
    return {
        "action": request.POST.get("action", ""),
        "select_across": request.POST.get("select_across", "0"),
        "takes_all": takes_all(request),
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
    }


def _initial(request: HttpRequest, webhook: Webhook) -> dict[str, Any]:
    wanted = {name: request.GET[name] for name in ("target", "workflow") if name in request.GET}
    return {**wanted, "body": editable_text(webhook)}


def editable_text(webhook: Webhook) -> str:
    """The body as it may be edited: text of a size that a form can hold, as it came, else nothing."""
    raw = bytes(webhook.raw_body)
    if len(raw) > EDITABLE_BYTES or b"\x00" in raw:
        return ""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""

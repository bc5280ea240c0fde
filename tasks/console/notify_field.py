"""Which channels are told about which events, as boxes to tick."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import F

from tasks.models import NotificationChannel
from tasks.notifying.notifications import EVENTS

EXPLANATIONS = {
    "failure": "A run failed or took too long",
    "recovery": "It works again after failures",
    "skipped": "A run was skipped or missed",
    "paused": "It was paused automatically",
}
Notify = dict[str, list[str]]


class NotifyWidget(forms.Widget):
    """One row an event, one box a channel. Channels that are gone stay visible as long as they are chosen."""

    template_name = "automation_lab/widgets/notify.html"

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        chosen = value if isinstance(value, dict) else {}
        channels = list(NotificationChannel.objects.order_by("name").values("name", "kind", off=~F("enabled")))
        known = {channel["name"] for channel in channels}
        gone = sorted({channel for names in chosen.values() for channel in names} - known)
        rows = [*channels, *({"name": channel, "kind": "gone", "off": False} for channel in gone)]
        context["widget"]["events"] = [
            {
                "key": event,
                "title": EXPLANATIONS[event],
                "channels": [{**row, "chosen": row["name"] in chosen.get(event, [])} for row in rows],
            }
            for event in EVENTS
        ]
        context["widget"]["has_channels"] = bool(rows)
        return context

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Notify:
        chosen = {event: data.getlist(f"{name}-{event}") for event in EVENTS}
        return {event: names for event, names in chosen.items() if names}

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False  # nothing ticked sends nothing

    def id_for_label(self, id_: str) -> str:
        return ""


class NotifyField(forms.Field):
    widget = NotifyWidget

    def clean(self, value: Any) -> Notify:
        return dict(value or {})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return _sorted(initial) != _sorted(data)


def _sorted(notify: Any) -> Notify:
    return {event: sorted(names) for event, names in (notify or {}).items() if names}

"""What a message looks like on each kind of channel. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.models import NotificationChannel

Kind = NotificationChannel.Kind
MARKS = {"failure": "❌", "recovery": "✅", "skipped": "⏭️", "paused": "⏸️", "test": "🔔", "info": "i", "warning": "⚠️"}
MAX_TEXT_CHARACTERS = 1_500


@dataclass(frozen=True)
class Message:
    """What happened, to what, since when, and where to look. `count` is how often since the last message."""

    event: str
    title: str
    text: str
    url: str = ""
    count: int = 1
    since: str = ""

    @property
    def headline(self) -> str:
        """One line, whatever the name of a task holds: it is the subject of mails."""
        return " ".join(f"{MARKS.get(self.event, '')} {self.title}".split())

    @property
    def body(self) -> str:
        lines = [self.text[:MAX_TEXT_CHARACTERS]]
        if self.count > 1:
            lines.append(f"This happened {self.count} times since {self.since}.")
        elif self.since:
            lines.append(f"At {self.since}.")
        if self.url:
            lines.append(self.url)
        return "\n".join(line for line in lines if line)


def payload(kind: str, message: Message) -> dict[str, Any]:
    """The JSON that the incoming webhook of `kind` takes.

    Source: Slack "Sending messages using incoming webhooks"; Discord "Execute Webhook"; Microsoft Teams "Create
    incoming webhooks with Workflows" (an Adaptive Card as attachment).
    """
    if kind == Kind.SLACK:
        return {"text": f"*{_slack_escaped(message.headline)}*\n{_slack_escaped(message.body)}"}
    if kind == Kind.DISCORD:
        content = f"**{message.headline}**\n{message.body}"
        return {"content": content[:2000], "allowed_mentions": {"parse": []}}
    if kind == Kind.TEAMS:
        return {"type": "message", "attachments": [_adaptive_card(message)]}
    return {
        "type": f"automation_lab.{message.event}",
        "data": {
            "title": message.title,
            "text": message.text,
            "count": message.count,
            "since": message.since,
            "url": message.url,
        },
    }


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _adaptive_card(message: Message) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": message.headline, "weight": "Bolder", "wrap": True},
        {"type": "TextBlock", "text": message.body, "wrap": True},
    ]
    return {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": blocks,
        },
    }

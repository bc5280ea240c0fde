"""What the page of a source shows above its form: address, how it is checked, its secrets, limits, and the last week."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from automation_lab.core.admin import Panel, origin_of
from automation_lab.core.console import display as show
from inbox.console import columns, words
from inbox.models import RateWindow, Source, Webhook
from inbox.receiving.limits import source_key
from inbox.secrets import SIGNATURE
from inbox.verification.schemes import checks_of

DAYS = 7
COUNTED = 20_000
"""So many of the newest are counted for the chart: more would cost more than the rest of the page."""
DOTS = 20
LATEST_ROWS = 8
LOOKED_AT = 1_000
KINDS = ("accepted", "repetition", "rejected")
_PER_DAY = f"""
    SELECT (received_at AT TIME ZONE 'UTC')::date AS day,
        CASE WHEN status = 'rejected' THEN 'rejected' WHEN is_duplicate THEN 'repetition' ELSE 'accepted' END AS kind,
        count(*)
    FROM (
        SELECT received_at, status, is_duplicate FROM {Webhook._meta.db_table}
        WHERE source = %s ORDER BY id DESC LIMIT {COUNTED}
    ) AS newest
    WHERE received_at >= %s
    GROUP BY day, kind
"""  # noqa: S608 - the name of our own table and a number


def receiving_url(source: Source) -> str:
    return f"{origin_of(source)}/v1/webhooks/inbox/{source.name}"


def panels(source: Source) -> list[Panel]:
    now = timezone.now()
    latest = list(Webhook.objects.filter(source=source.name).without_bodies().order_by("-id")[:DOTS])
    return [
        Panel("Receiving", body=_receiving(source, now)),
        Panel("The last 7 days", body=_history(source, latest, now)),
        Panel(
            "Latest webhooks",
            ["Webhook", "Status", "Event", "Verification", "Size", "From", "Received"],
            [_row(webhook) for webhook in latest[:LATEST_ROWS]],
            show.list_url("inbox.webhook", source=source.name) if len(latest) > LATEST_ROWS else "",
            empty="Nothing yet. Send the command of “Signed test” above to see the first one here.",
        ),
    ]


def _row(webhook: Webhook) -> list[Any]:
    return [
        show.object_link("inbox.webhook", webhook.pk, f"#{webhook.pk}"),
        show.state(webhook.status),
        columns.event(webhook),
        columns.verification_label(webhook.verification),
        show.size(webhook.size_bytes),
        webhook.remote_addr or show.EMPTY,
        show.when(webhook.received_at),
    ]


# --- how it receives --------------------------------------------------------------------------------------------------


def _receiving(source: Source, now: datetime) -> SafeString:
    shown = {
        "address": show.text_block(receiving_url(source)),
        "state": state_label(source),
        "scheme": words.scheme_name(source.scheme),
        "lines": words.scheme_lines(source.scheme, source.scheme_settings),
        "secrets": _secrets(source, now),
        "limits": _limits(source),
        "dedupe": words.dedupe_sentence(source.dedupe),
        "retention": words.retention_sentence(source.retention, settings.RETENTION_WEBHOOKS_DAYS),
        "addresses": source.allowed_addresses,
        "is_unconfirmed": source.is_open and not source.open_confirmed,
        "has_unknown_address": _signs_unknown_address(source),
        "has_default_answer": not source.response,
    }
    return SafeString(render_to_string("inbox/source_receiving.html", shown))


def _signs_unknown_address(source: Source) -> bool:
    """Whether its sender signs the address that it calls, which this lab does not know: nothing can be verified."""
    checks = checks_of(source.scheme, source.scheme_settings)
    is_known = settings.PUBLIC_URL or source.scheme_settings.get("url")
    return not is_known and bool(checks) and all(check.signs_url for check in checks)


def state_label(source: Source) -> SafeString:
    """Whether it takes requests, and whether it knows from whom."""
    if not source.enabled:
        return show.label("switched off", "quiet")
    if not source.is_open:
        return show.label("checked", "good")
    return show.label("open, confirmed", "calm") if source.open_confirmed else show.label("open", "warn")


@dataclass(frozen=True)
class SecretLine:
    """One secret of a source, of which only the ending is known here."""

    ending: str
    state: SafeString
    details: Sequence[Any]


def _secrets(source: Source, now: datetime) -> list[SecretLine]:
    matched = _last_matches(source)
    return [_secret_line(secret, matched.get(secret.get("id", "")), now) for secret in source.secrets]


def _secret_line(secret: dict[str, Any], matched_at: datetime | None, now: datetime) -> SecretLine:
    starts_at, expires_at, set_at = (_instant(secret.get(name)) for name in ("starts_at", "expires_at", "set_at"))
    details: list[Any] = []
    if secret.get("use", SIGNATURE) != SIGNATURE:
        details.append("for the handshake only")
    if set_at:
        details.append(f"set {words.ago(now - set_at)}")
    if starts_at and starts_at > now:
        details.append(show.joined(["valid from", show.when_both(starts_at)]))
    if expires_at:
        details.append(show.joined(["valid until" if expires_at > now else "expired", show.when(expires_at)]))
    if matched_at:
        details.append(show.joined(["last matched", show.when(matched_at)]))
    ending = f"…{secret['last4']}" if secret.get("last4") else secret.get("id") or "hidden"
    return SecretLine(ending, _secret_state(starts_at, expires_at, now), details)


def _secret_state(starts_at: datetime | None, expires_at: datetime | None, now: datetime) -> SafeString:
    if starts_at and starts_at > now:
        return show.label("later", "quiet")
    if expires_at and expires_at <= now:
        return show.label("expired", "quiet")
    return show.label("ends soon", "warn") if expires_at else show.label("valid", "good")


def _last_matches(source: Source) -> dict[str, datetime]:
    """When each secret last verified something, among the newest webhooks: an old one without a match can go."""
    if not source.secrets:
        return {}
    newest = Webhook.objects.filter(source=source.name).order_by("-id").values("pk")[:LOOKED_AT]
    found = Webhook.objects.filter(pk__in=newest).exclude(matched_secret="").order_by()
    return dict(found.values_list("matched_secret").annotate(last=Max("received_at")))


def _limits(source: Source) -> list[Any]:
    rate = source.rate_limit or settings.INBOX_RATE_LIMIT
    count, _, period = rate.partition("/")
    article = "an" if period == "hour" else "a"
    lines: list[Any] = [f"At most {int(count):,} {article} {period}." if period else "No limit on requests."]
    largest = source.max_body_bytes or settings.INBOX_MAX_BODY_BYTES
    lines.append(f"Bodies up to {show.size(largest)}.")
    window = RateWindow.objects.filter(key=source_key(source.name)).first()
    if window:
        passed = f"{window.count:,} of {window.max_count:,} within {words.span(window.period_seconds)}, counted"
        lines.append(show.joined([passed, show.when(window.window_at)]))
    if window and window.refused_count:
        lines.append(
            show.joined([f"{window.refused_count:,} refused as too many, the last", show.when(window.refused_at)])
        )
    return lines


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# --- what came --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """The webhooks of one day by kind; `shares` are their parts of the highest day, in percent."""

    day: date
    counts: dict[str, int]
    highest: int

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def bars(self) -> list[tuple[str, int, float]]:
        shown = [(kind, self.counts.get(kind, 0)) for kind in KINDS]
        return [(kind, number, round(100 * number / self.highest, 2)) for kind, number in shown if number]

    @property
    def numbers(self) -> list[int]:
        return [self.counts.get(kind, 0) for kind in KINDS]


def _history(source: Source, latest: Iterable[Webhook], now: datetime) -> SafeString:
    days = last_days(source, now)
    shown = {
        "days": days,
        "kinds": KINDS,
        "is_empty": not any(day.total for day in days),
        "is_capped": sum(day.total for day in days) >= COUNTED,
        "counted": COUNTED,
        "dots": [_dot(webhook) for webhook in latest],
    }
    return SafeString(render_to_string("inbox/source_history.html", shown))


def last_days(source: Source, now: datetime) -> list[Day]:
    today = now.astimezone(timezone.get_default_timezone()).date()
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    counts: dict[date, dict[str, int]] = {day: {} for day in days}
    with connection.cursor() as cursor:
        cursor.execute(_PER_DAY, [source.name, f"{days[0]:%F} 00:00+00"])
        for day, kind, number in cursor.fetchall():
            counts.setdefault(day, {})[kind] = number
    highest = max((sum(counts[day].values()) for day in days), default=0) or 1
    return [Day(day, counts[day], highest) for day in days]


def _dot(webhook: Webhook) -> dict[str, Any]:
    word = "repetition" if webhook.is_duplicate else webhook.status
    return {
        "url": show.object_url("inbox.webhook", webhook.pk),
        "tone": show.tone(word),
        "title": f"#{webhook.pk} {webhook.event_type[:60]}: {word}, {show.relative(webhook.received_at, timezone.now())}",
    }

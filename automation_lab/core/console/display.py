"""How values look in the console: times, durations, sizes, states, JSON, text and bytes. Pure; everything is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from automation_lab.core import curl

EMPTY = SafeString("-")
NO_BREAK = "\u00a0"
MAX_TEXT_CHARACTERS = 65_536
MAX_HEX_BYTES = 16_384

TONES = {
    "success": "good",
    "processed": "good",
    "verified": "good",
    "succeeded": "good",
    "received": "calm",
    "running": "calm",
    "doing": "calm",
    "pending": "quiet",
    "todo": "quiet",
    "not_configured": "quiet",
    "waiting": "warn",
    "skipped": "warn",
    "missed": "warn",
    "interrupted": "warn",
    "warning": "warn",
    "rejected": "bad",
    "failed": "bad",
    "timeout": "bad",
    "lost": "bad",
    "error": "bad",
    "aborted": "bad",
}
"""The colour of a state; other words are quiet. The word always stands beside the colour."""


def state(value: str, word: str = "") -> SafeString:
    """A state as a coloured label with its word."""
    if not value:
        return EMPTY
    return label(word or value.replace("_", " "), tone(value))


def tone(value: str) -> str:
    """The colour of a state."""
    return TONES.get(value, "quiet")


def label(word: str, tone: str) -> SafeString:
    return format_html('<span class="lab-state lab-{}">{}</span>', tone, word)


def tag(word: str) -> SafeString:
    """A kind, such as a type: a label without a colour of its own."""
    return format_html('<span class="lab-tag">{}</span>', word.replace("_", " "))


def status_code(code: int | None) -> SafeString:
    """An HTTP status in the colour of its class."""
    if not code:
        return EMPTY
    return label(str(code), {2: "good", 3: "calm", 4: "warn"}.get(code // 100, "bad"))


def when(instant: datetime | None, *, now: datetime | None = None) -> SafeString:
    """`3 minutes ago`, with the instant and its zone on hover and for machines; a row's own page shows both."""
    if instant is None:
        return EMPTY
    local = timezone.localtime(instant)
    return format_html(
        '<time class="lab-when" datetime="{}" title="{}"><span class="lab-instant">{}</span><span>{}</span></time>',
        instant.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z}",
        f"{local:%Y-%m-%d %H:%M:%S %Z}",
        relative(instant, now or timezone.now()),
    )


def when_both(instant: datetime | None, *, zone: tzinfo | None = None, now: datetime | None = None) -> SafeString:
    """`in 3 min` and below it the instant in `zone`, for what is to come."""
    if instant is None:
        return EMPTY
    return format_html(
        '<time class="lab-both" datetime="{}"><span>{}</span><span class="lab-muted">{}</span></time>',
        instant.isoformat(),
        relative(instant, now or timezone.now()),
        f"{timezone.localtime(instant, zone):%Y-%m-%d %H:%M:%S %Z}",
    )


def clock(instant: datetime) -> SafeString:
    """The time of day to the millisecond, for lines that follow each other; the whole instant on hover."""
    local = timezone.localtime(instant)
    text = f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"
    shown = f"{local:%Y-%m-%d} {text} {local:%Z}"
    return format_html('<time class="lab-mono" datetime="{}" title="{}">{}</time>', instant.isoformat(), shown, text)


def relative(instant: datetime, now: datetime) -> str:
    seconds = (now - instant).total_seconds()
    text = _span(abs(seconds))
    if text == "now":
        return "just now"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return "now"
    for unit, length, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86_400)):
        if seconds < limit:
            return f"{int(seconds // length)} {unit}"
    days = int(seconds // 86_400)
    return f"{days} day{'s' if days != 1 else ''}"


def duration(milliseconds: float | None) -> str:
    """`340 ms`, `1.2 s`, `2 min 5 s`, `3 h 4 min`, `2 d 3 h`, in one piece."""
    return EMPTY if milliseconds is None else _duration(milliseconds).replace(" ", NO_BREAK)


def _duration(milliseconds: float) -> str:
    if milliseconds < 10:
        return f"{milliseconds:.3g} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    seconds = round(milliseconds / 1000)
    for length, unit, part, part_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= length:
            rest = seconds % length // part
            return f"{seconds // length} {unit}" + (f" {rest} {part_unit}" if rest else "")
    return f"{seconds} s"


def size(number_of_bytes: int | None) -> str:
    """`412 B`, `7.1 kB`, `1.0 MB` (powers of 1,000)."""
    if number_of_bytes is None:
        return EMPTY
    if number_of_bytes < 1000:
        return f"{number_of_bytes}{NO_BREAK}B"
    if number_of_bytes < 999_950:
        return f"{number_of_bytes / 1000:.1f}{NO_BREAK}kB"
    return f"{number_of_bytes / 1_000_000:.1f}{NO_BREAK}MB"


def link(url: str, text: Any) -> SafeString:
    return format_html('<a href="{}" class="lab-link">{}</a>', url, text)


def object_url(label: str, pk: Any) -> str:
    """The console address of the row `pk` of the model `app.model`."""
    return reverse(f"admin:{label.lower().replace('.', '_')}_change", args=[pk])


def list_url(label: str, **filters: Any) -> str:
    """The console list of the model `app.model` with `filters` set."""
    url = reverse(f"admin:{label.lower().replace('.', '_')}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url


def object_link(label: str, pk: Any, text: Any) -> SafeString:
    return link(object_url(label, pk), text) if pk is not None else EMPTY


def trace_link(correlation_id: str) -> SafeString:
    """The page of everything that happened under one correlation id."""
    if not correlation_id:
        return EMPTY
    return link(reverse("admin:trace", args=[correlation_id]), correlation_id)


def pretty_json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):  # integers beyond 64 bits, depth beyond 254
        pass
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "Nested too deeply to be shown here."


def json_block(value: Any) -> SafeString:
    """JSON, indented, scrollable, with a button to copy it."""
    if value is None or value == {} or value == []:
        return EMPTY
    return text_block(pretty_json(value))


def text_block(text: str | None) -> SafeString:
    """Text as it is, scrollable, its first 64 K characters, with a button to copy it."""
    if not text:
        return EMPTY
    note = ""
    if len(text) > MAX_TEXT_CHARACTERS:
        note = f"The first {MAX_TEXT_CHARACTERS:,} of {len(text):,} characters."
    return format_html(
        '<div class="lab-code"><button type="button" class="lab-copy" data-copy>Copy</button><pre tabindex="0">{}</pre>{}</div>',
        text[:MAX_TEXT_CHARACTERS],
        format_html('<p class="lab-note">{}</p>', note) if note else "",
    )


def json_view(value: Any) -> SafeString:
    """Like json_block, but also for what counts as empty elsewhere: a body of `{}` was sent."""
    return text_block(pretty_json(value))


def stored_text(text: str) -> SafeString:
    """Text that is indented when it is JSON."""
    try:
        return json_view(orjson.loads(text))
    except orjson.JSONDecodeError:
        return text_block(text)


def views(blocks: Mapping[str, SafeString], *, download_url: str = "") -> SafeString:
    """Several ways to look at one thing, with a button for each (Alpine) and a link to the thing itself."""
    first = next(iter(blocks))
    buttons = format_html_join(
        "",
        """<button type="button" x-on:click="view = '{0}'" x-bind:aria-pressed="view === '{0}'">{0}</button>""",
        ((name,) for name in blocks),
    )
    link_ = format_html('<a href="{}" download>Download</a>', download_url) if download_url else ""
    shown = format_html_join("", """<div x-show="view === '{}'">{}</div>""", blocks.items())
    return format_html(
        """<div class="lab-views" x-data="{{view: '{}'}}"><div class="lab-tabs">{}{}</div>{}</div>""",
        first,
        buttons,
        link_,
        shown,
    )


def origin(request: HttpRequest) -> str:
    """Where this installation is reached, such as https://lab.example.com."""
    return settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")


def first_command(origin: str) -> str:
    """A command that sends a first webhook."""
    headers = [["Content-Type", "application/json"]]
    return curl.command(
        "POST", f"{origin}/v1/webhooks/inbox/hello?event_type=greeting", headers, text='{"hello": "lab"}'
    )


def hex_block(data: bytes) -> SafeString:
    """Offset, sixteen bytes and their printable characters a line, of the first 16 KiB."""
    if not data:
        return EMPTY
    shown = data[:MAX_HEX_BYTES]
    dump = "\n".join(_hex_line(shown, offset) for offset in range(0, len(shown), 16))
    note = f"The first {len(shown):,} of {len(data):,} bytes." if len(data) > len(shown) else ""
    return format_html(
        '<div class="lab-code"><pre tabindex="0">{}</pre>{}</div>',
        dump,
        format_html('<p class="lab-note">{}</p>', note) if note else "",
    )


def _hex_line(data: bytes, offset: int) -> str:
    row = data[offset : offset + 16]
    printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"{offset:06x}  {row.hex(' ', 1):<47}  {printable}"


def pairs_table(pairs: Iterable[Sequence[Any]]) -> SafeString:
    """Names and values, such as headers, in the order given."""
    rows = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td></tr>', ((pair[0], pair[1]) for pair in pairs))
    if not rows:
        return EMPTY
    return format_html('<div class="lab-scroll"><table class="lab-pairs"><tbody>{}</tbody></table></div>', rows)


def as_pairs(value: Any) -> list[list[Any]]:
    """Pairs from a list of pairs or a mapping; anything else that was stored gives none."""
    items = value.items() if isinstance(value, dict) else value or []
    return [list(item) for item in items if isinstance(item, list | tuple) and len(item) == 2]


def mono(text: Any) -> SafeString:
    return format_html('<span class="lab-mono">{}</span>', text)


def muted(text: Any) -> SafeString:
    return format_html('<span class="lab-muted">{}</span>', text)


def preformatted(text: str) -> SafeString:
    return format_html('<span class="lab-mono lab-lines">{}</span>', text[:MAX_TEXT_CHARACTERS])


def folded(title: str, content: Any) -> SafeString:
    """Something long behind its title."""
    return format_html("<details><summary>{}</summary>{}</details>", title, content)


def joined(parts: Iterable[Any]) -> SafeString:
    return format_html_join(" ", "{}", ((part,) for part in parts)) or EMPTY


def lines(parts: Iterable[Any]) -> SafeString:
    """One below the other."""
    return format_html(
        '<ul class="lab-plain">{}</ul>', format_html_join("", "<li>{}</li>", ((part,) for part in parts))
    )


def two_lines(first: Any, second: Any) -> SafeString:
    """The second one muted."""
    return format_html('<span class="lab-two"><span>{}</span><span class="lab-muted">{}</span></span>', first, second)


def titled(content: Any, title: str) -> SafeString:
    """`content` with a text on hover."""
    return format_html('<span title="{}">{}</span>', title, content) if title else conditional_escape(content)


def indented(content: Any, depth: int) -> SafeString:
    return format_html('<span class="lab-indent" style="--depth: {}">{}</span>', depth, content)


def paragraph(content: Any) -> SafeString:
    return format_html('<p class="lab-more">{}</p>', content)


def results(successes: int, failures: int) -> SafeString:
    """`12 ok · 1 failed`, the failures in colour."""
    if not successes and not failures:
        return EMPTY
    bad = format_html(' · <span class="lab-failures">{} failed</span>', failures) if failures else ""
    return format_html('<span class="lab-numbers">{} ok{}</span>', successes, bad)


def shortened(text: str, length: int = 80) -> SafeString:
    """`text` cut to `length`, whole on hover."""
    if not text:
        return EMPTY
    if len(text) <= length:
        return conditional_escape(text)
    return format_html('<span title="{}">{}…</span>', text[:2000], text[: length - 1])


def clipped(text: str) -> SafeString:
    """`text` on one line, cut by its column in lists, whole on hover."""
    return format_html('<span class="lab-clip" title="{}">{}</span>', text[:2000], text) if text else EMPTY

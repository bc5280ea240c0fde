"""The rules of a source's fields: used by the model, and through it by the API, the console and the services."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from typing import Any

from django.core.exceptions import ValidationError

from inbox.presets import PRESETS
from inbox.verification.configuration import settings_faults

MAX_RESPONSE_CHARACTERS = 10_000
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
# Nothing that sets cookies, redirects, or is an order to a proxy in front.
RESPONSE_HEADERS = ("cache-control", "content-language", "content-type", "retry-after")
RESPONSE_TYPES = ("application/json", "text/plain")

DEDUPE_SETTINGS: dict[str, tuple[str, ...]] = {
    "delivery_id": (),
    "json_path": ("path",),
    "body_hash": ("window_seconds",),
    "none": (),
}
MAX_DEDUPE_WINDOW_SECONDS = 7 * 86_400
MAX_NETWORKS = 200
MAX_PLACES = 10

_PLACE = re.compile(r"(?:header|form|query):[^\s+:\x00]{1,100}|body:[^\s+:\x00\[\]]{1,100}")
_JSON_PATH = re.compile(r"body(?:\.[^.\s+\x00\[\]]{1,100}){1,20}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_RESERVED_NAMES = ("export",)
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_METHOD = re.compile(r"[A-Z]{1,16}")
_VISIBLE = re.compile(r"[ -~]{0,200}")
_RETENTION = {"days": 36_500, "payload_days": 36_500, "count": 10**9, "bytes": 10**15}


def is_source_name(name: str) -> bool:
    """Digits alone are the id of a webhook."""
    return _NAME.fullmatch(name) is not None and not name.isdecimal() and name not in _RESERVED_NAMES


def validate_source_name(value: str) -> None:
    if not is_source_name(value):
        raise ValidationError(
            "A name has 1 to 64 lower-case letters, digits, - and _, starts with a letter or digit, is not only digits "
            "and not one of the reserved names (export).",
            code="invalid_name",
        )


def validate_scheme(value: str) -> None:
    if value not in PRESETS:
        raise ValidationError(f"Unknown scheme. Known are {', '.join(PRESETS)}.", code="unknown_scheme")


def validate_scheme_settings(scheme: str, options: dict[str, Any]) -> None:
    if scheme in PRESETS and (faults := settings_faults(scheme, options)):
        raise ValidationError({"scheme_settings": ValidationError(" ".join(faults), code="invalid_settings")})


def parse_rate(text: str) -> tuple[int, int] | None:
    """`600/minute` as (600, 60 seconds); None for `0`, which means no limit. Raises ValueError."""
    if text == "0":
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"A rate is written like 600/minute (or per {', '.join(PERIODS)}), or 0 for none.")
    return int(match[1]), PERIODS[match[2]]


def validate_rate_limit(value: str) -> None:
    try:
        parse_rate(value)
    except ValueError as exc:
        raise ValidationError(str(exc), code="invalid_rate") from exc


def validate_methods(value: list[str]) -> None:
    if not value or not all(_METHOD.fullmatch(method) for method in value) or len(value) > 20:
        raise ValidationError("Name at least one method, in upper case, such as POST.", code="invalid_method")


def validate_object(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValidationError("This is an object, such as {}.", code="not_an_object")


def validate_networks(value: list[str]) -> None:
    if len(value) > MAX_NETWORKS:
        raise ValidationError(f"At most {MAX_NETWORKS} networks.", code="too_many")
    if any("%" in text for text in value):
        raise ValidationError("Write addresses without a zone such as %eth0.", code="invalid_network")
    for text in value:
        try:
            ip_network(text, strict=False)
        except ValueError as exc:
            raise ValidationError(
                "Write addresses or networks, such as 192.0.2.7, 203.0.113.0/24 or 2001:db8::/32.",
                code="invalid_network",
            ) from exc


def validate_places(value: list[str]) -> None:
    if len(value) > MAX_PLACES:
        raise ValidationError(f"At most {MAX_PLACES} places.", code="too_many")
    if not all(_PLACE.fullmatch(part) for place in value for part in place.split("+")):
        raise ValidationError(
            "A place is header:NAME, body:dotted.path, form:FIELD or query:NAME; joined with +, several make one value.",
            code="invalid_place",
        )


def validate_dedupe(value: Any) -> None:
    """Such as {"by": "body_hash", "window_seconds": 300}; each way has its own setting and no other."""
    by = value.get("by") if isinstance(value, dict) else None
    if by not in DEDUPE_SETTINGS:
        raise ValidationError(f"by is one of {', '.join(DEDUPE_SETTINGS)}.", code="invalid_dedupe")
    wanted = DEDUPE_SETTINGS[by]
    if set(value) != {"by", *wanted}:
        raise ValidationError(f"With {by}, give {' and '.join(wanted) or 'nothing else'}.", code="invalid_dedupe")
    window, path = value.get("window_seconds", 1), value.get("path", "body.id")
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= MAX_DEDUPE_WINDOW_SECONDS:
        raise ValidationError(
            f"window_seconds is a whole number from 1 to {MAX_DEDUPE_WINDOW_SECONDS}.", code="invalid_window"
        )
    if not isinstance(path, str) or not _JSON_PATH.fullmatch(path):
        raise ValidationError("path is written like body.orders.0.id: a number picks from a list.", code="invalid_path")


def validate_retention(value: Any) -> None:
    validate_object(value)
    _refuse_unknown(value, _RETENTION)
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _RETENTION[key]:
            raise ValidationError(f"{key} is a whole number from 1 to {_RETENTION[key]}.", code="invalid_retention")
    if value.get("payload_days", 0) > value.get("days", value.get("payload_days", 0)):
        raise ValidationError("payload_days is not more than days: the body goes first.", code="invalid_retention")


def validate_response(value: Any) -> None:
    """A custom answer stays harmless on this installation's own address: no HTML, no cookies, no redirects."""
    validate_object(value)
    _refuse_unknown(value, ("status", "headers", "body"))
    _validate_status(value.get("status", 200))
    _validate_headers(value.get("headers", {}))
    if len(json.dumps(value.get("body", ""))) > MAX_RESPONSE_CHARACTERS:
        raise ValidationError(f"The body has at most {MAX_RESPONSE_CHARACTERS} characters.", code="too_long")


def _validate_status(status: Any) -> None:
    if isinstance(status, bool) or not isinstance(status, int) or status // 100 not in (2, 4, 5):
        raise ValidationError("status is a number from 200 to 299 or 400 to 599.", code="invalid_status")


def _validate_headers(headers: Any) -> None:
    validate_object(headers)
    for name, text in headers.items():
        if name.lower() not in RESPONSE_HEADERS:
            raise ValidationError(f"Headers may be {', '.join(RESPONSE_HEADERS)}.", code="invalid_header")
        if not isinstance(text, str) or not _VISIBLE.fullmatch(text):
            raise ValidationError(f"{name} has at most 200 visible ASCII characters.", code="invalid_header")
        if name.lower() == "content-type" and text.partition(";")[0].strip().lower() not in RESPONSE_TYPES:
            raise ValidationError(f"The content type is {' or '.join(RESPONSE_TYPES)}.", code="invalid_header")


def _refuse_unknown(value: dict[str, Any], known: Any) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValidationError(f"Unknown: {', '.join(unknown)}. Known are {', '.join(known)}.", code="unknown_field")

"""What the settings and secrets of each scheme may be; checked when a source is saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from automation_lab.core import json_schema
from inbox.verification.engine import UNITS, Scheme
from inbox.verification.keys import HASHES, UnusableKey
from inbox.verification.schemes import SCHEMES, checks_of
from inbox.verification.signed_parts import DAY

MAX_TOLERANCE_SECONDS = 7 * DAY
HEADER = {"type": "string", "pattern": "^[A-Za-z0-9-]{1,100}$"}
SHORT_TEXT = {"type": "string", "maxLength": 100}
TOLERANCE = {"type": "integer", "minimum": 1, "maximum": MAX_TOLERANCE_SECONDS}
ADDRESS = {"type": "string", "pattern": r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?][!-~]*)?$", "maxLength": 2048}
TOPICS = {
    "type": "array",
    "minItems": 1,
    "maxItems": 100,
    "items": {"type": "string", "pattern": r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,256}$"},
}
CONTENT_NAMES = ("body", "timestamp", "method", "url")
_HEADER_NAME = re.compile(r"header:[A-Za-z0-9-]{1,100}", re.ASCII)

PROPERTIES: dict[str, dict[str, Any]] = {
    "none": {},
    "basic": {},
    "token": {"header": HEADER, "prefix": SHORT_TEXT},
    "hmac": {
        "header": HEADER,
        "algorithm": {"enum": list(HASHES)},
        "encoding": {"enum": ["hex", "base64"]},
        "key_encoding": {"enum": ["utf-8", "hex", "base64"]},
        "prefix": SHORT_TEXT,
        "separator": {"type": "string", "maxLength": 1},
        "content": {"type": "string", "maxLength": 500, "pattern": r"\{body\}"},
        "timestamp_header": HEADER,
        "timestamp_unit": {"enum": list(UNITS)},
        "tolerance_seconds": TOLERANCE,
        "url": ADDRESS,
    },
}


def settings_schema(scheme: str) -> dict[str, Any]:
    """The JSON Schema of `scheme_settings`."""
    properties = PROPERTIES[scheme] if scheme in PROPERTIES else _preset_properties(scheme)
    required = ["topics"] if scheme == "sns" else []
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _preset_properties(scheme: str) -> dict[str, Any]:
    checks = SCHEMES[scheme]
    names = list(dict.fromkeys(check.name for check in checks))
    offered = {
        "tolerance_seconds": any(check.judges_time for check in checks) and TOLERANCE,
        "url": any(check.signs_url for check in checks) and ADDRESS,
        "accept": len(names) > 1 and {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": names}},
        "topics": scheme == "sns" and TOPICS,
    }
    return {name: schema for name, schema in offered.items() if schema}


def settings_faults(scheme: str, options: dict[str, Any]) -> list[str]:
    """What is wrong with `scheme_settings`, in sentences without the values."""
    sentences = [fault.message for fault in json_schema.validate(options, settings_schema(scheme))]
    if not sentences and scheme == "hmac":
        sentences += _content_faults(options)
    return sentences


def _content_faults(options: dict[str, Any]) -> Iterator[str]:
    timestamp_header = options.get("timestamp_header")
    names = Scheme(content=options.get("content", "")).parts[1::2]
    if not all(name in CONTENT_NAMES or _HEADER_NAME.fullmatch(name) for name in names):
        yield "`content` knows {body}, {timestamp}, {method}, {url} and {header:NAME}."
    if "timestamp" in names and not timestamp_header:
        yield "`content` names {timestamp}, so `timestamp_header` has to say where the time stands."
    if timestamp_header and names and "timestamp" not in names:
        yield "A time protects only when it is signed: name {timestamp} in `content`."


def secret_fault(scheme: str, options: dict[str, Any], value: str) -> str:
    """Why `value` cannot be a secret of this scheme, or an empty string. Never holds the value."""
    if scheme == "basic" and (":" not in value or value.startswith(":")):
        return "The secret of this scheme is user:password."
    reasons = []
    for check in checks_of(scheme, options):
        try:
            check.check_secret(value)
        except UnusableKey as exc:
            reasons.append(str(exc))
        else:
            return ""
    return reasons[0] if reasons else ""

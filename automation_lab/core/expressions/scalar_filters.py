"""Filters on single values: conversions, text, numbers, dates and encodings. Importing this module registers them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from automation_lab.core.expressions.filter_table import need, plain_text, register, whole
from automation_lab.core.expressions.values import (
    Budget,
    ExpressionError,
    bounded,
    is_same,
    is_true,
    to_json,
    to_text,
)

# values that may be absent, JSON and conversions


@register(
    "The value, or the given one where it or anything along its path is missing or null (or, with true, is empty)."
)
def default(budget: Budget, value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return default_value if value is None or (boolean and not is_true(value)) else value


@register("The value written as compact JSON.")
def json_(budget: Budget, value: Any) -> Any:
    return to_json(value, budget)


@register("The value that a JSON text holds.")
def from_json(budget: Budget, value: Any) -> Any:
    budget.charge(len(need(value, "text")) // 128)
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ExpressionError("The text is not valid JSON.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


@register("The value as text.")
def string(budget: Budget, value: Any) -> Any:
    return to_text(value, budget)


@register("The value as a whole number: digits are read, fractions cut off; anything else is an error.")
def int_(budget: Budget, value: Any) -> int:
    text = value.strip() if isinstance(need(value, "number", "text", "boolean"), str) else ""
    if text and not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(bounded(int(float_(budget, text))))
    return int(bounded(int(text or value)))


@register("The value as a number with a fraction.")
def float_(budget: Budget, value: Any) -> float:
    if isinstance(need(value, "number", "text", "boolean"), str) and "_" in value:
        raise ExpressionError("This text is not a number.")
    return float(bounded(float(value)))


@register("True for true, 1, yes, on; false for false, 0, no, off and empty; anything else is an error.")
def bool_(budget: Budget, value: Any) -> bool:
    word = plain_text(value, budget).strip().lower()
    if word not in _BOOLEANS:
        raise ExpressionError("This value is neither true nor false; write a comparison instead.")
    return _BOOLEANS[word]


_BOOLEANS = dict.fromkeys(["true", "1", "yes", "on"], True) | dict.fromkeys(["false", "0", "no", "off", ""], False)


# text


@register("The text in capital letters.")
def upper(budget: Budget, value: Any) -> str:
    return need(value, "text").upper()


@register("The text in small letters.")
def lower(budget: Budget, value: Any) -> str:
    return need(value, "text").lower()


@register("The text with a capital letter at the start of each word.")
def title(budget: Budget, value: Any) -> str:
    return need(value, "text").title()


@register("The text without white space at both ends.")
def trim(budget: Budget, value: Any) -> str:
    return need(value, "text").strip()


@register("The text cut to a length; the end mark is part of that length.")
def truncate(budget: Budget, value: Any, length: Any = 255, end: Any = "…") -> str:
    text, mark = need(value, "text"), need(end, "text")
    keep = max(0, whole(length))
    return text if len(text) <= keep else text[: max(0, keep - len(mark))] + mark[:keep]


@register("The text with every `old` replaced by `new`.")
def replace(budget: Budget, value: Any, old: Any, new: Any) -> str:
    if not need(old, "text"):
        raise ExpressionError("`replace` needs a text to look for.")
    growth = len(need(new, "text")) - len(old)
    budget.charge_text(len(need(value, "text")) + value.count(old) * growth)
    return value.replace(old, new)


@register("A list of the parts between separators (white space when none is given).")
def split(budget: Budget, value: Any, separator: Any = None) -> list[str]:
    budget.charge(need(value, "text").count(need(separator, "text", "null") or " "))
    return value.split(separator)


@register("The items as one text with a separator between them.")
def join(budget: Budget, value: Any, separator: Any = "") -> str:
    texts = [plain_text(item, budget) for item in need(value, "list")]
    budget.charge_text(sum(map(len, texts)) + len(need(separator, "text")) * len(texts))
    return separator.join(texts)


@register("Whether the text, list or object contains the given text, item or key.")
def contains(budget: Budget, value: Any, part: Any) -> bool:
    if isinstance(need(value, "text", "list", "object"), list | tuple):
        return any(is_same(item, part, budget) for item in value)
    return need(part, "text") in value


@register("Whether the text starts with the given one.")
def starts_with(budget: Budget, value: Any, prefix: Any) -> bool:
    return need(value, "text").startswith(need(prefix, "text"))


@register("Whether the text ends with the given one.")
def ends_with(budget: Budget, value: Any, suffix: Any) -> bool:
    return need(value, "text").endswith(need(suffix, "text"))


# numbers


@register("The number rounded half up to so many digits; without digits a whole number.")
def round_(budget: Budget, value: Any, digits: Any = 0) -> int | float:
    places = min(max(whole(digits), 0), 15)
    number = bounded(need(value, "number"))
    if isinstance(number, int):
        return number
    rounded = (
        Decimal(repr(number)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP) if abs(number) < 1e12 else number
    )
    return float(rounded) if places else int(bounded(int(rounded)))


@register("The number without its sign.")
def abs_(budget: Budget, value: Any) -> int | float:
    return bounded(abs(need(value, "number")))


# dates and encodings

_DATE_FORMAT = re.compile(r"(?:[^%]|%[YmdHMSfjaAbBpIyuVGzZ%])*")


@register("An instant (ISO text or Unix seconds) written in a time zone: `iso`, or strftime such as `%d.%m.%Y %H:%M`.")
def date(budget: Budget, value: Any, format: Any = "iso", tz: Any = "UTC") -> str:
    local = _instant(value).astimezone(_zone(need(tz, "text")))
    if need(format, "text") == "iso":
        return local.isoformat()
    if len(format) > 200 or not _DATE_FORMAT.fullmatch(format):
        raise ExpressionError("The date format is not known; use strftime codes such as `%Y-%m-%d %H:%M:%S`.")
    return local.strftime(format)


@register("The instant so many seconds later (or earlier), as ISO text.")
def add_seconds(budget: Budget, value: Any, seconds: Any) -> str:
    return (_instant(value) + timedelta(seconds=bounded(need(seconds, "number")))).isoformat().replace("+00:00", "Z")


@register("The instant as Unix seconds; subtract two of them for a duration.")
def timestamp(budget: Budget, value: Any) -> int | float:
    seconds = _instant(value).timestamp()
    return int(seconds) if seconds.is_integer() else seconds


def _instant(value: Any) -> datetime:
    try:
        if isinstance(need(value, "text", "number"), str):
            moment = datetime.fromisoformat(value.strip())
        else:
            moment = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise ExpressionError("This is not an instant; use ISO 8601 text or Unix seconds.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise ExpressionError("The time zone is not known; use a name such as `Europe/Berlin`.") from None


@register("The text in base64.")
def b64encode(budget: Budget, value: Any) -> str:
    return base64.b64encode(need(value, "text").encode()).decode()


@register("The text that a base64 text holds.")
def b64decode(budget: Budget, value: Any) -> str:
    try:
        return base64.b64decode(need(value, "text"), validate=True).decode()
    except ValueError:
        raise ExpressionError("This is not the base64 form of a text.") from None


@register("The text made safe for a URL; an object becomes a query string.")
def urlencode_(budget: Budget, value: Any) -> str:
    if isinstance(need(value, "text", "number", "boolean", "object"), Mapping):
        return urlencode({key: plain_text(item, budget) for key, item in value.items()}, quote_via=quote)
    return quote(plain_text(value, budget), safe="")


@register("The SHA-256 digest of the text in hexadecimal.")
def sha256(budget: Budget, value: Any) -> str:
    return hashlib.sha256(need(value, "text").encode()).hexdigest()

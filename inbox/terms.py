"""What a webhook is found by: one number per header and per value in its body, which a GIN index answers exactly.

An index on the JSON itself would have to look at every body again, and PostgreSQL keeps no statistics on values of more
than 1 kB, so that it would read whole tables where few rows match. The numbers are the first eight bytes of a BLAKE2b
hash (RFC 7693): among 10^9 different ones, the chance that any two are equal is below 3 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

MOST_TERMS = 2_000
"""Of one body, in the order of the document; with more it is flagged and found by these."""
ANY = None
"""Instead of a key or position: any element of a list."""
_ENOUGH = 2 * MOST_TERMS  # texts, of which some are equal
_MOST_PLACES = 8  # of lists within more than three lists not every mixture of * and positions is found


def header_term(name: str, value: str) -> int:
    """The server gives names without their spelling, `X-Github-Event`; any spelling makes the same term."""
    return _hashed(f"h\0{name.replace('_', '-').title()}\0{value}")


def header_terms(headers: Iterable[Sequence[str]]) -> list[int]:
    return list(dict.fromkeys(header_term(name, value) for name, value in headers))


def body_term(path: Iterable[str | None], value: Any) -> int:
    """`path` of keys, positions as texts, and ANY; `value` is no list or object."""
    return _hashed(f"b{''.join(_step(part) for part in path)}\0={_spelled(value)}")


def body_terms(body: Any) -> list[int]:
    """More than MOST_TERMS are not all there are: they tell the caller that there are more."""
    texts: list[str] = []
    _collect(body, ["b"], texts)
    return list(dict.fromkeys(map(_hashed, texts)))


def _collect(value: Any, places: list[str], texts: list[str]) -> None:
    """Add to `texts` what is hashed: every value under every way to name its place."""
    if len(texts) > _ENOUGH:
        return
    if isinstance(value, dict):
        for key, item in islice(value.items(), _ENOUGH):
            _collect(item, [f"{place}\0k{key}" for place in places], texts)
    elif isinstance(value, list):
        for position, item in enumerate(value[:_ENOUGH]):
            _collect(item, _in_list(places, position), texts)
    else:
        spelled = _spelled(value)
        texts += [f"{place}\0={spelled}" for place in places]


def _in_list(places: list[str], position: int) -> list[str]:
    """By any and by its position, after each of `places`, of which the first has only any, the last only positions."""
    if len(places) >= _MOST_PLACES:
        return [f"{places[0]}\0*", f"{places[-1]}\0k{position}"]
    return [text for place in places for text in (f"{place}\0*", f"{place}\0k{position}")]


def _step(part: str | None) -> str:
    """Neither NUL nor anything else in a key can be taken for the start of a step: jsonb holds no NUL."""
    return "\0*" if part is ANY else f"\0k{part}"


def _spelled(value: Any) -> str:
    """A number by its value: 7, 7.0 and 70e-1 are one."""
    if isinstance(value, str):
        return f"s{value}"
    match value:
        case None | bool():
            return f"w{value}"
        case float() if value.is_integer():
            return f"n{int(value)}"
        case _:
            return f"n{value!r}"


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


class _TermsField(ArrayField):
    """Filled from another field of a new row; headers and bodies do not change."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **kwargs | {"base_field": models.BigIntegerField(), "default": list, "blank": True, "editable": False}
        )

    def terms_of(self, instance: Any) -> list[int]:
        raise NotImplementedError

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """The base prepares each number by itself, which for a body takes longer than hashing it."""
        return value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        if add and not getattr(model_instance, self.attname):
            setattr(model_instance, self.attname, self.terms_of(model_instance))
        return super().pre_save(model_instance, add)


class HeaderTermsField(_TermsField):
    def terms_of(self, instance: Any) -> list[int]:
        return header_terms(instance.headers)


class BodyTermsField(_TermsField):
    def terms_of(self, instance: Any) -> list[int]:
        return body_terms(instance.body)[:MOST_TERMS]

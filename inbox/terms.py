"""What a webhook is found by: one number per header and per value in its body, which a GIN index answers exactly.

An index on the JSON itself would have to look at every body again, and PostgreSQL keeps no statistics on values of more
than 1 kB, so that it would read whole tables where few rows match. The numbers are the first eight bytes of a BLAKE2b
hash (RFC 7693): among 10^9 different ones, the chance that any two are equal is below 3 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

MOST_TERMS = 2_000
"""Of one body, in the order of the document; with more it is flagged and found by these."""
ANY = None
"""Instead of a key or position: any element of a list."""
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
    """At most MOST_TERMS + 1, by which a caller knows that there are more."""
    found: dict[int, None] = {}
    for text in _texts(body):
        found[_hashed(text)] = None
        if len(found) > MOST_TERMS:
            break
    return list(found)


def _texts(body: Any) -> Iterator[str]:
    """What is hashed, for every value under every way to name its place."""
    stack: list[tuple[Any, list[str]]] = [(body, ["b"])]
    while stack:
        value, places = stack.pop()
        if isinstance(value, dict):
            stack += [(item, [f"{place}\0k{key}" for place in places]) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            stack += [(value[number], _in_list(places, number)) for number in reversed(range(len(value)))]
        else:
            spelled = _spelled(value)
            yield from (f"{place}\0={spelled}" for place in places)


def _in_list(places: list[str], position: int) -> list[str]:
    """By any and by its position, after each of `places`, of which the first has only any, the last only positions."""
    any_step, exact_step = _step(ANY), _step(str(position))
    if len(places) < _MOST_PLACES:
        return [f"{place}{step}" for place in places for step in (any_step, exact_step)]
    return [places[0] + any_step, places[-1] + exact_step]


def _step(part: str | None) -> str:
    """Neither NUL nor anything else in a key can be taken for the start of a step: jsonb holds no NUL."""
    return "\0*" if part is ANY else f"\0k{part}"


def _spelled(value: Any) -> str:
    """A number by its value: 7, 7.0 and 70e-1 are one."""
    match value:
        case str():
            return f"s{value}"
        case None | bool():
            return f"w{value}"
        case float() if value.is_integer():
            return f"n{int(value)}"
        case _:
            return f"n{value!r}"


def _hashed(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, usedforsecurity=False).digest()
    return int.from_bytes(digest, "big", signed=True)


class _TermsField(ArrayField):
    """Filled from another field of a new row; headers and bodies do not change."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **kwargs | {"base_field": models.BigIntegerField(), "default": list, "blank": True, "editable": False}
        )

    def terms_of(self, instance: Any) -> list[int]:
        raise NotImplementedError

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

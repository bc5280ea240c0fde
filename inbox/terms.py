"""What a webhook is found by: one number per header and per value in its body, which a GIN index answers exactly.

An index on the JSON itself would have to look at every body again, and PostgreSQL keeps no statistics on values of more
than 1 kB, so that it would read whole tables where few rows match. The numbers are the first eight bytes of a BLAKE2b
hash (RFC 7693): among 10^9 different ones, the chance that any two are equal is below 3 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

MOST_TERMS = 2_000
"""Of one body, in the order of the document; with more it is flagged and found by these."""
MOST_PARTS = 20_000  # of a body that are looked at: empty objects and lists have no terms, yet take their time
ANY = None
"""Instead of a key or position: any element of a list."""
_MOST_PLACES = 8  # of lists within more than three lists not every mixture of * and positions is found


def header_term(name: str, value: str) -> int:
    """The server gives names without their spelling, `X-Github-Event`; any spelling makes the same term."""
    return _number(_hash(f"h\0{name.replace('_', '-').title()}\0{value}"))


def header_terms(headers: Iterable[Sequence[str]]) -> list[int]:
    return list(dict.fromkeys(header_term(name, value) for name, value in headers))


def body_term(path: Iterable[str | None], value: Any) -> int:
    """`path` of keys, positions as texts, and ANY; `value` is no list or object."""
    place = _hash("b")
    for part in path:
        place.update(_step(part))
    place.update(_leaf(value))
    return _number(place)


def body_terms(body: Any) -> tuple[list[int], bool]:
    """The terms of `body`, and whether these are all."""
    collector = _Collector()
    collector.add(body, [_hash("b")])
    return list(collector.found)[:MOST_TERMS], not collector.is_full


class _Collector:
    """Hashes as it descends: the texts of all places together can be a thousand times as long as the body."""

    def __init__(self) -> None:
        self.found: dict[int, None] = {}
        self.parts = 0

    @property
    def is_full(self) -> bool:
        return len(self.found) > MOST_TERMS or self.parts > MOST_PARTS

    def add(self, value: Any, places: list[Any]) -> None:
        """Add `value` under every way to name its place; `places` are the hashes of these so far, used up here."""
        self.parts += 1
        if isinstance(value, dict):
            for key, item in value.items():
                if self.is_full:
                    return
                step = _step(key)
                self.add(item, [_extended(place, step) for place in places])
        elif isinstance(value, list):
            for position, item in enumerate(value):
                if self.is_full:
                    return
                self.add(item, _in_list(places, position))
        else:
            leaf = _leaf(value)
            for place in places:
                place.update(leaf)
                self.found[_number(place)] = None


def _in_list(places: list[Any], position: int) -> list[Any]:
    """By any and by its position, after each of `places`, of which the first has only any, the last only positions."""
    any_step, exact_step = _step(ANY), _step(str(position))
    if len(places) >= _MOST_PLACES:
        return [_extended(places[0], any_step), _extended(places[-1], exact_step)]
    return [_extended(place, step) for place in places for step in (any_step, exact_step)]


def _step(part: str | None) -> bytes:
    """Neither NUL nor anything else in a key can be taken for the start of a step: jsonb holds no NUL."""
    return b"\0*" if part is ANY else _encoded(f"\0k{part}")


def _leaf(value: Any) -> bytes:
    return _encoded(f"\0={_spelled(value)}")


def _spelled(value: Any) -> str:
    """A number by its value, as jsonb has it: 7, 7.0 and 70e-1 are one."""
    if isinstance(value, str):
        return f"s{value}"
    match value:
        case None | bool():
            return f"w{value}"
        case float() if value.is_integer():
            return f"n{int(Decimal(repr(value)))}"
        case _:
            return f"n{value!r}"


def _hash(text: str) -> Any:
    return blake2b(_encoded(text), digest_size=8)


def _extended(place: Any, step: bytes) -> Any:
    longer = place.copy()
    longer.update(step)
    return longer


def _number(finished: Any) -> int:
    return int.from_bytes(finished.digest(), signed=True)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class _TermsField(ArrayField):
    """Filled from another field of a new row; headers and bodies do not change."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **kwargs | {"base_field": models.BigIntegerField(), "default": list, "blank": True, "editable": False}
        )

    def terms_of(self, instance: Any) -> list[int]:
        raise NotImplementedError

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """As the text of an array: the base and psycopg handle each number by itself, which takes longer than hashing."""
        return None if value is None else f"{{{','.join(map(str, value))}}}"

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        if add and not getattr(model_instance, self.attname):
            setattr(model_instance, self.attname, self.terms_of(model_instance))
        return super().pre_save(model_instance, add)


class HeaderTermsField(_TermsField):
    def terms_of(self, instance: Any) -> list[int]:
        return header_terms(instance.headers)


class BodyTermsField(_TermsField):
    def terms_of(self, instance: Any) -> list[int]:
        return body_terms(instance.body)[0]

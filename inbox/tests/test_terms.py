from __future__ import annotations

import importlib
import tracemalloc

import pytest
from django.apps import apps
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from inbox import terms
from inbox.models import Webhook
from inbox.receiving.storing import receive_webhook
from inbox.tests.factories import SourceFactory, WebhookFactory, incoming

TEXTS = st.text(st.characters(exclude_characters="\0"))  # jsonb holds no NUL
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12
)


def places(value, path=()):
    """Every value with the keys and positions that lead to it."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in places(item, (*path, key))]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in places(item, (*path, str(number)))]
    return [(path, value)]


@given(VALUES)
def test_every_value_is_found_at_its_place(body):
    found, _ = terms.body_terms(body)

    assert all(terms.body_term(path, value) in found for path, value in places(body))
    assert len(found) == len(set(found))


@given(VALUES, st.lists(TEXTS, max_size=3), SCALARS)
def test_nothing_else_is_found(body, path, value):
    there = any(
        tuple(path) == at and type(value) is type(held) and value == held for at, held in places(body)
    ) or isinstance(value, int | float)  # which are compared by their value: see below

    assert there or terms.body_term(path, value) not in terms.body_terms(body)[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (7, 7.0, True),
        (0, -0.0, True),
        (10**20, 1e20, True),
        (10**23, 1e23, True),
        (7, "7", False),
        (1, True, False),
        (0, False, False),
        (None, "None", False),
        (None, "null", False),
        (True, "True", False),
        (0.1, 0.10000000000000002, False),
    ],
)
def test_values_are_compared_as_json_has_them(one, other, same):
    assert (terms.body_term(["a"], one) == terms.body_term(["a"], other)) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [(["a", "b"], ["a.b"]), (["ab"], ["a", "b"]), ([terms.ANY], ["*"]), (["a", ""], ["a"]), (["a"], ["A"])],
)
def test_places_are_not_mistaken_for_each_other(one, other):
    assert terms.body_term(one, "x") != terms.body_term(other, "x")


def test_terms_stay_what_they_are():
    """They are stored: another way to make them needs a migration that makes all of them anew."""
    assert terms.header_terms([["X-GitHub-Event", "push"]]) == [1712149894301693880]
    assert terms.body_terms({"a": [1.5, None], "b": {"c": True}})[0] == [
        -3591280912480279808,
        -19340139660974706,
        3632132844626796740,
        -4648611433213413050,
        6797266597359568982,
    ]


def test_lists_in_lists_have_a_bounded_number_of_terms():
    body = "x"
    for _ in range(100):
        body = [body]

    assert len(terms.body_terms(body)[0]) <= 8


@pytest.mark.parametrize(
    "body",
    [
        {"grid": [[0] * 100] * 30, "id": 7},
        {"items": [{}] * 30_000 + [{"id": 7}]},
        {f"k{number}": {} for number in range(30_000)} | {"id": 7},
        list(range(2_000)),
    ],
    ids=["equal values", "empty objects", "empty values", "many values"],
)
def test_whatever_is_left_out_is_told(body):
    found, are_all = terms.body_terms(body)

    assert len(found) <= terms.MOST_TERMS
    assert not are_all


def test_empty_parts_leave_nothing_out():
    found, are_all = terms.body_terms({"items": [{}] * 4_000 + [{"id": 7}]})

    assert terms.body_term(["items", terms.ANY, "id"], 7) in found
    assert are_all


def test_long_keys_cost_no_more_than_their_length():
    body = {"k" * 1_000_000: list(range(900))}
    tracemalloc.start()

    found, are_all = terms.body_terms(body)

    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert (len(found), are_all) == (1_800, True)


@pytest.mark.django_db
def test_a_body_of_very_many_values_is_flagged_and_found_by_the_first():
    source = SourceFactory(name="big")
    raw = b'{"list": [%s]}' % b",".join(b"%d" % number for number in range(terms.MOST_TERMS))

    webhook = receive_webhook(request=incoming(raw), source=source)

    assert "partly_searchable" in webhook.flags
    stored = Webhook.objects.get()
    assert len(stored.body_terms) == terms.MOST_TERMS
    assert terms.body_term(["list", "0"], 0) in stored.body_terms
    assert stored.body["list"][-1] == terms.MOST_TERMS - 1


@pytest.mark.django_db
def test_a_change_of_a_webhook_leaves_its_terms():
    webhook = WebhookFactory(body={"a": 1}, headers=[["X-A", "b"]])
    before = list(Webhook.objects.values_list("header_terms", "body_terms"))

    webhook.notes = "Seen."
    webhook.save()

    assert list(Webhook.objects.values_list("header_terms", "body_terms")) == before
    assert all(before[0])


@pytest.mark.django_db
def test_webhooks_of_before_get_their_terms():
    webhooks = [WebhookFactory(body={"a": number}, headers=[["X-A", "b"]]) for number in range(3)]
    before = list(Webhook.objects.values_list("header_terms", "body_terms"))
    Webhook.objects.update(header_terms=[], body_terms=[])
    migration = importlib.import_module("inbox.migrations.0005_index_terms")

    migration.fill(apps, connection.schema_editor())

    assert list(Webhook.objects.values_list("header_terms", "body_terms")) == before
    assert len(before) == len(webhooks)

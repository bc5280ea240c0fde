from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.utils import timezone

from inbox.models import Webhook
from inbox.searching import search
from inbox.tests.factories import WebhookFactory

pytestmark = pytest.mark.django_db
INBOX = "/v1/webhooks/inbox"
BODY = {
    "action": "opened",
    "number": 7,
    "price": 1.5,
    "code": "7",
    "draft": False,
    "note": None,
    "word": "null",
    "repository": {"full_name": "octo/x", "id": 12345678901234567890},
    "commits": [{"id": "a1", "author": {"name": "Kim"}}, {"id": "b2", "author": {"name": "Max"}}],
    "matrix": [[1, 2], [3, 4]],
    "by_id": {"12": {"tags": ["x", "y"]}},
    "lists": [[[[["shallow"]], [["deep"]]]]],
    "odd.name": {"__in": "x", "contains": "y", "0": "zero", "a\\b": "z"},
    "text": 'say "hi"',
    "stars": {"*": "one", "a*": "two"},
    "large": 1e23,
}


def found(api, **parameters):
    response = api.get(f"{INBOX}?{urlencode(parameters)}")
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


@pytest.fixture
def webhook():
    """The one that is looked for, among others."""
    WebhookFactory(body={"action": "closed", "commits": []}, headers=[["X-Github-Event", "ping"]])
    WebhookFactory(body=["action", "opened"])
    WebhookFactory(body=None)
    return WebhookFactory(body=BODY, headers=[["X-Github-Event", "push"], ["Content-Type", "application/json"]])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("action", "opened"),
        ("number", "7"),
        ("number", "7.0"),
        ("price", "1.5"),
        ("price", "15e-1"),
        ("code", "7"),
        ("code", '"7"'),
        ("draft", "false"),
        ("note", "null"),
        ("word", "null"),
        ("repository.full_name", "octo/x"),
        ("repository.id", "12345678901234567890"),
        ("commits.0.id", "a1"),
        ("commits.1.author.name", "Max"),
        ("commits.*.id", "b2"),
        ("commits.*.author.name", "Kim"),
        ("matrix.1.0", "3"),
        ("matrix.1.*", "3"),
        ("matrix.*.0", "3"),
        ("matrix.*.*", "3"),
        ("by_id.12.tags.0", "x"),
        ("by_id.12.tags.*", "y"),
        ("lists.*.*.*.*.*", "deep"),
        ("lists.0.0.1.0.0", "deep"),
        (r"odd\.name.__in", "x"),
        (r"odd\.name.contains", "y"),
        (r"odd\.name.0", "zero"),
        (r"odd\.name.a\\b", "z"),
        ("text", 'say "hi"'),
        (r"stars.\*", "one"),
        ("stars.a*", "two"),
        ("large", "1e23"),
        ("large", "100000000000000000000000"),
        ("text", r'"say \"hi\""'),
    ],
)
def test_a_value_at_a_path_of_the_body_is_found(api, webhook, path, value):
    assert found(api, **{f"body.{path}": value}) == [webhook.pk]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("action", "Opened"),
        ("number", '"7"'),
        ("number", "8"),
        ("draft", "true"),
        ("action", "null"),
        ("missing", "null"),
        ("commits.1.id", "a1"),
        ("commits.2.id", "a1"),
        ("commits.id", "a1"),
        ("commits.*.id", "c3"),
        ("matrix.0.*", "3"),
        ("matrix.*", "3"),
        ("by_id.*.tags.*", "y"),
        ("stars.*", "one"),
        ("full_name", "octo/x"),
        ("repository", "octo/x"),
        ("number", "1e400"),
        ("number", "9" * 31),
    ],
)
def test_anything_else_is_not_found(api, webhook, path, value):
    assert found(api, **{f"body.{path}": value}) == []


@pytest.mark.parametrize("name", ["X-GitHub-Event", "x-github-event", "X_GITHUB_EVENT"])
def test_a_header_is_found_by_its_name_in_any_spelling(api, webhook, name):
    assert found(api, **{f"header.{name}": "push"}) == [webhook.pk]


def test_a_header_is_compared_whole(api, webhook):
    assert found(api, **{"header.X-GitHub-Event": "pus"}) == []


def test_conditions_add_up(api, webhook):
    event = {"header.X-GitHub-Event": "push"}

    assert found(api, **event, **{"body.action": "opened", "body.number": "7", "source": "github"}) == [webhook.pk]
    assert found(api, **event, **{"body.action": "closed"}) == []
    assert found(api, **event, source="gitlab") == []


def test_an_empty_condition_is_none(api, webhook):
    assert len(found(api, **{"body.action": "", "header.X-A": "", "q": "", "flag": ""})) == 4


@pytest.mark.parametrize(
    "parameters",
    [
        {"body.": "x"},
        {"body.a..b": "x"},
        {"body.a.": "x"},
        {"body.a\\": "x"},
        {"body." + ".".join("abcdefghijk"): "x"},
        {"body." + "a" * 501: "x"},
        {"body.a": "x" * 501},
        {"body.a": "\x00"},
        {"body.\x00": "a"},
        {"header.": "x"},
        {"header.Authorization": "Basic abc"},
        {"header.Cookie": "a=b"},
        {f"body.{name}": "x" for name in "abcdef"},
        {"headers.X-A": "x"},
        {"q": "x" * 201},
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(api, parameters):
    assert api.get(f"{INBOX}?{urlencode(parameters)}").status_code == 400


def test_a_repeated_condition_is_refused(api):
    assert api.get(f"{INBOX}?body.a=1&body.a=2").status_code == 400


@pytest.mark.parametrize("text", ["hi", "häu", '"a": 1', "%", "'; --", "\\"])
def test_text_is_found_in_the_body_as_it_stands(api, text):
    WebhookFactory(raw_body=b"empty")
    webhook = WebhookFactory(raw_body=f"before {text} after".encode())

    assert found(api, q=text) == [webhook.pk]


def test_text_is_looked_for_in_the_newest_that_the_other_filters_find(api, monkeypatch):
    monkeypatch.setattr(search, "TEXT_WINDOW", 2)
    old = WebhookFactory(raw_body=b"needle", source="gitlab")
    WebhookFactory.create_batch(2, raw_body=b"hay")

    assert found(api, q="needle") == []
    assert found(api, q="needle", source="gitlab") == [old.pk]


def test_a_flag_is_found(api):
    webhook = WebhookFactory(flags=["characters_replaced", "duplicate_keys"])
    WebhookFactory(flags=["headers_truncated"])
    WebhookFactory()

    assert found(api, flag="duplicate_keys") == [webhook.pk]
    assert found(api, flag="no_such") == []


def test_a_range_of_time_is_read_in_the_order_of_time(api):
    now = timezone.now()
    late = WebhookFactory(received_at=now)
    early = WebhookFactory(received_at=now - timedelta(hours=1))
    since = (now - timedelta(hours=2)).isoformat()

    assert found(api, received_after=since) == [late.pk, early.pk]
    assert found(api, received_after=since, cursor="") == [late.pk, early.pk]
    assert found(api) == [early.pk, late.pk]


def test_what_is_dear_to_count_is_counted_less_far(api, monkeypatch):
    monkeypatch.setattr(search, "COUNTED_ROWS", 2)
    WebhookFactory.create_batch(3, body={"a": 1}, raw_body=b'{"a": 1}')

    dear = api.get(f"{INBOX}?body.a=1&size=1").json()
    cheap = api.get(f"{INBOX}?source=github&size=1").json()

    assert (dear["count"], dear["count_is_capped"]) == (2, True)
    assert (cheap["count"], cheap["count_is_capped"]) == (3, False)


def test_every_row_is_reached_beyond_what_is_counted(api, monkeypatch):
    monkeypatch.setattr(search, "COUNTED_ROWS", 2)
    webhooks = WebhookFactory.create_batch(5, body={"a": 1})
    rows, url = [], f"{INBOX}?body.a=1&size=1"
    while url:
        page = api.get(url).json()
        rows += [row["id"] for row in page["results"]]
        url = page["next"]

    assert rows == [webhook.pk for webhook in reversed(webhooks)]


def test_new_rows_do_not_shift_a_page_of_a_search(api):
    WebhookFactory.create_batch(2, body={"a": 1})
    first = api.get(f"{INBOX}?body.a=1&size=1&cursor=").json()
    WebhookFactory(body={"a": 1})

    second = api.get(first["next"]).json()

    assert second["results"][0]["id"] == first["results"][0]["id"] - 1


@pytest.mark.parametrize("count", [1, 20])
def test_a_search_needs_the_same_queries_whatever_it_finds(api, monkeypatch, django_assert_num_queries, count):
    monkeypatch.setattr(search, "COMMON", 21)
    WebhookFactory.create_batch(count, body=BODY, raw_body=b"needle", headers=[["X-A", "1"]], flags=["x"])
    api.get(INBOX)

    with django_assert_num_queries(
        12
    ):  # token; the newest; by the index: 2 savepoint, 4 settings, ids; text; count, page
        assert len(found(api, **{"body.action": "opened", "header.X-A": "1", "q": "needle", "flag": "x"})) == count


@pytest.mark.parametrize(
    "parameter",
    [
        ("body.repository.full_name", "octo/x"),
        ("body.commits.0.id", "a1"),
        ("body.number", "7"),
        ("header.X-GitHub-Event", "push"),
    ],
)
def test_an_index_answers_a_condition(monkeypatch, parameter):
    monkeypatch.setattr(search, "FEW", -1)
    found = search.carrying(Webhook.objects.order_by(), [parameter])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")

        plan = found.explain()

    assert "webhook_inbox_terms" in plan


def test_a_search_for_what_is_common_does_without_the_index(api, django_assert_num_queries):
    WebhookFactory.create_batch(search.COMMON, body=BODY)
    api.get(INBOX)

    with django_assert_num_queries(4):  # token; the newest; count, page
        assert len(found(api, **{"body.action": "opened"})) == search.COMMON


@pytest.mark.parametrize(("common", "few"), [(1, 3), (50, 1), (50, 3)])
def test_many_are_found_as_few_are(api, monkeypatch, common, few):
    monkeypatch.setattr(search, "COMMON", common)
    monkeypatch.setattr(search, "FEW", few)
    WebhookFactory(body={"a": 2})
    webhooks = WebhookFactory.create_batch(3, body={"a": 1}, event_type="push")
    WebhookFactory(body={"a": 1}, source="gitlab")

    assert found(api, **{"body.a": "1", "source": "github"}) == [webhook.pk for webhook in reversed(webhooks)]
    assert found(api, **{"body.a": "1", "source": "github", "size": 1, "page": 2}) == [webhooks[1].pk]


def test_a_search_leaves_the_settings_of_its_transaction(webhook):
    with connection.cursor() as cursor:
        assert list(search.carrying(Webhook.objects.all(), [("body.action", "opened")])) == [webhook]

        for name in ("enable_seqscan", "enable_indexscan"):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == ("on",)

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from automation_lab.core.api import pagination
from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


@pytest.fixture
def workflows():
    """Twelve rows, of which three each share an instant."""
    rows = Workflow.objects.bulk_create([Workflow(name=f"w{number:02}") for number in range(12)])
    now = timezone.now()
    for number, row in enumerate(rows):
        Workflow.objects.filter(pk=row.pk).update(created_at=now + timedelta(seconds=number // 3))
    return rows


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["name"] for row in answer.json()["results"]]


def test_a_page_has_count_and_links(api, workflows):
    answer = api.get("/v1/things?page=2&size=5&ordering=name").json()

    assert answer["count"] == 12
    assert answer["count_is_capped"] is False
    assert [row["name"] for row in answer["results"]] == ["w05", "w06", "w07", "w08", "w09"]
    assert names(api.get(answer["next"])) == ["w10", "w11"]
    assert names(api.get(answer["previous"])) == ["w00", "w01", "w02", "w03", "w04"]
    assert api.get(answer["next"]).json()["next"] is None


def test_a_page_past_the_end_is_empty(api, workflows):
    assert names(api.get("/v1/things?page=9&size=5")) == []


def test_an_empty_table_has_a_page(api):
    assert api.get("/v1/things").json() == {
        "count": 0,
        "count_is_capped": False,
        "next": None,
        "previous": None,
        "results": [],
    }


@pytest.mark.parametrize("rows", [1, 20])
def test_a_page_takes_two_queries_and_a_cursor_page_one(api, django_assert_num_queries, rows):
    Workflow.objects.bulk_create([Workflow(name=f"w{number}") for number in range(rows)])
    api.get("/v1/things")  # notes the token's use

    with django_assert_num_queries(3):  # the token, the count, the rows
        api.get("/v1/things")
    with django_assert_num_queries(2):
        api.get("/v1/things?cursor=&ordering=-id")


@pytest.mark.parametrize("ordering", ["id", "-id", "created_at", "-created_at"])
def test_cursors_walk_through_all_rows_there_and_back(api, workflows, ordering):
    expected = names(api.get(f"/v1/things?ordering={ordering}&size=200"))

    url, there, pages = f"/v1/things?cursor=&size=5&ordering={ordering}", [], []
    while url:
        answer = api.get(url)
        there += names(answer)
        pages.append(names(answer))
        last, url = answer.json(), answer.json()["next"]
    back, url = [], last["previous"]
    while url:
        answer = api.get(url)
        back.insert(0, names(answer))
        url = answer.json()["previous"]

    assert there == expected
    assert back == pages[:-1]


def test_a_cursor_without_ordering_reads_the_newest_first(api, workflows):
    assert names(api.get("/v1/things?cursor=&size=2")) == ["w11", "w10"]


def test_rows_that_come_meanwhile_do_not_shift_the_cursor(api, workflows):
    first = api.get("/v1/things?cursor=&size=3").json()
    Workflow.objects.create(name="new")

    assert names(api.get(first["next"])) == ["w08", "w07", "w06"]


def test_a_cursor_page_counts_nothing(api, workflows):
    answer = api.get("/v1/things?cursor=").json()

    assert answer["count"] is None
    assert answer["count_is_capped"] is False


def test_a_full_last_page_back_has_no_previous(api, workflows):
    second = api.get(api.get("/v1/things?cursor=&size=6").json()["next"]).json()
    first = api.get(second["previous"]).json()

    assert first["previous"] is None
    assert first["next"] is not None


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=1.5",
        "page=٣",
        "page=99999999999999999999",
        "size=0",
        "size=201",
        "size=x",
        "page=1&page=2",
        "page=1&cursor=",
        "cursor=garbage",
        "cursor=&ordering=name",
        "cursor=%00",
    ],
)
def test_a_bad_page_is_refused(api, query):
    answer = api.get(f"/v1/things?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] in ("page", "size", "cursor")


def test_a_changed_or_foreign_cursor_is_refused(api, workflows):
    following = api.get("/v1/things?cursor=&size=3&ordering=-id").json()["next"]

    assert api.get(following.replace("cursor=", "cursor=X")).status_code == 400
    foreign = api.get(following.replace("ordering=-id", "ordering=id"))
    assert foreign.status_code == 400
    assert "ordering=-id" in foreign.json()["detail"]


def test_counts_and_pages_stop_and_the_cursor_goes_on(api, workflows, monkeypatch):
    monkeypatch.setattr(pagination, "MAX_ROWS", 10)

    last = api.get("/v1/things?page=2&size=5&ordering=id").json()
    beyond = api.get("/v1/things?page=3&size=5&ordering=id")

    assert (last["count"], last["count_is_capped"]) == (10, True)
    assert names(api.get(last["next"])) == ["w10", "w11"]
    assert "cursor=" in last["next"]
    assert "page=" not in last["next"]
    assert beyond.status_code == 400
    assert "cursor" in beyond.json()["detail"]


def test_a_page_over_the_limit_ends_at_it(api, workflows, monkeypatch):
    monkeypatch.setattr(pagination, "MAX_ROWS", 10)

    assert names(api.get("/v1/things?page=2&size=8&ordering=name")) == ["w08", "w09"]


def test_the_count_reads_no_more_rows_than_it_shows(api, django_assert_num_queries):
    api.get("/v1/things")

    with django_assert_num_queries(2) as queries:
        api.get("/v1/things?enabled=true")

    assert "LIMIT 10001" in queries[1]["sql"]

from __future__ import annotations

import pytest

from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


@pytest.fixture
def workflows():
    Workflow.objects.create(name="b", enabled=True)
    Workflow.objects.create(name="a", enabled=False, version=3)
    Workflow.objects.create(name="c", enabled=True)


def names(api, query: str) -> list[str]:
    answer = api.get(f"/v1/things?{query}")
    assert answer.status_code == 200, answer.content
    return [row["name"] for row in answer.json()["results"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("enabled=true", ["b", "c"]),
        ("enabled=False", ["a"]),
        ("name=c", ["c"]),
        ("version=3", ["a"]),
        ("trigger_type=webhook", []),
        ("enabled=&name=&version=&trigger_type=", ["a", "b", "c"]),  # as the filter form sends it
        ("ordering=-name", ["c", "b", "a"]),
        ("ordering=-created_at", ["c", "a", "b"]),
        ("ordering=id", ["b", "a", "c"]),
        ("ordering=", ["a", "b", "c"]),
        ("created_after=2020-01-01T00:00:00Z", ["a", "b", "c"]),
        ("created_before=2020-01-01T00:00:00%2B02:00", []),
        ("version=9223372036854775807", []),
        ("format=json", ["a", "b", "c"]),
    ],
)
def test_filters_and_orderings(api, workflows, query, expected):
    assert names(api, query) == expected


@pytest.mark.parametrize(
    ("query", "field", "part"),
    [
        ("nmae=x", "nmae", 'did you mean "name"?'),
        ("quite_another=1", "quite_another", "known are"),
        ("variables=1", "variables", "There is no filter"),
        ("enabled=yes", "enabled", "yes"),
        ("enabled=1", "enabled", "1"),
        ("version=one", "version", "whole number"),
        ("version=1.5", "version", "whole number"),
        ("version=99999999999999999999", "version", "less than"),
        ("version=1e400", "version", "whole number"),
        ("trigger_type=nothing", "trigger_type", "nothing"),
        ("created_after=yesterday", "created_after", "date/time"),
        ("name=a&name=b", "name", "2 times"),
        ("name=%00", "name", "NUL"),
        ("ordering=variables", "ordering", "There is no ordering"),
        ("ordering=nmae", "ordering", 'did you mean "name"?'),
        ("ordering=--name", "ordering", "There is no ordering"),
        ("ordering=name%00", "ordering", "NUL"),
        ("search=x", "search", "There is no filter"),
    ],
)
def test_what_is_not_understood_is_refused(api, workflows, query, field, part):
    answer = api.get(f"/v1/things?{query}")

    assert answer.status_code == 400
    error = answer.json()["errors"][0]
    assert error["field"] == field
    assert part in error["detail"]


def test_an_unknown_choice_names_those_that_there_are(api):
    answer = api.get("/v1/things?trigger_type=hook&enabled=maybe")

    assert [error["detail"] for error in answer.json()["errors"]] == [
        'There is no "maybe" here; known are true, false.',
        'There is no "hook" here; known are webhook, schedule, manual, event.',
    ]


def test_every_unknown_parameter_is_named(api):
    errors = api.get("/v1/things?one=1&two=2").json()["errors"]

    assert [error["field"] for error in errors] == ["one", "two"]


def test_a_detail_takes_no_filters(api, workflows):
    pk = Workflow.objects.get(name="a").pk

    assert api.get(f"/v1/things/{pk}?enabled=true").status_code == 400
    assert api.get(f"/v1/things/{pk}?format=json").status_code == 200


@pytest.mark.parametrize("pk", ["0", "9" * 19, "9" * 5000, "abc", "-1", "1%0a", "%00", "1/"])
def test_an_id_that_is_none_is_a_404(api, pk):
    answer = api.get(f"/v1/things/{pk}")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "instant", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z"]
)
def test_extreme_instants_are_no_error_of_ours(api, instant):
    assert api.get(f"/v1/things?created_after={instant}").status_code in (200, 400)


def test_equal_values_are_ordered_by_id(api):
    made = [Workflow.objects.create(name=name, version=2).pk for name in ("x", "y", "z")]
    Workflow.objects.update(created_at="2026-01-01T00:00:00Z")

    rows = api.get("/v1/things?ordering=-created_at").json()["results"]

    assert [row["id"] for row in rows] == made[::-1]

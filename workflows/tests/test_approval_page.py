"""`/approve/{token}`: the page behind a link, for people without an account."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from workflows import links
from workflows.models import StepExecution, WaitToken
from workflows.tests.helpers import output_of
from workflows.tests.test_run_pages import CANARY, FORM

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(run_workflow):
    """A run that waits for an approval, and the path of its link."""
    config = {"message": f"Refund?\n{CANARY}", "form": FORM}
    run = run_workflow([{"id": "ok", "type": "approval", "config": config}])
    return run, f"/approve/{links.token_for(run.pk, 'ok', 0)}"


@pytest.fixture
def visitor():
    return Client(enforce_csrf_checks=True)


def test_a_visitor_sees_the_question_and_the_form_escaped(visitor, asked):
    run, path = asked

    response = visitor.get(path)

    html = response.content.decode()
    assert response.status_code == 200
    assert run.workflow.name in html
    assert f'until <time datetime="{run.deadline_at:%Y-%m-%dT%H:%M}' in html
    assert "Refund?" in html
    assert '<select name="form.reason"' in html
    assert "<script" not in html and "<b>bold" not in html


@pytest.mark.parametrize("method", ["get", "head"])
def test_looking_decides_nothing(visitor, asked, method):
    _, path = asked

    getattr(visitor, method)(path, {"decision": "approved"})

    assert StepExecution.objects.get().signal is None
    assert WaitToken.objects.get().used_at is None


def test_the_page_gives_the_link_away_to_nobody(visitor, asked):
    _, path = asked

    response = visitor.get(path)

    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert re.findall(r'(?:href|src|action)="(?!/static/)[^"]*"', response.content.decode()) == []


def test_a_visitor_approves_without_an_account_or_a_cookie(visitor, asked, drive):
    run, path = asked
    answer = {"decision": "approved", "form.reason": '"damaged"', "name": "Kim", "comment": "ok"}

    response = visitor.post(path, answer)

    output = output_of(drive(run), "ok")
    assert "You have approved this" in response.content.decode()
    assert (output["decision"], output["by"], output["comment"]) == ("approved", "Kim (by link)", "ok")
    assert output["form"]["reason"] == "damaged"
    assert not response.cookies


def test_a_visitor_rejects_without_the_form(visitor, asked, drive):
    run, path = asked

    visitor.post(path, {"decision": "rejected", "form.amount": "x"})

    assert drive(run).error_message == "Step ok: Rejected by the holder of the link."
    assert drive(run).status == "failed"


def test_a_link_works_once(visitor, asked):
    _, path = asked
    visitor.post(path, {"decision": "rejected"})

    again, shown = visitor.post(path, {"decision": "approved"}), visitor.get(path)

    assert (again.status_code, shown.status_code) == (410, 410)
    assert "This link is over" in shown.content.decode()


def test_a_link_is_over_when_its_time_is(visitor, asked, travel):
    _, path = asked
    travel(days=4)

    assert visitor.get(path).status_code == 410
    assert visitor.post(path, {"decision": "approved", "form.reason": '"late"'}).status_code == 410


@pytest.mark.parametrize(
    "token", ["nonsense", "wait_" + "A" * 43, "%00", "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "é" * 300]
)
def test_an_unknown_link_is_not_found(visitor, asked, token):
    response = visitor.get(f"/approve/{token}")

    assert response.status_code == 404
    assert "<script>alert" not in response.content.decode()


def test_the_link_of_a_callback_approves_nothing(visitor, run_workflow):
    run = run_workflow([{"id": "hook", "type": "wait_for_webhook", "config": {}}])

    assert visitor.get(f"/approve/{links.token_for(run.pk, 'hook', 0)}").status_code == 404


def test_a_form_that_is_not_filled_in_stays_with_what_was_typed(visitor, asked):
    _, path = asked

    response = visitor.post(path, {"decision": "approved", "form.note": CANARY, "form.amount": "500"})

    html = response.content.decode()
    assert response.status_code == 400
    assert "&lt;script&gt;alert" in html and "<script>alert" not in html
    assert 'class="field wrong"' in html
    assert StepExecution.objects.get().signal is None


@pytest.mark.parametrize(
    "answer",
    [{}, {"decision": "maybe"}, {"decision": ["rejected", "maybe"]}, {"decision": "rejected", "comment": "a\0b"}],
)
def test_an_answer_that_says_neither_decides_nothing(visitor, asked, answer):
    _, path = asked

    assert visitor.post(path, answer).status_code == 400
    assert StepExecution.objects.get().signal is None


def test_a_session_does_not_count(client, asked, drive):
    run, path = asked
    client.force_login(
        User.objects.create_superuser("root", password="x"), backend="django.contrib.auth.backends.ModelBackend"
    )

    client.post(path, {"decision": "approved", "form.reason": '"late"'})

    assert output_of(drive(run), "ok")["by"] == "the holder of the link"


def test_before_the_run_has_come_to_the_step_the_page_says_so(visitor, asked):
    _, path = asked
    StepExecution.objects.update(status="pending", next_attempt_at=None)

    response = visitor.get(path)

    assert response.status_code == 409
    assert "Not yet" in response.content.decode()


def test_other_methods_are_refused(visitor, asked):
    _, path = asked

    assert visitor.put(path).status_code == 405
    assert visitor.delete(path).status_code == 405


def test_of_two_that_are_needed_the_first_is_shown_to_the_second(visitor, run_workflow, client):
    run = run_workflow([{"id": "ok", "type": "approval", "config": {"required": 2}}])
    user = User.objects.create_superuser("ada", password="x")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    client.post(f"/v1/workflows/executions/{run.pk}/approve", "{}", content_type="application/json")

    html = visitor.get(f"/approve/{links.token_for(run.pk, 'ok', 0)}").content.decode()

    assert "1 of 2 have approved: ada" in html


@pytest.mark.parametrize("schema", [{"type": "object"}, {"type": "object", "properties": {"a": True}}], ids=str)
@pytest.mark.parametrize(
    "text", ["[" * 5_000, "1" * 5_000, '{"a": NaN}', '{"a": "\\u0000"}', "{"], ids=lambda text: text[:8]
)
def test_json_that_cannot_be_kept_is_refused(visitor, run_workflow, schema, text):
    run = run_workflow([{"id": "ok", "type": "approval", "config": {"form": schema}}])
    path = f"/approve/{links.token_for(run.pk, 'ok', 0)}"

    response = visitor.post(path, {"decision": "approved", "form": text, "form.a": text})

    assert (response.status_code, 'class="field wrong"' in response.content.decode()) == (400, True)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {
            "type": "object",
            "properties": {"a": True, "b": {"enum": [1, None, {"x": 1}]}, "c": {"type": ["string", "null"]}},
        },
        {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"type": "object", "properties": {"x": {"type": "string", "default": {"a": 1}, "maxLength": 9999}}},
        {"type": "object", "properties": {"a b.c[0]": {"type": "integer", "default": "text"}}, "required": ["missing"]},
    ],
)
def test_unusual_schemas_are_no_server_error(visitor, run_workflow, schema):
    run = run_workflow([{"id": "ok", "type": "approval", "config": {"form": schema}}])
    path = f"/approve/{links.token_for(run.pk, 'ok', 0)}"

    shown, sent = visitor.get(path), visitor.post(path, {"decision": "approved", "form": "{}", "form.a": "1"})

    assert shown.status_code == 200
    assert sent.status_code in (200, 400)

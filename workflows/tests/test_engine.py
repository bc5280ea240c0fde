"""How a run goes through its steps, whatever happens to the worker meanwhile."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.core import mail

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid, NotFound
from automation_lab.core.execution import runner
from automation_lab.core.execution.claims import CANCELLED, STOPPING, TIMEOUT, held
from automation_lab.core.execution.recovery import end_overdue
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import OK, response
from tasks.secrets import set_secret
from workflows import services
from workflows.models import StepAttempt, StepExecution
from workflows.steps.base import StepType, step_types
from workflows.tests.helpers import KIND, Script, body_of, error_of, hang, header, new_worker, output_of, status_of

pytestmark = pytest.mark.django_db

DOWN = response(503)
MAIL = {"id": "mail", "type": "email", "config": {"to": "a@example.com", "subject": "Hi"}}


def setting(step_id, **values):
    return {"id": step_id, "type": "set", "config": {"values": values}}


def call(step_id, server, **config):
    return {"id": step_id, "type": "api_call", "config": {"url": f"{server.url}/{step_id}", **config}}


class Dying(BaseException):
    """Stands for the death of the worker: passes by everything that handles errors."""


@pytest.fixture
def dies(monkeypatch):
    """Makes the worker die in every run of a step type."""

    def arrange(key, times=1):
        step_type, left = step_types.get(key), [times]
        original = step_type.run

        def run(**kwargs):
            if left[0]:
                left[0] -= 1
                raise Dying
            return original(**kwargs)

        monkeypatch.setattr(step_type, "run", run)

    return arrange


@pytest.fixture
def lose(worker, take_over):
    """Runs a run until its worker dies, and lets recovery take it over. The worker is alive again afterwards."""

    def go(run):
        with pytest.raises(Dying):
            runner.run(KIND, run.pk, worker=new_worker())
        take_over(run)

    return go


# --- order and envelope -----------------------------------------------------------------------------------------------


def test_steps_run_in_order_and_see_what_came_before(run_workflow):
    run = run_workflow(
        [
            setting("first", count="{{ trigger.data.n }}"),
            setting("second", count="{{ vars.count + 1 }}"),
            setting("third", text="{{ steps.first.output.count }} then {{ steps.second.output.count }}"),
        ],
        trigger_data={"n": 1},
    )

    assert (run.status, run.error_message) == ("success", "")
    assert run.variables == {"count": 2, "text": "1 then 2"}
    assert (run.current_step, run.total_steps) == (3, 3)
    assert list(run.steps.values_list("path", "position")) == [("first", 1), ("second", 2), ("third", 3)]


def test_a_step_whose_condition_is_false_or_that_is_disabled_is_skipped(run_workflow):
    run = run_workflow(
        [
            {**setting("a", x=1), "condition": "trigger.data.go"},
            {**setting("b", y=1), "enabled": False},
            {**setting("c", z="{{ steps.a.status }}"), "condition": "{{ not trigger.data.go }}"},
        ],
        trigger_data={"go": False},
    )

    assert run.variables == {"z": "skipped"}
    assert [status_of(run, path) for path in "abc"] == ["skipped", "skipped", "success"]


def test_a_failed_step_ends_the_run_with_its_name_and_reason(run_workflow):
    run = run_workflow([setting("first", x="{{ trigger.data.nothing }}"), setting("second", y=1)], trigger_data={})

    assert run.status == "failed"
    assert run.error_message.startswith("Step first: `trigger.data.nothing`: there is no `nothing`")
    assert error_of(run, "first")["code"] == "expression.missing"
    assert not run.steps.filter(path="second").exists()


def test_a_failed_step_that_may_fail_lets_the_run_go_on(run_workflow):
    run = run_workflow(
        [
            {**setting("first", x="{{ 1 / 0 }}"), "on_error": "continue"},
            setting("second", seen="{{ steps.first.status }}", why="{{ steps.first.error.message }}"),
        ]
    )

    assert run.status == "success"
    assert run.variables == {"seen": "failed", "why": "Division by zero."}


def test_the_steps_that_handle_a_failure_see_the_error(run_workflow):
    handler = [setting("handle", code="{{ error.code }}", step="{{ error.step }}")]
    run = run_workflow([{**setting("first", x="{{ 1 / 0 }}"), "on_error": {"steps": handler}}, setting("next", y=1)])

    assert run.status == "success"
    assert run.variables == {"code": "expression.type", "step": "first", "y": 1}
    assert status_of(run, "first[error]/handle") == "success"


def test_a_failure_in_the_handling_steps_fails_the_run(run_workflow):
    handler = [setting("handle", x="{{ 1 // 0 }}")]
    run = run_workflow([{**setting("first", x="{{ 1 / 0 }}"), "on_error": {"steps": handler}}])

    assert run.status == "failed"
    assert run.error_message.startswith("Step first[error]/handle:")


def test_an_output_is_copied_into_a_variable(run_workflow):
    run = run_workflow([{**setting("a", x=1), "output_as": "vars.copies.a"}])

    assert run.variables == {"x": 1, "copies": {"a": {"x": 1}}}


def test_lines_below_the_log_level_of_a_step_are_left_out(run_workflow):
    run = run_workflow([{**MAIL, "log_level": "warning"}, {**MAIL, "id": "again"}])

    assert list(run.log_lines.filter(level="info").exclude(path="").values_list("path", flat=True)) == ["again"]


def test_a_step_type_that_no_longer_exists_fails_its_step(start, drive):
    run = start([setting("a", x=1)])
    run.version.steps[0]["type"] = "gone"
    run.version.save()

    assert drive(run).error_message.startswith("Step a: step types: 'gone' is unknown")


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_retry_parks_the_run_and_goes_on_later_with_the_same_key(run_workflow, drive, serve, travel):
    server = serve(Script(DOWN, OK))
    policy = {"max_attempts": 2, "jitter": "none", "delay_seconds": 60}

    run = run_workflow([setting("before", x=1), call("fetch", server, method="POST")], retry_policy=policy)

    assert (run.status, run.waiting_for, run.worker) == ("running", "retry", None)
    assert timedelta(seconds=55) < run.due_at - clock.database_now() < timedelta(seconds=60)
    step = run.steps.get(path="fetch")
    assert (step.status, step.attempt, step.next_attempt_at) == ("waiting", 1, run.due_at)
    assert (step.error["code"], step.error["retryable"]) == ("http.503", True)

    travel(seconds=61)
    run = drive(run)

    assert (run.status, run.waiting_for) == ("success", "")
    step.refresh_from_db()
    assert (step.status, step.attempt, step.error) == ("success", 2, None)
    assert list(step.attempts.values_list("status", flat=True)) == ["failed", "success"]
    keys = {header(request, "Idempotency-Key") for request in server.requests}
    assert keys == {step.idempotency_key}


def test_a_step_may_have_its_own_policy(run_workflow, serve):
    server = serve(DOWN)
    step = {**call("fetch", server), "retry": {"max_attempts": 1}}

    run = run_workflow([step], retry_policy={"max_attempts": 5})

    assert run.status == "failed"
    assert run.error_message == "Step fetch: The target answered 503; expected 2xx."
    assert len(server.requests) == 1


def test_now_is_the_same_in_every_attempt(run_workflow, drive, serve, travel):
    server = serve(Script(DOWN, OK))
    step = call("fetch", server, method="PUT", body={"at": "{{ now }}"})

    run = run_workflow([step], retry_policy={"delay_seconds": 60, "jitter": "none"})
    travel(seconds=61)
    drive(run)

    first, second = (body_of(request) for request in server.requests)
    assert first == second


def test_a_step_that_ends_at_its_own_time_limit_fails_the_run(run_workflow, serve):
    server = serve(hang)
    step = {**call("fetch", server), "timeout_seconds": 0.2, "retry": {"max_attempts": 1}}

    run = run_workflow([step])

    assert (run.status, status_of(run, "fetch")) == ("failed", "timeout")
    assert error_of(run, "fetch")["code"] == "timeout.read"


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_reaches_the_target_and_no_row(run_workflow, serve):
    set_secret(name="TOKEN", value="very-secret-value", allowed_hosts=["127.0.0.1"])

    def echo(connection, request):
        connection.sendall(response(200, [("Content-Type", "text/plain")], request))

    server = serve(echo)
    step = call("fetch", server, auth={"type": "bearer", "token": "{{ secrets.TOKEN }}"})

    run = run_workflow([step, setting("keep", body="{{ steps.fetch.output.body }}")])

    assert run.status == "success"
    assert header(server.requests[0], "Authorization") == "Bearer very-secret-value"
    record = run.steps.get(path="fetch")
    assert record.input["auth"]["token"] == "***"
    assert "very-secret-value" not in f"{record.output} {run.variables} {list(run.log_lines.values())}"


def test_a_secret_is_not_kept_in_a_variable(run_workflow):
    set_secret(name="TOKEN", value="very-secret-value")

    run = run_workflow([setting("keep", x="{{ secrets.TOKEN }}")])

    assert run.status == "failed"
    assert error_of(run, "keep")["code"] == "expression.secret"
    assert run.steps.get().input == {"values": {"x": "***"}}


def test_a_secret_is_not_sent_to_another_host(run_workflow, serve):
    set_secret(name="TOKEN", value="very-secret-value", allowed_hosts=["api.example.com"])
    server = serve()

    run = run_workflow([call("fetch", server, headers={"X-Key": "{{ secrets.TOKEN }}"})])

    assert error_of(run, "fetch")["code"] == "authorization.secret_host"
    assert server.requests == []


# --- lost workers -----------------------------------------------------------------------------------------------------


def test_finished_steps_are_not_done_again_after_a_worker_was_lost(start, drive, serve, dies, lose):
    server = serve()
    run = start([call("first", server), setting("second", x="{{ steps.first.output.body.ok }}"), MAIL])
    dies("email")

    lose(run)
    waiting = drive(run)
    services.decide(execution=waiting, action="retry")
    run = drive(run)

    assert run.status == "success"
    assert len(server.requests) == 1
    assert run.variables == {"x": True}
    assert StepAttempt.objects.filter(step__path="first").count() == 1


def test_a_step_that_is_safe_to_repeat_is_done_again_with_the_same_key(start, drive, serve, dies, lose):
    server = serve()
    run = start([call("fetch", server)])
    dies("api_call")

    lose(run)
    run = drive(run)

    assert run.status == "success"
    step = run.steps.get()
    assert (step.attempt, step.interruptions) == (2, 1)
    assert list(step.attempts.values_list("status", flat=True)) == ["lost", "success"]


@pytest.fixture
def interrupted(start, drive, dies, lose):
    """A run whose e-mail may have been sent or not."""
    run = start([MAIL, setting("after", seen="{{ steps.mail.output }}")])
    dies("email")
    lose(run)
    return drive(run)


def test_a_step_that_is_not_safe_to_repeat_waits_for_a_decision(interrupted):
    assert (interrupted.status, interrupted.waiting_for, interrupted.due_at) == ("running", "decision", None)
    assert (status_of(interrupted, "mail"), error_of(interrupted, "mail")["code"]) == ("interrupted", "unknown_outcome")
    assert mail.outbox == []


def test_a_decision_to_retry_does_it_again_under_a_new_key(interrupted, drive):
    before = interrupted.steps.get(path="mail").idempotency_key

    services.decide(execution=interrupted, action="retry", author="pat")
    run = drive(interrupted)

    assert run.status == "success"
    assert len(mail.outbox) == 1
    record = run.steps.get(path="mail")
    assert record.generation == 1
    assert record.idempotency_key != before
    assert run.log_lines.filter(text="Decided by pat: retry.").exists()


def test_a_decision_to_skip_goes_on_with_the_given_output(interrupted, drive):
    services.decide(execution=interrupted, action="skip", output={"accepted": []})
    run = drive(interrupted)

    assert (run.status, status_of(run, "mail")) == ("success", "skipped")
    assert run.variables == {"seen": {"accepted": []}}
    assert mail.outbox == []


def test_a_decision_to_fail_ends_the_run(interrupted, drive):
    services.decide(execution=interrupted, action="fail", author="pat")
    run = drive(interrupted)

    assert (run.status, run.error_message) == ("failed", "Step mail: Marked as failed by pat.")


def test_a_decision_that_nobody_waits_for_is_refused(interrupted, run_workflow):
    finished = run_workflow([setting("a", x=1)])

    with pytest.raises(Conflict):
        services.decide(execution=finished, action="retry")
    with pytest.raises(NotFound):
        services.decide(execution=interrupted, action="retry", step="after")
    with pytest.raises(Invalid):
        services.decide(execution=interrupted, action="forget")
    services.decide(execution=interrupted, action="retry")
    with pytest.raises(Conflict):
        services.decide(execution=interrupted, action="fail")


@pytest.mark.parametrize(("rule", "status", "sent"), [("retry", "success", 1), ("fail", "failed", 0)])
def test_the_policy_may_decide_about_an_unknown_outcome(start, drive, dies, lose, rule, status, sent):
    run = start([{**MAIL, "retry": {"on_unknown_outcome": rule}}])
    dies("email")

    lose(run)
    run = drive(run)

    assert (run.status, len(mail.outbox)) == (status, sent)


def test_a_step_that_kills_its_worker_again_and_again_is_given_up(start, drive, serve, dies, lose):
    run = start([call("fetch", serve())])
    dies("api_call", times=3)

    for _ in range(3):
        lose(run)
    run = drive(run)

    assert (run.status, error_of(run, "fetch")["code"]) == ("failed", "runtime.crash_loop")


def test_a_run_that_kills_its_worker_before_anything_is_on_record_is_given_up(start, drive, dies, lose):
    run = start([setting("a", x=1)])
    dies("set", times=5)

    for _ in range(5):
        lose(run)

    run = drive(run)
    assert (run.status, run.error_message) == ("failed", "5 workers were lost in this run: it is not tried again.")


def test_what_a_replaced_worker_found_out_is_thrown_away(start, worker, serve, take_over, monkeypatch):
    run = start([call("fetch", serve()), setting("a", x=1)])
    executable = executables.get(KIND)
    client = executable.http

    class Late:
        def request(self, *args, **options):
            answer = client.request(*args, **options)
            take_over(run)
            return answer

    monkeypatch.setattr(executable, "http", Late())
    runner.run(KIND, run.pk, worker=worker)

    run.refresh_from_db()
    assert (run.status, run.worker, run.epoch) == ("running", None, 2)
    assert (status_of(run, "fetch"), run.variables) == ("running", {})
    assert StepAttempt.objects.get().status == "lost"


# --- stop, cancel, deadline -------------------------------------------------------------------------------------------


class Interrupting:
    """A target that interrupts the claim of the run that calls it, and answers only after that."""

    def __init__(self, reason, answer=OK):
        self.reason = reason
        self.answer = answer

    def __call__(self, connection, request):
        if self.reason:
            held.stop_all(self.reason)
            self.reason = ""
            time.sleep(0.1)
        connection.sendall(self.answer)


def test_a_worker_that_stops_hands_the_run_back(start, worker, drive, serve):
    server = serve(Interrupting(STOPPING))
    run = start([call("fetch", server), setting("a", x=1)])

    runner.run(KIND, run.pk, worker=worker)

    run.refresh_from_db()
    assert (run.status, run.worker, run.waiting_for) == ("running", None, "")
    assert run.due_at <= clock.database_now()
    step = run.steps.get()
    assert (step.attempt, step.interruptions, step.attempts.get().status) == (0, 0, "released")

    run = drive(run)

    assert run.status == "success"
    assert run.steps.get(path="fetch").attempt == 1


def test_a_run_is_cancelled_inside_its_call(start, worker, serve):
    run = start([call("fetch", serve(Interrupting(CANCELLED))), setting("a", x=1)])

    runner.run(KIND, run.pk, worker=worker)

    run.refresh_from_db()
    assert (run.status, run.error_message) == ("cancelled", "Cancelled.")
    assert (status_of(run, "fetch"), StepAttempt.objects.get().status) == ("cancelled", "cancelled")
    assert not run.steps.filter(path="a").exists()


def test_a_run_that_waits_is_cancelled_at_once(run_workflow, serve):
    run = run_workflow([call("fetch", serve(DOWN))], retry_policy={"delay_seconds": 60, "jitter": "none"})

    services.cancel_execution(execution=run)

    run.refresh_from_db()
    assert (run.status, run.waiting_for, status_of(run, "fetch")) == ("cancelled", "", "cancelled")


def test_a_run_is_stopped_inside_its_call_when_its_time_is_up(start, worker, serve):
    run = start([call("fetch", serve(Interrupting(TIMEOUT)))])

    runner.run(KIND, run.pk, worker=worker)

    run.refresh_from_db()
    assert (run.status, run.error_message) == ("timeout", "Not finished within its time limit.")
    assert status_of(run, "fetch") == "timeout"
    assert run.workflow.failure_count == 1


def test_a_run_that_waits_past_its_deadline_is_ended(run_workflow, serve, travel):
    policy = {"delay_seconds": 60, "jitter": "none"}
    run = run_workflow([call("fetch", serve(DOWN))], retry_policy=policy, timeout_seconds=90)
    travel(seconds=91)

    end_overdue(executables.get(KIND), now=clock.database_now())

    run.refresh_from_db()
    assert (run.status, status_of(run, "fetch")) == ("timeout", "timeout")


def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(run_workflow, serve):
    policy = {"delay_seconds": 60, "jitter": "none"}

    run = run_workflow([call("fetch", serve(DOWN))], retry_policy=policy, timeout_seconds=30)

    assert run.status == "failed"


def test_a_retry_if_that_cannot_be_evaluated_is_told_in_the_log(run_workflow, serve):
    run = run_workflow([call("fetch", serve(DOWN))], retry_policy={"retry_if": "error.cod == 1"})

    assert run.status == "failed"
    told = run.log_lines.get(level="warning")
    assert told.path == "fetch"
    assert told.text.startswith("retry_if cannot be evaluated, so there is no retry: `error.cod`")


def test_a_programming_error_ends_the_run_without_its_text(start, drive, monkeypatch):
    run = start([setting("a", x=1)])

    def broken(self, **kwargs):
        raise KeyError("an inner detail")

    monkeypatch.setattr(type(step_types.get("set")), "run", broken)
    run = drive(run)

    assert run.status == "failed"
    assert run.error_message == "Internal error: KeyError. The server's log has the details."


def test_ends_are_counted_on_the_workflow(run_workflow):
    run = run_workflow([setting("a", x=1)])
    bad = run_workflow([setting("a", x="{{ 1 / 0 }}")])

    assert (run.workflow.success_count, run.workflow.failure_count) == (1, 0)
    assert (bad.workflow.success_count, bad.workflow.failure_count) == (0, 1)


def test_a_run_stays_on_its_version(start, drive):
    run = start([setting("a", x="old")])

    services.update_workflow(workflow=run.workflow, changes={"steps": [setting("a", x="new")]})

    assert drive(run).variables == {"x": "old"}


def test_every_step_type_names_itself_and_has_a_usable_schema():
    for key, step_type in step_types.items():
        assert isinstance(step_type, StepType)
        assert key == step_type.key
        assert step_type.title
        assert step_type.config_schema["additionalProperties"] is False


def test_an_output_over_the_limit_is_marked_as_cut(run_workflow):
    run = run_workflow([setting("a", x="{{ trigger.data.x }}")], trigger_data={"x": "y" * 300_000})

    assert output_of(run, "a")["truncated"] is True
    assert StepExecution.objects.get().status == "success"


@pytest.mark.parametrize(
    "source", ["steps.a.output.x", "steps.a.output.x | default('')", "steps.a.output", "vars.kept"]
)
def test_what_was_cut_is_no_value_for_an_expression(run_workflow, source):
    cut = {**setting("a", x="{{ trigger.data.x }}"), "output_as": "vars.kept"}

    run = run_workflow([cut, setting("b", y=f"{{{{ {source} }}}}")], trigger_data={"x": "y" * 300_000})

    assert (status_of(run, "b"), error_of(run, "b")["code"]) == ("failed", "limit.value")
    assert "is not there as a whole. Its 300,008 bytes are too many to be kept" in error_of(run, "b")["message"]
    [line] = run.log_lines.filter(path="a")
    assert (line.level, line.text.split(".")[0]) == ("warning", "The output cannot be used")


@pytest.mark.parametrize("name", ["steps", "callbacks"])
@pytest.mark.parametrize("use", ["{{{{ {} }}}}", "{{{{ {{'all': [{}]}} }}}}", "all: {{{{ {} }}}}"])
def test_names_that_are_looked_up_cannot_be_used_as_a_whole(run_workflow, name, use):
    run = run_workflow([setting("a", x=1), setting("b", x=use.format(name))])

    assert error_of(run, "b")["message"] == f"`{name}` cannot be used as a whole: name a part, such as `{name}.x`."


def test_of_an_answer_that_is_too_large_the_extracted_values_stay(run_workflow, serve):
    server = serve({"id": 7, "rows": ["y" * 1_000] * 300})
    call = {
        "id": "a",
        "type": "api_call",
        "config": {"url": server.url, "extract": {"id": "response.body.id"}},
    }

    run = run_workflow([call, setting("b", id="{{ steps.a.output.id }}", status="{{ steps.a.output.status }}")])

    assert (run.status, run.variables) == ("success", {"id": 7, "status": 200})
    assert output_of(run, "a")["body"]["truncated"] is True
    assert "`extract` what later steps need" in run.log_lines.get(path="a", level="warning").text


def test_an_answer_that_decodes_to_half_a_character_is_kept(run_workflow, serve):
    def answer(connection, request):
        connection.sendall(response(200, [("Content-Type", "text/plain; charset=utf-7")], b"+2AA-"))

    run = run_workflow([call("fetch", serve(answer))])

    assert (run.status, output_of(run, "fetch")["body"]) == ("success", "\ufffd" * 3)

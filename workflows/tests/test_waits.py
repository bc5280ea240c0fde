"""Steps that wait for an event: links, approvals, children. And that no event is lost."""

from __future__ import annotations

import threading
import time

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.db import connections

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Gone, Invalid, NotFound, Refused
from automation_lab.core.execution import queue, runner
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.hints import kind_of
from automation_lab.core.execution.recovery import end_overdue
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import OK
from inbox.tests.factories import incoming
from tasks.models import ScheduledTask, TaskExecution
from tasks.notifying.channels import create_channel
from tasks.tests.factories import ScheduledTaskFactory
from workflows import links, services, waits
from workflows.models import StepExecution, WaitToken, Workflow, WorkflowExecution
from workflows.running.store import RunStore
from workflows.tests.helpers import KIND, body_of, error_of, new_worker, output_of, status_of

pytestmark = pytest.mark.django_db
threads = pytest.mark.django_db(transaction=True)
HOOK = {"id": "hook", "type": "wait_for_webhook", "config": {}}


def setting(step_id, /, **values):
    return {"id": step_id, "type": "set", "config": {"values": values}}


def hook(**config):
    return {**HOOK, "config": config}


def approval(**config):
    return {"id": "ok", "type": "approval", "config": config}


def parallel(wait_for="all", **branches):
    listed = [{"name": name, "steps": steps} for name, steps in branches.items()]
    return {"id": "p", "type": "parallel", "config": {"branches": listed, "wait_for": wait_for}}


def token(run, path, generation=0):
    return links.token_for(run.pk, path, generation)


def post(run, path="hook", body=b'{"done": true}', **values):
    return waits.receive_callback(token=token(run, path), request=incoming(body, **values))


# --- wait_for_webhook -------------------------------------------------------------------------------------------------


def test_a_run_waits_for_its_callback_without_a_worker(run_workflow, drive):
    run = run_workflow([HOOK, setting("a", done="{{ steps.hook.output.body.done }}")])
    assert (run.status, run.waiting_for, run.worker) == ("running", "webhook", None)

    answer = post(run, headers=[("X-Sender", "them"), ("Authorization", "Bearer s3cret-value")])
    run = drive(run)

    assert (answer.status, answer.body) == (200, None)
    assert (run.status, run.variables) == ("success", {"done": True})
    output = output_of(run, "hook")
    assert output["headers"]["x-sender"] == "them"
    assert "s3cret" not in str(output)
    assert output["received_at"]


def test_of_a_large_callback_the_headers_stay(run_workflow, drive):
    run = run_workflow([HOOK, setting("a", sender="{{ steps.hook.output.headers['x-sender'] }}")])

    post(run, body=b'{"x": "%s"}' % (b"y" * 300_000), headers=[("X-Sender", "them")])
    run = drive(run)

    assert (run.status, run.variables) == ("success", {"sender": "them"})
    assert output_of(run, "hook")["body"]["truncated"] is True


def test_only_the_hash_of_a_link_is_stored(run_workflow):
    run = run_workflow([HOOK])

    row = WaitToken.objects.get()
    assert (row.kind, row.step.path, row.used_at) == ("webhook", "hook", None)
    assert row.token_hash == links.token_hash(token(run, "hook"))
    assert row.expires_at == run.steps.get().next_attempt_at
    assert token(run, "hook") != token(run, "hook", 1)


def test_a_link_works_once(run_workflow, drive):
    run = run_workflow([HOOK])
    post(run)

    with pytest.raises(Gone):
        post(run)
    drive(run)
    with pytest.raises(Gone):
        post(run)
    with pytest.raises(NotFound):
        waits.receive_callback(token="wait_unknown", request=incoming())


def test_a_request_that_does_not_match_leaves_the_run_waiting(run_workflow, drive):
    match = "body.id == trigger.data.id and headers['x-kind'] == vars.kind"
    run = run_workflow([hook(match=match)], trigger_data={"id": 7}, variables={"kind": "paid"})

    for body, kind in ((b'{"id": 8}', "paid"), (b'{"id": 7}', "open"), (b"no json", "paid")):
        with pytest.raises(Conflict):
            post(run, body=body, headers=[("X-Kind", kind)])
    assert drive(run).status == "running"

    post(run, body=b'{"id": 7}', headers=[("X-Kind", "paid")])
    assert drive(run).status == "success"


def test_the_step_may_have_its_own_answer(run_workflow):
    run = run_workflow([hook(respond={"status": 202, "body": {"order": "{{ trigger.data }}"}})], trigger_data=7)

    assert post(run) == waits.Answer(202, {"order": 7})


@pytest.mark.parametrize(("rule", "status"), [("fail", "failed"), ("continue", "success")])
def test_a_callback_that_does_not_come_in_time(run_workflow, drive, travel, rule, status):
    run = run_workflow([hook(timeout_seconds=60, on_timeout=rule)])
    travel(seconds=61)

    with pytest.raises(Gone):
        post(run)
    run = drive(run)

    assert run.status == status
    if rule == "fail":
        assert error_of(run, "hook")["code"] == "timeout.wait"
    else:
        assert output_of(run, "hook")["received_at"] is None


def test_a_body_that_is_no_json_arrives_as_text(run_workflow, drive):
    run = run_workflow([HOOK])
    post(run, body=b"plain")

    assert output_of(drive(run), "hook")["body"] == "plain"


def test_an_earlier_step_sends_the_link_and_no_row_keeps_it(run_workflow, serve, settings):
    settings.PUBLIC_URL = "https://lab.example.com"
    server = serve()
    body = {"call": "{{ callbacks.hook }}"}
    sending = {"id": "send", "type": "api_call", "config": {"method": "POST", "url": server.url, "body": body}}

    run = run_workflow([sending, HOOK])

    sent = body_of(server.requests[0])["call"]
    assert sent == f"https://lab.example.com/v1/callbacks/{token(run, 'hook')}"
    assert run.steps.get(path="send").input["body"] == {"call": "https://lab.example.com/v1/callbacks/wait_***"}
    assert token(run, "hook") not in str(
        list(StepExecution.objects.values()) + list(WorkflowExecution.objects.values())
    )
    assert list(run.steps.values_list("path", flat=True)) == ["send", "hook"]


def test_a_link_cannot_be_kept_in_a_variable(run_workflow):
    run = run_workflow([setting("a", x="{{ callbacks.hook }}"), HOOK])

    assert (run.status, error_of(run, "a")["code"]) == ("failed", "expression.secret")
    assert status_of(run, "hook") == "cancelled"


def test_a_callback_may_come_before_its_step_begins(run_workflow, drive, serve):
    """The one who gets the link may be quicker than the steps between."""
    answered = []

    def answer(connection, request):
        connection.sendall(OK)

    server = serve(answer)
    body = {"call": "{{ callbacks.hook }}"}
    sending = {"id": "send", "type": "api_call", "config": {"method": "POST", "url": server.url, "body": body}}
    pause = {"id": "pause", "type": "delay", "config": {"seconds": 60}}
    run = run_workflow([sending, pause, HOOK])
    assert status_of(run, "hook") == "pending"

    answered.append(post(run))
    with pytest.raises(Gone):
        post(run)
    StepExecution.objects.filter(path="pause").update(next_attempt_at=clock.database_now())
    queue.wake(run, now=clock.database_now())
    run = drive(run)

    assert (run.status, output_of(run, "hook")["body"]) == ("success", {"done": True})


@threads
def test_a_link_can_be_answered_the_moment_it_is_sent(run_workflow, drive, serve):
    """A message is rendered inside its step, after the commit before the effect."""

    def answer(connection, request):
        sent = body_of(request)["text"].rpartition("/")[2]
        waits.receive_callback(token=sent, request=incoming(b"1"))
        connections.close_all()
        connection.sendall(OK)

    create_channel(name="chat", kind="slack", target=serve(answer).url)
    telling = {"type": "notify", "config": {"channel": "chat", "message": "{{ callbacks.hook }}"}}

    run = run_workflow([telling, HOOK])

    assert (run.status, output_of(run, "hook")["body"]) == ("success", 1)


def test_links_of_a_loop_belong_to_their_item(run_workflow, drive, serve):
    server = serve()
    send = {
        "id": "send",
        "type": "api_call",
        "config": {"method": "POST", "url": server.url, "body": "{{ callbacks.hook }}"},
    }
    run = run_workflow([{"id": "loop", "type": "for_each", "config": {"items": [1, 2], "steps": [send, HOOK]}}])

    for index in (0, 1):
        assert body_of(server.requests[index]).endswith(token(run, f"loop[{index}]/hook"))
        post(run, f"loop[{index}]/hook")
        run = drive(run)

    assert run.status == "success"


def test_a_cancelled_run_takes_no_callback(run_workflow):
    run = run_workflow([HOOK])
    services.cancel_execution(execution=run)

    with pytest.raises(Gone):
        post(run)


# --- approval ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def decide(user):
    return lambda run, approved=True, by=user, **values: waits.decide_approval(
        execution=run, approved=approved, user=by, **values
    )


def test_an_approved_run_goes_on(run_workflow, drive, decide):
    run = run_workflow(
        [approval(message="Pay {{ trigger.data }}?"), setting("a", by="{{ steps.ok.output.by }}")], trigger_data=7
    )
    assert (run.status, run.waiting_for) == ("running", "approval")
    assert run.steps.get().state["message"] == "Pay 7?"

    decide(run, comment="Fine.")
    run = drive(run)

    assert (run.status, run.variables) == ("success", {"by": "pat"})
    output = output_of(run, "ok")
    assert (output["decision"], output["comment"], output["form"]) == ("approved", "Fine.", {})


def test_a_rejected_run_fails_with_who_and_why(run_workflow, drive, decide):
    run = run_workflow([approval()])
    decide(run, approved=False, comment="Too much.")
    run = drive(run)

    assert (run.status, run.error_message) == ("failed", "Step ok: Rejected by pat: Too much.")
    assert (error_of(run, "ok")["code"], error_of(run, "ok")["detail"]["by"]) == ("approval.rejected", "pat")


def test_a_rejection_may_lead_to_a_branch(run_workflow, drive, decide):
    run = run_workflow([approval(on_reject="branch"), setting("a", decision="{{ steps.ok.output.decision }}")])
    decide(run, approved=False)

    assert drive(run).variables == {"decision": "rejected"}


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [("reject", "failed", "approval.rejected"), ("approve", "success", None), ("fail", "failed", "timeout.wait")],
)
def test_an_approval_that_nobody_decides(run_workflow, drive, decide, travel, rule, status, code):
    run = run_workflow([approval(timeout_seconds=60, on_timeout=rule)])
    travel(seconds=61)

    with pytest.raises(Conflict):
        decide(run)
    run = drive(run)

    assert run.status == status
    assert (error_of(run, "ok") or {}).get("code") == code


def test_several_people_have_to_approve(run_workflow, drive, decide):
    second = User.objects.create_user("sam")
    run = run_workflow([approval(required=2)])

    decide(run)
    assert drive(run).waiting_for == "approval"
    with pytest.raises(Conflict):
        decide(run)
    decide(run, by=second)
    run = drive(run)

    assert run.status == "success"
    assert [decision["by"] for decision in output_of(run, "ok")["decisions"]] == ["pat", "sam"]


def test_one_rejection_is_enough(run_workflow, drive, decide):
    run = run_workflow([approval(required=2)])
    decide(run, approved=False)

    assert drive(run).status == "failed"


def test_only_those_named_decide(run_workflow, drive, decide):
    leader = User.objects.create_user("lee")
    leader.groups.add(Group.objects.create(name="leads"))
    run = run_workflow([approval(assignees=["sam"], groups=["leads"])])

    with pytest.raises(Refused):
        decide(run)
    decide(run, by=leader)

    assert drive(run).status == "success"


def test_who_has_started_the_run_does_not_approve_it_unless_that_is_allowed(start, drive, decide):
    strict, loose = start([approval()]), start([approval(allow_self=True)])
    WorkflowExecution.objects.update(started_by="pat")

    with pytest.raises(Refused):
        decide(drive(strict))
    decide(drive(loose))

    assert drive(loose).status == "success"


FORM = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"type": "integer"}},
    "additionalProperties": False,
}


def test_the_form_is_checked(run_workflow, drive, decide):
    run = run_workflow([approval(form=FORM)])

    for form in ({}, {"amount": "7"}, {"amount": 7, "x": 1}):
        with pytest.raises(Invalid):
            decide(run, form=form)
    decide(run, form={"amount": 7})

    assert output_of(drive(run), "ok")["form"] == {"amount": 7}


def test_a_form_that_nobody_asked_for_is_refused(run_workflow, decide):
    with pytest.raises(Invalid):
        decide(run_workflow([approval()]), form={"x": 1})


def test_a_link_approves_once(run_workflow, drive):
    run = run_workflow([approval()])
    link = token(run, "ok")

    assert waits.approval_of(link).path == "ok"
    waits.decide_by_token(token=link, approved=True, name="Kim")
    with pytest.raises(Gone):
        waits.decide_by_token(token=link, approved=False)
    with pytest.raises(NotFound):
        waits.receive_callback(token=link, request=incoming())
    run = drive(run)

    assert (run.status, output_of(run, "ok")["by"]) == ("success", "Kim (by link)")


def test_an_email_carries_the_link(run_workflow, settings):
    settings.PUBLIC_URL = "https://lab.example.com"
    text = {"to": "a@example.com", "subject": "Approve?", "text": "Here: {{ callbacks.ok }}"}

    run = run_workflow([{"type": "email", "config": text}, approval()])

    assert mail.outbox[0].body == f"Here: https://lab.example.com/approve/{token(run, 'ok')}"


@threads
def test_of_several_that_wait_one_has_to_be_named(run_workflow, drive, decide, user):
    run = run_workflow([parallel(a=[{**approval(), "id": "ok_a"}], b=[{**approval(), "id": "ok_b"}])])

    with pytest.raises(Invalid):
        decide(run)
    with pytest.raises(NotFound):
        decide(run, step="p[c]/ok_c")
    decide(run, step="p[b]/ok_b")
    run = drive(run)

    assert (status_of(run, "p[a]/ok_a"), status_of(run, "p[b]/ok_b")) == ("waiting", "success")


# --- sub_workflow -----------------------------------------------------------------------------------------------------


@pytest.fixture
def child(db):
    def make(steps, name="child", **fields):
        return services.create_workflow(fields={"name": name, "steps": steps, **fields})

    return make


def calling(name="child", **config):
    return {"id": "sub", "type": "sub_workflow", "config": {"workflow": name, **config}}


def child_of(run):
    return WorkflowExecution.objects.get(parent=run)


def test_the_parent_waits_for_the_output_of_its_child(run_workflow, drive, child):
    child([{"type": "stop", "config": {"output": "{{ trigger.data.n + 1 }}"}}])

    run = run_workflow(
        [calling(input={"n": "{{ trigger.data }}"}), setting("a", n="{{ steps.sub.output.output }}")], trigger_data=1
    )
    assert (run.status, run.waiting_for, run.due_at) == ("running", "child", None)

    started = child_of(run)
    assert (started.trigger_source, started.trigger_data, started.depth) == ("workflow", {"n": 1}, 1)
    drive(started)
    run = drive(run)

    assert (run.status, run.variables) == ("success", {"n": 2})
    assert output_of(run, "sub") == {"execution_id": started.pk, "status": "success", "output": 2}


def test_a_failed_child_fails_the_step(run_workflow, drive, child):
    child([{"id": "f", "type": "fail", "config": {"message": "No."}}])
    run = run_workflow([calling()])
    started = child_of(run)
    drive(started)
    run = drive(run)

    assert run.status == "failed"
    assert error_of(run, "sub")["code"] == "runtime.child_failed"
    assert error_of(run, "sub")["message"] == f"Run {started.pk} of 'child' failed: Step f: No."


def test_a_cancelled_child_fails_the_step(run_workflow, drive, child):
    child([HOOK])
    run = run_workflow([calling()])
    services.cancel_execution(execution=drive(child_of(run)))

    assert error_of(drive(run), "sub")["code"] == "runtime.child_cancelled"


def test_the_parent_need_not_wait(run_workflow, child):
    child([HOOK])

    run = run_workflow([calling(wait=False)])

    assert run.status == "success"
    assert output_of(run, "sub") == {"execution_id": child_of(run).pk, "status": "pending", "output": None}


@threads
def test_a_cancelled_parent_cancels_the_child_it_waits_for(run_workflow, drive, child):
    child([HOOK])
    waiting, not_waiting = run_workflow([calling()]), run_workflow([calling(wait=False), {**HOOK, "id": "h"}])
    for run in (waiting, not_waiting):
        drive(child_of(run))
        services.cancel_execution(execution=run)

    assert (child_of(waiting).status, child_of(not_waiting).status) == ("cancelled", "running")
    assert status_of(child_of(waiting), "hook") == "cancelled"


@threads
def test_a_parent_that_runs_out_of_time_cancels_its_child(run_workflow, child, travel):
    child([HOOK])
    run = run_workflow([calling()], timeout_seconds=60)
    travel(seconds=61)

    end_overdue(executables.get(KIND), now=clock.database_now())

    run.refresh_from_db()
    assert (run.status, child_of(run).status) == ("timeout", "cancelled")


@threads
def test_a_branch_that_lost_cancels_its_child(run_workflow, child, serve):
    child([HOOK])
    branches = [
        {"name": "a", "steps": [calling()]},
        {"name": "b", "steps": [{"id": "c", "type": "api_call", "config": {"url": serve().url}}]},
    ]

    run = run_workflow([{"id": "p", "type": "parallel", "config": {"branches": branches, "wait_for": "any"}}])

    assert (run.status, status_of(run, "p[a]/sub")) == ("success", "cancelled")
    assert [row.status for row in WorkflowExecution.objects.filter(parent=run)] in ([], ["cancelled"])


def test_a_child_whose_parent_ended_without_it_is_cancelled_when_it_goes_on(run_workflow, drive, child):
    """The parent's process may be killed between its end and the child's cancellation."""
    child([setting("a", x=1)])
    run = run_workflow([calling()])
    run.steps.update(status="cancelled")

    assert drive(child_of(run)).status == "cancelled"


def test_a_child_is_started_once(start, drive, child, take_over, monkeypatch):
    child([HOOK])
    run = start([calling()])
    original = RunStore.commit_and_park

    def die(self, **kwargs):
        monkeypatch.setattr(RunStore, "commit_and_park", original)
        raise SystemExit

    monkeypatch.setattr(RunStore, "commit_and_park", die)
    with pytest.raises(SystemExit):
        runner.run(KIND, run.pk, worker=new_worker())
    take_over(run)
    drive(run)

    assert WorkflowExecution.objects.filter(parent=run).count() == 1


def test_a_workflow_that_leads_back_to_itself_is_stopped(drive, child, run_workflow):
    child([calling("b")], name="a")
    child([calling("a")], name="b")

    run = run_workflow([calling("a")])
    for _ in range(2):
        drive(WorkflowExecution.objects.latest("id"))

    assert error_of(WorkflowExecution.objects.latest("id"), "sub")["code"] == "configuration.cycle"
    assert WorkflowExecution.objects.count() == 3
    assert run.status == "running"


def test_sub_workflows_have_a_depth(drive, child, run_workflow):
    for number in range(7):
        child([calling(f"w{number + 1}")], name=f"w{number}")

    run_workflow([calling("w0")])
    for _ in range(6):
        drive(WorkflowExecution.objects.latest("id"))

    assert WorkflowExecution.objects.count() == 6
    assert error_of(WorkflowExecution.objects.latest("id"), "sub")["code"] == "limit.depth"


@pytest.mark.parametrize("config", [{"name": "none"}, {"name": "off"}, {"version": 9}], ids=str)
def test_a_workflow_that_cannot_be_started_fails_the_step(run_workflow, child, config):
    child([])
    child([], name="off", enabled=False)

    run = run_workflow([calling(**config)])

    assert (run.status, error_of(run, "sub")["code"]) == ("failed", "configuration.workflow")


def test_a_version_may_be_pinned(start, drive, child):
    workflow = child([{"type": "stop", "config": {"output": "first"}}])
    runs = {wanted: start([calling(version=wanted)]) for wanted in ("current", "pinned", 1)}
    services.update_workflow(workflow=workflow, changes={"steps": [{"type": "stop", "config": {"output": "second"}}]})

    found = {}
    for wanted, run in runs.items():
        drive(run)
        drive(child_of(run))
        found[wanted] = output_of(drive(run), "sub")["output"]

    assert found == {"current": "second", "pinned": "first", 1: "first"}


def test_a_child_that_its_workflow_skips_ends_the_wait(run_workflow, child):
    workflow = child([HOOK], concurrency=Workflow.Concurrency.SKIP)
    services.start_execution(workflow=workflow)

    run = run_workflow([calling()])

    assert (run.status, error_of(run, "sub")["code"]) == ("failed", "runtime.child_cancelled")


# --- task -------------------------------------------------------------------------------------------------------------

TASK = {"id": "job", "type": "task", "config": {"task": "report", "args": {"n": "{{ 1 + 1 }}"}}}


@pytest.fixture
def report(serve, monkeypatch):
    server = serve({"rows": 3})
    monkeypatch.setattr(executables.get(kind_of(TaskExecution)), "http", executables.get(KIND).http)
    return ScheduledTaskFactory(name="report", task_type="api_call", config={"url": f"{server.url}/{{{{ input.n }}}}"})


def test_a_task_is_run_and_waited_for(run_workflow, drive, report, worker):
    run = run_workflow([TASK, setting("a", rows="{{ steps.job.output.body.rows }}")])
    assert (run.status, run.waiting_for) == ("running", "child")

    started = TaskExecution.objects.get()
    assert (started.trigger, started.input_data) == ("workflow", {"n": 2})
    runner.run(kind_of(TaskExecution), started.pk, worker=worker)
    run = drive(run)

    assert (run.status, run.variables) == ("success", {"rows": 3})


def test_a_task_that_fails_fails_the_step(run_workflow, drive, report, worker):
    ScheduledTask.objects.update(config={"url": "http://127.0.0.1:1/"}, retry_policy={"max_attempts": 1})
    run = run_workflow([TASK])
    runner.run(kind_of(TaskExecution), TaskExecution.objects.get().pk, worker=worker)

    assert error_of(drive(run), "job")["code"] == "runtime.task_failed"


def test_a_task_that_does_not_exist_fails_the_step(run_workflow):
    assert error_of(run_workflow([TASK]), "job")["code"] == "configuration.task"


@threads
def test_a_cancelled_run_cancels_its_task(run_workflow, report):
    run = run_workflow([TASK])

    services.cancel_execution(execution=run)

    assert TaskExecution.objects.get().status == "cancelled"


# --- no event is lost -------------------------------------------------------------------------------------------------


@threads
def test_an_event_that_comes_while_the_run_is_held_is_seen_when_it_is_let_go(start, drive, serve):
    """One branch waits, the other one holds the worker while the callback comes."""

    def answer(connection, request):
        while not WaitToken.objects.exists():
            time.sleep(0.01)
        post(WorkflowExecution.objects.get(), "p[a]/hook")
        connections.close_all()
        connection.sendall(OK)

    call = {"id": "call", "type": "api_call", "config": {"url": serve(answer).url}}

    run = drive(start([parallel(a=[HOOK], b=[call])]))

    assert run.status == "success"
    assert output_of(run, "p[a]/hook")["body"] == {"done": True}


@threads
def test_an_event_and_the_worker_letting_go_at_the_same_time_lose_nothing(start, worker):
    for _ in range(10):
        run = start([HOOK])
        store = holding(run, worker)
        at_the_same_time(
            lambda store=store: store.commit_and_park(due_at=None, waiting_for="webhook", now=clock.database_now()),
            lambda run=run: post(run),
        )

        run.refresh_from_db()
        assert run.worker is None
        assert run.due_at is not None


def holding(run, worker):
    """The store of a worker that has claimed `run` and come to the point at which it waits for its callback."""
    now = clock.database_now()
    epoch = queue.claim(run, worker=worker, now=now)
    store = RunStore(WorkflowExecution.objects.get(pk=run.pk), Claim(WorkflowExecution, run.pk, epoch, worker))
    record = store.record(HOOK, "hook")
    store.change(record, status="waiting")
    store.commit(now=now, also=lambda: links.register(record, expires_at=run.deadline_at))
    return store


def at_the_same_time(*actions):
    together = threading.Barrier(len(actions))

    def act(action):
        together.wait()
        action()
        connections.close_all()

    running = [threading.Thread(target=act, args=(action,)) for action in actions]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


@threads
def test_a_callback_and_the_end_of_the_wait_agree_on_who_was_first(start, drive, monkeypatch):
    """The worker must not decide by an older look at the row than that of a callback which was accepted."""
    run = drive(start([hook(timeout_seconds=60)]))
    StepExecution.objects.update(next_attempt_at=clock.database_now())
    queue.wake(run, now=clock.database_now())
    original = RunStore.signal_of

    def late(self, record):
        StepExecution.objects.filter(pk=record.pk).update(signal={"body": "just in time"})
        return original(self, record)

    monkeypatch.setattr(RunStore, "signal_of", late)
    run = drive(run)

    assert (run.status, output_of(run, "hook")) == ("success", {"body": "just in time"})


@threads
def test_two_children_that_end_at_the_same_time_both_reach_their_parent(start, drive, child):
    child([{"type": "stop", "config": {"output": "{{ trigger.data }}"}}])
    run = drive(start([parallel(a=[{**calling(input="a"), "id": "x"}], b=[{**calling(input="b"), "id": "y"}])]))
    children = list(WorkflowExecution.objects.filter(parent=run))

    at_the_same_time(*(lambda pk=row.pk: runner.run(KIND, pk, worker=new_worker()) for row in children))
    run = drive(run)

    assert run.status == "success"
    assert {name: branch["output"]["output"] for name, branch in output_of(run, "p").items()} == {"a": "a", "b": "b"}

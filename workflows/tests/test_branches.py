"""Containers: which branches run, side by side or in turn, and what becomes of them."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connections

from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import runner
from automation_lab.core.execution.claims import STOPPING, held
from automation_lab.core.tests.servers import OK, response
from workflows import services
from workflows.definitions import validation
from workflows.models import StepExecution, WorkflowExecution
from workflows.tests.helpers import KIND, error_of, hang, output_of, status_of

pytestmark = pytest.mark.django_db
threads = pytest.mark.django_db(transaction=True)
DELAY = {"id": "pause", "type": "delay", "config": {"seconds": 60}}


def setting(step_id, /, **values):
    return {"id": step_id, "type": "set", "config": {"values": values}}


def call(step_id, server, **config):
    return {"id": step_id, "type": "api_call", "config": {"url": f"{server.url}/{step_id}", **config}}


def each(items, *steps, **config):
    return {"id": "loop", "type": "for_each", "config": {"items": items, "steps": list(steps), **config}}


def parallel(branches, **config):
    branches = [{"name": name, "steps": steps} for name, steps in branches.items()]
    return {"id": "all", "type": "parallel", "config": {"branches": branches, **config}}


def loop(condition, *steps, **config):
    return {"id": "loop", "type": "while", "config": {"condition": condition, "steps": list(steps), **config}}


# --- condition and switch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("go", "ran", "left"), [(True, "c[then]/a", "c[else]/b"), (False, "c[else]/b", "c[then]/a")])
def test_a_condition_runs_one_of_its_branches(run_workflow, go, ran, left):
    config = {"if": "trigger.data.go", "then": [setting("a", x=1)], "else": [setting("b", x=2)]}

    run = run_workflow([{"id": "c", "type": "condition", "config": config}], trigger_data={"go": go})

    assert (run.status, output_of(run, "c")) == ("success", {"result": go})
    assert status_of(run, ran) == "success"
    assert not run.steps.filter(path=left).exists()


def test_a_condition_is_not_judged_again_after_a_wait(run_workflow, drive, travel):
    config = {"if": "vars.x == 0", "then": [setting("a", x=1), DELAY, setting("b", y=1)]}

    run = run_workflow([{"id": "c", "type": "condition", "config": config}], variables={"x": 0})
    travel(seconds=61)
    run = drive(run)

    assert (run.status, run.variables) == ("success", {"x": 1, "y": 1})


@pytest.mark.parametrize(
    ("value", "case", "ran"), [("a", 0, 0), (7, 1, 1), ("big", 2, 2), ("z", "default", "default"), (None, 3, 3)]
)
def test_a_switch_runs_the_first_case_that_fits(run_workflow, value, case, ran):
    cases = [
        {"equals": "{{ vars.wanted }}", "steps": [setting("first", x=1)]},
        {"equals": 7, "steps": [setting("second", x=2)]},
        {"when": "value == 'big'", "steps": [setting("third", x=3)]},
        {"equals": None, "steps": [setting("fourth", x=4)]},
    ]
    config = {"value": "{{ trigger.data.v }}", "cases": cases, "default": [setting("other", x=0)]}

    run = run_workflow(
        [{"id": "s", "type": "switch", "config": config}], trigger_data={"v": value}, variables={"wanted": "a"}
    )

    assert (run.status, output_of(run, "s")) == ("success", {"case": case})
    [inside] = run.steps.exclude(path="s").values_list("path", flat=True)
    assert inside.startswith(f"s[{ran}]/")


def test_a_switch_that_fits_nothing_does_nothing(run_workflow):
    config = {"value": 1, "cases": [{"equals": 2, "steps": [setting("a", x=1)]}]}

    run = run_workflow([{"id": "s", "type": "switch", "config": config}])

    assert (run.status, output_of(run, "s"), run.variables) == ("success", {"case": None}, {})


# --- for_each ---------------------------------------------------------------------------------------------------------


def test_the_steps_run_for_every_item(run_workflow):
    run = run_workflow(
        [each("trigger.data", setting("a", last="{{ item }}-{{ index }}"), collect="steps.a.output.last")],
        trigger_data=["x", "y"],
    )

    assert run.status == "success"
    assert output_of(run, "loop") == {"count": 2, "succeeded": 2, "failed": 0, "results": ["x-0", "y-1"]}
    assert sorted(run.steps.values_list("path", flat=True)) == ["loop", "loop[0]/a", "loop[1]/a"]


def test_the_results_are_those_of_the_last_step_when_nothing_is_collected(run_workflow):
    run = run_workflow([each([1, "{{ 1 + 1 }}"], setting("a", x=0), setting("b", y="{{ item }}"))])

    assert output_of(run, "loop")["results"] == [{"y": 1}, {"y": 2}]


def test_items_come_in_batches(run_workflow):
    run = run_workflow([each([1, 2, 3], setting("a", x="{{ item }}"), batch_size=2, collect="item | sum")])

    assert output_of(run, "loop")["results"] == [3, 3]


def test_no_items_are_no_rounds(run_workflow):
    run = run_workflow([each([], setting("a", x=1))])

    assert output_of(run, "loop") == {"count": 0, "succeeded": 0, "failed": 0, "results": []}


def test_an_item_that_fails_stops_the_loop(run_workflow):
    run = run_workflow([each([1, 0, 2], setting("a", x="{{ 1 / item }}"))])

    assert run.status == "failed"
    assert error_of(run, "loop")["message"] == "Item 1 failed at loop[1]/a: Division by zero."
    assert error_of(run, "loop")["code"] == "expression.type"
    assert not run.steps.filter(path="loop[2]/a").exists()


def test_an_item_that_fails_may_be_left_out(run_workflow):
    run = run_workflow(
        [each([1, 0, 2], setting("a", x="{{ 1 / item }}"), on_item_error="continue", collect="steps.a.output.x")]
    )

    assert run.status == "success"
    assert output_of(run, "loop") == {"count": 3, "succeeded": 2, "failed": 1, "results": [1.0, None, 0.5]}


def test_a_round_does_not_see_the_one_before(run_workflow):
    config = {"if": "index == 0", "then": [setting("b", x=1)]}
    inner = {"id": "c", "type": "condition", "config": config}

    run = run_workflow([each([1, 2], inner, setting("a", seen="{{ steps.b.status | default('none') }}"))])

    assert [output_of(run, f"loop[{index}]/a")["seen"] for index in (0, 1)] == ["success", "none"]


@pytest.mark.parametrize(
    ("items", "config", "code"),
    [
        ("trigger.data", {"max_items": 2}, "limit.items"),
        ("trigger.data | length", {}, "configuration.items"),
        ("trigger.data.x", {}, "expression.missing"),
    ],
)
def test_items_that_cannot_be_walked_fail_the_step(run_workflow, items, config, code):
    run = run_workflow([each(items, setting("a", x=1), **config)], trigger_data=[1, 2, 3])

    assert (run.status, error_of(run, "loop")["code"]) == ("failed", code)


def test_the_items_stay_the_same_over_a_wait(run_workflow, drive, travel):
    steps = [setting("a", list=[9]), DELAY, setting("b", last="{{ item }}")]

    run = run_workflow([each("vars.list", *steps)], variables={"list": [1, 2]})
    for _ in range(2):
        assert (run.status, run.waiting_for) == ("running", "delay")
        travel(seconds=61)
        run = drive(run)

    assert (run.status, run.variables) == ("success", {"list": [9], "last": 2})


def test_results_that_are_too_large_leave_the_counts_readable(run_workflow):
    run = run_workflow([each("trigger.data", setting("a", x="{{ item }}"))], trigger_data=["y" * 5_000] * 100)

    output = output_of(run, "loop")
    assert (output["count"], output["succeeded"], output["results"]["truncated"]) == (100, 100, True)


def test_loops_may_be_nested(run_workflow):
    inner = {"id": "inner", "type": "for_each", "config": {"items": "item", "steps": [setting("a", x="{{ item }}")]}}

    run = run_workflow([each([[1, 2], [3]], inner, collect="steps.inner.output.count")])

    assert output_of(run, "loop")["results"] == [2, 1]
    assert output_of(run, "loop[1]/inner[0]/a") == {"x": 3}


@threads
def test_items_at_a_time_overlap(run_workflow, serve):
    together = threading.Barrier(3, timeout=30)

    def answer(connection, request):
        together.wait()
        connection.sendall(OK)

    run = run_workflow([each([1, 2, 3], call("a", serve(answer)), concurrency=3)])

    assert (run.status, output_of(run, "loop")["succeeded"]) == ("success", 3)


@threads
def test_items_at_a_time_are_never_more_than_asked_for(run_workflow, serve):
    now, most, changed = 0, 0, threading.Condition()

    def answer(connection, request):
        nonlocal now, most
        with changed:
            now += 1
            most = max(most, now)
            changed.notify_all()
            changed.wait_for(lambda: most >= 2, timeout=30)
        time.sleep(0.05)  # in which one too many would come
        with changed:
            now -= 1
        connection.sendall(OK)

    run = run_workflow([each(list(range(6)), call("a", serve(answer)), concurrency=2)])

    assert (run.status, most) == ("success", 2)


# --- while ------------------------------------------------------------------------------------------------------------


def test_the_steps_are_repeated_while_the_condition_holds(run_workflow):
    run = run_workflow([loop("vars.n < 3", setting("a", n="{{ vars.n + 1 }}"))], variables={"n": 0})

    assert (run.status, run.variables, output_of(run, "loop")) == ("success", {"n": 3}, {"iterations": 3})


def test_the_condition_sees_the_last_round(run_workflow):
    run = run_workflow(
        [
            loop("steps.a.output.done | default(false) == false", setting("a", done="{{ index == 2 }}")),
            setting(
                "z", rounds="{{ steps.loop.output.iterations }}", done="{{ steps.a.output.done | default(false) }}"
            ),
        ]
    )

    assert run.variables == {"done": True, "rounds": 3}


def test_a_loop_without_end_fails_at_its_limit(run_workflow):
    run = run_workflow([loop(True, setting("a", x="{{ index }}"), max_iterations=3)])

    assert (run.status, error_of(run, "loop")["code"]) == ("failed", "limit.iterations")
    assert run.variables == {"x": 2}


def test_time_passes_between_rounds_without_a_worker(run_workflow, drive, travel):
    run = run_workflow([loop("vars.n < 2", setting("a", n="{{ vars.n + 1 }}"), delay_seconds=60)], variables={"n": 0})

    assert (run.status, run.waiting_for, run.worker, run.variables) == ("running", "delay", None, {"n": 1})

    travel(seconds=61)
    run = drive(run)

    assert (run.status, run.variables, output_of(run, "loop")) == ("success", {"n": 2}, {"iterations": 2})


def test_a_round_that_waits_is_not_judged_again(run_workflow, drive, travel):
    run = run_workflow([loop("vars.n < 1", setting("a", n=5), DELAY, setting("b", x=1))], variables={"n": 0})
    travel(seconds=61)
    run = drive(run)

    assert (run.status, run.variables) == ("success", {"n": 5, "x": 1})


# --- parallel ---------------------------------------------------------------------------------------------------------


@threads
def test_branches_overlap_and_give_their_last_output(run_workflow, serve):
    together = threading.Barrier(2, timeout=30)

    def answer(connection, request):
        together.wait()
        connection.sendall(OK)

    server = serve(answer)
    branches = {"one": [call("a", server), setting("b", x=1)], "two": [call("c", server), setting("d", y=2)]}

    run = run_workflow([parallel(branches), setting("z", sum="{{ steps.b.output.x + steps.d.output.y }}")])

    assert run.status == "success"
    assert output_of(run, "all") == {
        "one": {"status": "success", "output": {"x": 1}},
        "two": {"status": "success", "output": {"y": 2}},
    }
    assert run.variables == {"x": 1, "y": 2, "sum": 3}


@threads
def test_a_failed_branch_cancels_the_others(run_workflow, serve):
    arrived = threading.Event()

    def answer_slowly(connection, request):
        arrived.set()
        hang(connection, request)

    def refuse_then(connection, request):
        arrived.wait(30)
        connection.sendall(response(404, [], b""))

    branches = {"bad": [call("a", serve(refuse_then))], "slow": [call("b", serve(answer_slowly)), setting("c", y=1)]}

    started = time.monotonic()
    run = run_workflow([parallel(branches)])

    assert time.monotonic() - started < 8, "no longer than the slow one takes"
    assert run.status == "failed"
    assert error_of(run, "all")["message"] == "Branch bad failed at all[bad]/a: The target answered 404; expected 2xx."
    assert [status_of(run, path) for path in ("all[bad]/a", "all[slow]/b")] == ["failed", "cancelled"]
    assert run.steps.get(path="all[slow]/b").attempts.get().status == "cancelled"


@threads
def test_a_failed_branch_may_wait_for_the_others(run_workflow):
    branches = {"bad": [setting("a", x="{{ 1 / 0 }}")], "good": [setting("b", y=1)]}

    run = run_workflow([parallel(branches, on_branch_error="wait")])

    assert (run.status, status_of(run, "all[good]/b")) == ("failed", "success")


@threads
def test_a_failed_branch_may_be_left_out(run_workflow):
    branches = {"bad": [setting("a", x="{{ 1 / 0 }}")], "good": [setting("b", y=1)]}

    run = run_workflow([parallel(branches, on_branch_error="continue")])

    assert run.status == "success"
    assert output_of(run, "all")["bad"] == {"status": "failed", "output": None}


@threads
def test_the_first_branch_to_succeed_ends_a_race(run_workflow, serve):
    slow = serve(hang)
    branches = {
        "slow": [call("a", slow)],
        "waits": [DELAY, setting("b", x=1)],
        "bad": [setting("c", x="{{ 1 / 0 }}")],
        "good": [call("d", serve())],
    }

    run = run_workflow([parallel(branches, wait_for="any"), setting("z", ok=True)])

    assert (run.status, run.variables) == ("success", {"ok": True})
    found = {name: branch["status"] for name, branch in output_of(run, "all").items()}
    assert found == {"slow": "cancelled", "waits": "cancelled", "bad": "failed", "good": "success"}
    assert status_of(run, "all[waits]/pause") == "cancelled"
    assert not run.steps.filter(status__in=["pending", "running", "waiting"]).exists()


@threads
def test_a_race_that_nobody_wins_fails(run_workflow):
    branches = {"bad": [setting("a", x="{{ 1 / 0 }}")], "worse": [setting("b", x="{{ 1 / 0 }}")]}

    assert run_workflow([parallel(branches, wait_for="any")]).status == "failed"
    assert run_workflow([parallel({"one": [setting("a", x=1)]}, wait_for=2)]).status == "failed"


@threads
def test_a_race_inside_a_race_that_is_lost_is_cancelled_too(run_workflow, serve):
    slow = serve(hang)
    inner = {
        "id": "inner",
        "type": "parallel",
        "config": {"branches": [{"name": "x", "steps": [call("a", slow)]}, {"name": "y", "steps": [call("b", slow)]}]},
    }

    run = run_workflow([parallel({"deep": [inner], "quick": [call("c", serve())]}, wait_for="any")])

    assert run.status == "success"
    paths = ("all[deep]/inner", "all[deep]/inner[x]/a", "all[deep]/inner[y]/b")
    assert [status_of(run, path) for path in paths] == ["cancelled"] * 3


@threads
def test_a_branch_that_had_lost_when_the_worker_was_lost_is_not_gone_on_with(start, drive):
    run = start(
        [parallel({"slow": [setting("a", x=1), setting("b", y=1)], "good": [setting("c", z=1)]}, wait_for="any")]
    )
    states = {"all": "running", "all[slow]/a": "cancelled", "all[good]/c": "success"}
    for position, (path, status) in enumerate(states.items()):
        row = {"step_id": path[-1], "type": "set", "status": status, "position": position}
        StepExecution.objects.create(
            execution=run, path=path, **{**row, "step_id": "all" if path == "all" else row["step_id"]}
        )

    run = drive(run)

    assert (run.status, run.variables) == ("success", {})
    assert not run.steps.filter(path="all[slow]/b").exists()


@threads
def test_branches_wait_beside_each_other(run_workflow, drive, travel):
    longer = {"id": "longer", "type": "delay", "config": {"seconds": 120}}
    branches = {"one": [DELAY, setting("a", x=1)], "two": [longer, setting("b", y=1)]}

    run = run_workflow([parallel(branches)])
    assert (run.waiting_for, run.due_at) == ("delay", run.steps.get(path="all[one]/pause").next_attempt_at)

    travel(seconds=61)
    run = drive(run)
    assert (run.status, run.variables) == ("running", {"x": 1})

    travel(seconds=61)
    run = drive(run)
    assert (run.status, run.variables) == ("success", {"x": 1, "y": 1})


@threads
def test_a_decision_about_one_branch_is_kept_while_another_one_runs(start, worker, drive, serve):
    """The worker holds the run and the row of the step in question while the decision comes."""

    def answer(connection, request):
        services.decide(execution=WorkflowExecution.objects.get(), action="skip", output={"kept": True})
        connections.close_all()
        connection.sendall(OK)

    mail = {"id": "mail", "type": "email", "config": {"to": "a@example.com", "subject": "Hi"}}
    run = start([parallel({"one": [mail], "two": [call("a", serve(answer))]})])
    unknown = {"step_id": "mail", "type": "email", "status": "interrupted", "position": 1}
    StepExecution.objects.create(execution=run, path="all[one]/mail", **unknown)

    runner.run(KIND, run.pk, worker=worker)
    run = drive(run)

    assert run.status == "success"
    assert (status_of(run, "all[one]/mail"), output_of(run, "all[one]/mail")) == ("skipped", {"kept": True})


@threads
def test_a_worker_that_stops_hands_all_branches_back(start, worker, drive, serve):
    stops = True

    def answer(connection, request):
        if stops:
            held.stop_all(STOPPING)
            time.sleep(0.1)
        connection.sendall(OK)

    server = serve(answer)
    run = start([parallel({"one": [call("a", server)], "two": [call("b", server)]})])

    runner.run(KIND, run.pk, worker=worker)
    run.refresh_from_db()
    assert (run.status, run.worker) == ("running", None)

    stops = False
    run = drive(run)
    assert run.status == "success"


@threads
def test_stop_inside_a_branch_ends_the_whole_run(run_workflow, serve):
    slow = serve(hang)
    branches = {"one": [{"id": "end", "type": "stop", "config": {"output": 7}}], "two": [call("a", slow)], "w": [DELAY]}

    run = run_workflow([parallel(branches), setting("never", x=1)])

    assert (run.status, run.output, run.error_message, run.variables) == ("success", 7, "", {})
    assert status_of(run, "all") == "success"
    assert not run.steps.filter(status__in=["pending", "running", "waiting"]).exists()


@threads
def test_variables_that_branches_set_are_all_kept(run_workflow):
    branches = {f"b{number}": [setting(f"s{number}", **{f"v{number}": number})] for number in range(8)}

    run = run_workflow([parallel(branches)])

    assert run.variables == {f"v{number}": number for number in range(8)}


# --- on save ----------------------------------------------------------------------------------------------------------


def problems(*steps):
    try:
        steps = validation.normalised(list(steps))
        validation.check(steps)
    except Invalid as error:
        return [fault["field"] for fault in error.errors]
    return [f"warning: {warning['path']}" for warning in validation.warnings(steps)]


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (each("trigger.data", setting("a", x="{{ item }}")), []),
        (setting("a", x="{{ item }}"), ["steps[0].config.values.x"]),
        (each("item", setting("a", x=1)), ["steps[0].config.items"]),
        (each("trigger.data", setting("a", x=1), collect="nothing"), ["steps[0].config.collect"]),
        (each("trigger.data", setting("a", x=1), collect="steps.b.output"), ["steps[0].config.collect"]),
        (each("steps.a.output", setting("a", x=1)), ["steps[0].config.items"]),
        (each("trigger.data", setting("a", x=1), concurrency=11), ["steps[0].config.concurrency"]),
        (loop("steps.a.output.x == 1", setting("a", x=1)), []),
        (loop("steps.b.output.x == 1", setting("a", x=1)), ["steps[0].config.condition"]),
        (parallel({"A": []}), ["steps[0].config.branches[0].name"]),
        (parallel({"a": []}, wait_for="some"), ["steps[0].config.wait_for"]),
        (
            parallel({"a": [setting("a", x=1)], "b": [setting("b", y="{{ steps.a.output }}")]}),
            ["steps[0].config.branches[1].steps[0].config.values"],
        ),
        ({"type": "switch", "config": {"cases": [{"when": "value > 1"}]}}, []),
        ({"type": "switch", "config": {"cases": [{"when": "valeu > 1"}]}}, ["steps[0].config.cases[0].when"]),
        ({"type": "switch", "config": {"cases": [{"equals": "{{ x }}"}]}}, ["steps[0].config.cases[0].equals"]),
        ({"type": "switch", "config": {"cases": []}}, ["steps[0].config.cases"]),
    ],
    ids=str,
)
def test_faults_of_containers_have_their_path(step, found):
    assert problems(step) == found


def test_two_branches_of_one_name_are_refused():
    step = parallel({"a": [], "b": []})
    step["config"]["branches"][1]["name"] = "a"

    assert problems(step) == ["steps[0].config.branches[1].name"]


@pytest.mark.parametrize(
    ("container", "found"),
    [
        (parallel({"p": [setting("a", x=1)]}), []),
        (parallel({"p": [setting("a", x=1)]}, on_branch_error="continue"), ["warning: steps[1].config.values"]),
        (parallel({"p": [setting("a", x=1)]}, wait_for="any"), ["warning: steps[1].config.values"]),
        (each([1], setting("a", x=1)), ["steps[1].config.values"]),
        (loop("trigger.data.x", setting("a", x=1)), ["warning: steps[1].config.values"]),
        (
            {"id": "s", "type": "switch", "config": {"cases": [{"equals": 1, "steps": [setting("a", x=1)]}]}},
            ["warning: steps[1].config.values"],
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_what_later_steps_see_of_the_steps_inside(container, found):
    assert problems(container, setting("z", y="{{ steps.a.output.x }}")) == found

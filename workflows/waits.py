"""Events for steps that wait: a callback, an approval, the end of what a step has started.

An event locks the run, writes the step's `signal` and wakes the run. A worker that holds the run at this moment sees the
signal before it lets go of it, so no event is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from automation_lab.core import clock, expressions, json_schema
from automation_lab.core.exceptions import Conflict, Gone, Invalid, NotFound, Refused
from automation_lab.core.execution import queue
from automation_lab.core.execution.results import storable
from automation_lab.core.redaction import redact_headers
from inbox.incoming import IncomingRequest
from tasks.models import TaskExecution
from workflows import services
from workflows.definitions import tree
from workflows.links import token_hash
from workflows.models import StepExecution, WaitToken, WorkflowExecution
from workflows.running import context

Status = StepExecution.Status
MAX_COMMENT_CHARACTERS = 2_000
TASK_KEY = "step:"
MATCH_NAMES = frozenset({"trigger", "execution", "workflow", "vars", "body", "headers", "query"})


@dataclass(frozen=True)
class Answer:
    """What the caller of a callback is answered."""

    status: int = 200
    body: Any = None


# --- callbacks --------------------------------------------------------------------------------------------------------


@transaction.atomic
def receive_callback(*, token: str, request: IncomingRequest) -> Answer:
    """Hand `request` to the step that waits for it. Works once; also shortly before the step begins to wait.

    Raises NotFound for an unknown token, Gone for one that was used or is too old, Conflict if `match` is not true.
    """
    now = clock.database_now()
    link, run, step = _locked(token, WaitToken.Kind.WEBHOOK, now=now)
    config = _config_of(step, run)
    received = {
        "body": request.parsed.value if request.parsed.value is not None else _text(request.raw_body),
        "headers": {name.lower(): value for name, value in redact_headers(request.headers)},
        "query": dict(request.query_params),
    }
    _check_match(config.get("match"), run, {**received, "headers": context.Headers(request.headers)})
    _use(link, now=now)
    kept = {name: storable(part) for name, part in received.items()}  # each by itself: of a large body the rest stays
    _signal(step, {**kept, "received_at": now.isoformat()}, now=now)
    _wake(run, now=now)
    answer = (step.state or {}).get("respond") or {}
    return Answer(status=answer.get("status", 200), body=answer.get("body"))


def _check_match(source: Any, run: WorkflowExecution, received: dict[str, Any]) -> None:
    if not isinstance(source, str | bool):
        return
    names = {**context.run_names(run), "vars": run.variables, **received}
    names.pop("secrets")
    try:
        if expressions.evaluate_condition(source, names):
            return
    except expressions.ExpressionError as error:
        raise Conflict("This request cannot be matched with what the step waits for.", code="no_match") from error
    raise Conflict("This is not the request that the step waits for.", code="no_match")


def _text(raw_body: bytes) -> str | None:
    try:
        return raw_body.decode() or None
    except UnicodeDecodeError:
        return None


# --- approvals --------------------------------------------------------------------------------------------------------


@transaction.atomic
def decide_approval(
    *,
    execution: WorkflowExecution,
    approved: bool,
    user: User | AnonymousUser,
    step: str = "",
    comment: str = "",
    form: Mapping[str, Any] | None = None,
) -> WorkflowExecution:
    """Record what `user` decides about the step (its path, needed when several wait).

    The run goes on at the first rejection, or when enough have approved. Raises Conflict if no step waits or the user
    has decided already, Refused if somebody else has to decide, Invalid for the form.
    """
    now = clock.database_now()
    run = WorkflowExecution.objects.select_for_update(no_key=True).get(pk=execution.pk)
    waiting = run.steps.filter(status=Status.WAITING, type="approval", signal__isnull=True)
    record = services.the_one(list(waiting.filter(path=step) if step else waiting), step, "an approval")
    if record.next_attempt_at is not None and record.next_attempt_at <= now:
        raise Conflict("The time to decide is over.")
    _check_approver(run, record.state or {}, user)
    _vote(run, record, approved=approved, by=user.get_username(), comment=comment, form=form, now=now)
    run.refresh_from_db()
    return run


@transaction.atomic
def decide_by_token(
    *, token: str, approved: bool, name: str = "", comment: str = "", form: Mapping[str, Any] | None = None
) -> WorkflowExecution:
    """As `decide_approval`, by who holds the link; `name` is what they call themselves. Works once.

    Raises NotFound, Gone, Invalid, or Conflict while the step has not begun to wait.
    """
    now = clock.database_now()
    link, run, step = _locked(token, WaitToken.Kind.APPROVAL, now=now)
    if step.status == Status.PENDING:
        raise Conflict("The run has not come to this step yet: try again in a moment.")
    by = f"{name.strip()[:100]} (by link)" if name.strip() else "the holder of the link"
    _vote(run, step, approved=approved, by=by, comment=comment, form=form, now=now)
    _use(link, now=now)
    return run


def approval_of(token: str) -> StepExecution:
    """The step that the link is about, to be shown. Raises NotFound or Gone."""
    with transaction.atomic():
        return _locked(token, WaitToken.Kind.APPROVAL, now=clock.database_now())[2]


def _check_approver(run: WorkflowExecution, state: dict[str, Any], user: User | AnonymousUser) -> None:
    name = user.get_username()
    assignees, groups = state.get("assignees") or [], state.get("groups") or []
    is_named = name in assignees or (groups and user.groups.filter(name__in=groups).exists())
    if (assignees or groups) and not is_named:
        raise Refused("Others have to decide about this: you are not among the assignees.")
    if run.started_by == name and not state.get("allow_self"):
        raise Refused("You have started this run, so somebody else has to decide about it.")


def _vote(
    run: WorkflowExecution,
    step: StepExecution,
    *,
    approved: bool,
    by: str,
    comment: str,
    form: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    state = step.state or {}
    earlier = state.get("decisions") or []
    if any(decision["by"] == by for decision in earlier):
        raise Conflict("You have decided about this already.")
    if approved or form:
        _check_form(form or {}, state.get("form"))
    decision = {
        "decision": "approved" if approved else "rejected",
        "by": by,
        "at": now.isoformat(),
        "comment": str(storable(comment[:MAX_COMMENT_CHARACTERS])),
        "form": storable(dict(form or {})),
    }
    decisions = [*earlier, decision]
    StepExecution.objects.filter(pk=step.pk).update(state={**state, "decisions": decisions}, updated_at=now)
    if not approved or len(decisions) >= state.get("required", 1):
        _signal(step, {**decision, "decisions": decisions}, now=now)
        _wake(run, now=now)


def _check_form(form: Mapping[str, Any], schema: Any) -> None:
    if not isinstance(schema, dict | bool):
        if form:
            raise Invalid("This approval has no form.", field="form")
        return
    faults = json_schema.validate(dict(form), schema)
    if faults:
        errors = [
            {"field": f"form.{fault.path}" if fault.path else "form", "code": fault.rule, "detail": fault.message}
            for fault in faults
        ]
        raise Invalid("The form is not filled in correctly.", errors=errors)


# --- what steps have started ------------------------------------------------------------------------------------------


def child_finished(sender: Any, execution: WorkflowExecution, status: str, now: datetime, **kwargs: Any) -> None:
    """Receiver of `workflows.signals.execution_finished`: tell the step that has started this run.

    Locks go from child to parent only; what goes the other way (cancelling children) happens after commits.
    """
    parent_id, child_id = execution.parent_id, execution.pk
    if parent_id is None:
        return
    run = WorkflowExecution.objects.select_for_update(no_key=True).filter(pk=parent_id).first()
    waiting = StepExecution.objects.filter(
        execution_id=parent_id, type="sub_workflow", status=Status.WAITING, state__execution_id=child_id
    )
    step = waiting.filter(signal__isnull=True, state__wait=True).first()
    if run is not None and step is not None:
        _signal(step, end_of_run(child_id, status), now=now)
        _wake(run, now=now)


def is_forsaken(run: WorkflowExecution) -> bool:
    """Whether the step that has started `run`, to wait for it, does not wait any more."""
    if run.parent_id is None:
        return False
    starters = StepExecution.objects.filter(execution_id=run.parent_id, type="sub_workflow", state__execution_id=run.pk)
    return starters.filter(state__wait=True).exclude(status=Status.WAITING).exists()


def end_of_run(child_id: int, status: str) -> dict[str, Any]:
    """The signal about the end of a run."""
    output, message = WorkflowExecution.objects.values_list("output", "error_message").get(pk=child_id)
    return {"execution_id": child_id, "status": status, "output": output, "error_message": message}


def task_finished(sender: Any, execution: TaskExecution, now: datetime, **kwargs: Any) -> None:
    """Receiver of `tasks.signals.execution_finished`: tell the step that has started this run of a task."""
    if execution.trigger != TaskExecution.Trigger.WORKFLOW or not execution.idempotency_key.startswith(TASK_KEY):
        return
    step_id = int(execution.idempotency_key.split(":")[1])
    step = StepExecution.objects.filter(pk=step_id, type="task").first()
    if step is None:
        return
    run = WorkflowExecution.objects.select_for_update(no_key=True).get(pk=step.execution_id)
    step.refresh_from_db()
    if step.status == Status.WAITING and (step.state or {}).get("execution_id") == execution.pk:
        _signal(step, end_of_task(execution.pk, execution.status), now=now)
        _wake(run, now=now)


def end_of_task(execution_id: int, status: str) -> dict[str, Any]:
    """The signal about the end of a task's run."""
    output, message = TaskExecution.objects.values_list("output_data", "error_message").get(pk=execution_id)
    return {"execution_id": execution_id, "status": status, "output": output, "error_message": message}


# --- parts ------------------------------------------------------------------------------------------------------------


def _locked(token: str, kind: str, *, now: datetime) -> tuple[WaitToken, WorkflowExecution, StepExecution]:
    """The link, its run (locked for the transaction) and its step, if it can be used at `now`."""
    found = WaitToken.objects.select_related("step").filter(token_hash=token_hash(token), kind=kind).first()
    if found is None:
        raise NotFound("There is no such link.")
    runs = WorkflowExecution.objects.select_related("workflow", "version", "webhook")
    run = runs.select_for_update(no_key=True, of=("self",)).get(pk=found.step.execution_id)
    link = WaitToken.objects.select_related("step").get(pk=found.pk)
    step = link.step
    is_open = step.status in (Status.PENDING, Status.WAITING) and step.signal is None and not run.is_finished
    is_late = link.expires_at <= now or (step.next_attempt_at is not None and step.next_attempt_at <= now)
    if link.used_at is not None or is_late or not is_open:
        raise Gone("This link was used already, or its time is over.")
    return link, run, step


def _config_of(step: StepExecution, run: WorkflowExecution) -> dict[str, Any]:
    for item in tree.walk(run.version.steps):
        if item.step["id"] == step.step_id:
            config: dict[str, Any] = item.step.get("config") or {}
            return config
    return {}


def _use(link: WaitToken, *, now: datetime) -> None:
    WaitToken.objects.filter(pk=link.pk).update(used_at=now, updated_at=now)


def _signal(step: StepExecution, signal: dict[str, Any], *, now: datetime) -> None:
    StepExecution.objects.filter(pk=step.pk).update(signal=signal, updated_at=now)


def _wake(run: WorkflowExecution, *, now: datetime) -> None:
    if queue.wake(run, now=now):
        WorkflowExecution.objects.filter(pk=run.pk).update(waiting_for="")

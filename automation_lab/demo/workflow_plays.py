"""The demo's workflows, and how a run of each of them goes: what its steps were given and what they answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from automation_lab.demo.chance import Chance

Body = dict[str, Any]


@dataclass(frozen=True)
class Play:
    """One step of a run. An `error` is (code, message), and ends the run after `attempts`."""

    path: str
    type: str
    input: Any
    output: Any = None
    typical_ms: float = 2
    attempts: int = 1
    error: tuple[str, str] | None = None
    log: str = ""


@dataclass(frozen=True)
class WorkflowPlan:
    """`enabled` only where no step has an effect outside. `run` gets the trigger's data and whether it goes wrong."""

    name: str
    description: str
    trigger_type: str
    trigger_config: dict[str, Any]
    versions: tuple[list[Body], ...]
    enabled: bool
    run: Callable[[Body, Chance, bool], list[Play]]
    failure_share: float = 0.0
    runs_by_hand: int = 0


UNAVAILABLE = ("http.503", "The target answered 503; expected 2xx.")
TOO_SLOW = ("timeout.total", "No answer within 30 s.")


def _answer(body: Any) -> Body:
    return {"status": 200, "headers": {"content-type": "application/json"}, "body": body, "elapsed_ms": 84}


# --- Triage pushes ----------------------------------------------------------------------------------------------------

TRIAGE_BEFORE = [
    {
        "id": "summary",
        "type": "set",
        "config": {"values": {"branch": "{{ trigger.data.ref }}", "commits": "{{ trigger.data.commits | length }}"}},
    }
]
TRIAGE = [
    *TRIAGE_BEFORE,
    {
        "id": "main",
        "name": "On the main branch?",
        "type": "condition",
        "config": {
            "if": "vars.branch == 'refs/heads/main'",
            "then": [{"id": "build", "type": "set", "config": {"values": {"build": True}}}],
            "else": [{"id": "preview", "type": "set", "config": {"values": {"build": False}}}],
        },
    },
]


def triage_run(body: Body, chance: Chance, goes_wrong: bool) -> list[Play]:
    values = {"branch": body["ref"], "commits": len(body["commits"])}
    on_main = body["ref"] == "refs/heads/main"
    branch, child = ("then", "build") if on_main else ("else", "preview")
    inner = {"build": on_main}
    return [
        Play("summary", "set", {"values": values}, values),
        Play("main", "condition", {"if": "vars.branch == 'refs/heads/main'"}, {"result": on_main}),
        Play(f"main[{branch}]/{child}", "set", {"values": inner}, inner),
    ]


# --- Order processing -------------------------------------------------------------------------------------------------

ORDER = [
    {"id": "check", "type": "validate", "config": {"schema": "order"}},
    {
        "id": "charge",
        "type": "api_call",
        "config": {
            "method": "POST",
            "url": "https://billing.example.com/charges",
            "auth": {"type": "bearer", "token": "{{ secrets.BILLING_TOKEN }}"},
            "body": {"order": "{{ trigger.data.data.number }}", "amount": "{{ trigger.data.data.total }}"},
        },
    },
    {"id": "confirm", "type": "email", "config": {"template": "order_confirmation"}},
]


def order_run(body: Body, chance: Chance, goes_wrong: bool) -> list[Play]:
    order = body["data"]
    sent = {
        "method": "POST",
        "url": "https://billing.example.com/charges",
        "auth": {"type": "bearer", "token": "••••••"},
        "body": {"order": order["number"], "amount": order["total"]},
    }
    check = Play("check", "validate", {"schema": "order"}, {"valid": True})
    if goes_wrong:
        error = UNAVAILABLE if chance.happens(0.7) else TOO_SLOW
        return [check, Play("charge", "api_call", sent, typical_ms=900, attempts=3, error=error)]
    recovered = 2 if chance.happens(0.06) else 1
    charge = _answer({"charge": f"ch_{chance.hex(16)}", "state": "captured"})
    address = order["customer"]["email"]
    message = {"accepted": [address], "message_id": f"<{chance.hex(32)}@localhost>"}
    return [
        check,
        Play("charge", "api_call", sent, charge, 240, attempts=recovered, log="POST answered 200 after 84 ms."),
        Play("confirm", "email", {"template": "order_confirmation"}, message, 120, log="Sent to 1 recipients."),
    ]


# --- Look at refunds --------------------------------------------------------------------------------------------------

REFUND = [
    {"id": "amount", "type": "set", "config": {"values": {"amount": "{{ trigger.data.data.object.amount_refunded }}"}}},
    {
        "id": "large",
        "name": "Is it a large one?",
        "type": "condition",
        "config": {
            "if": "vars.amount > 20000",
            "then": [{"id": "review", "type": "set", "config": {"values": {"review": True}}}],
        },
    },
]


def refund_run(body: Body, chance: Chance, goes_wrong: bool) -> list[Play]:
    amount = body["data"]["object"]["amount_refunded"]
    plays = [
        Play("amount", "set", {"values": {"amount": amount}}, {"amount": amount}),
        Play("large", "condition", {"if": "vars.amount > 20000"}, {"result": amount > 20_000}),
    ]
    if amount > 20_000:
        plays.append(Play("large[then]/review", "set", {"values": {"review": True}}, {"review": True}))
    return plays


# --- Weekly revenue ---------------------------------------------------------------------------------------------------

REVENUE = [
    {"id": "figures", "type": "api_call", "config": {"url": "https://reports.example.com/v1/revenue?days=7"}},
    {
        "id": "pick",
        "type": "set",
        "config": {
            "values": {
                "orders": "{{ steps.figures.output.body.orders }}",
                "revenue": "{{ steps.figures.output.body.revenue }}",
            }
        },
    },
    {"id": "send", "type": "email", "config": {"template": "weekly_revenue"}},
]


def revenue_run(body: Body, chance: Chance, goes_wrong: bool) -> list[Play]:
    call: Body = {"method": "GET", "url": "https://reports.example.com/v1/revenue?days=7"}
    if goes_wrong:
        return [Play("figures", "api_call", call, typical_ms=30_000, attempts=3, error=TOO_SLOW)]
    values = {"orders": chance.randint(180, 420), "revenue": round(chance.uniform(9_000, 31_000), 2)}
    message = {"accepted": ["team@example.com"], "message_id": f"<{chance.hex(32)}@localhost>"}
    return [
        Play("figures", "api_call", call, _answer(values), 600, log="GET answered 200 after 84 ms."),
        Play("pick", "set", {"values": values}, values),
        Play("send", "email", {"template": "weekly_revenue"}, message, 110, log="Sent to 1 recipients."),
    ]


WORKFLOWS = (
    WorkflowPlan(
        name="Triage pushes",
        description="Decides which pushes are built. Has no effect outside: send a push and watch it.",
        trigger_type="webhook",
        trigger_config={"source": "github", "event_type": "push"},
        versions=(TRIAGE_BEFORE, TRIAGE),
        enabled=True,
        run=triage_run,
    ),
    WorkflowPlan(
        name="Order processing",
        description="Checks an order, charges it and confirms it by mail.",
        trigger_type="webhook",
        trigger_config={"source": "shop", "event_type": "order.created"},
        versions=(ORDER,),
        enabled=False,
        run=order_run,
        failure_share=0.07,
    ),
    WorkflowPlan(
        name="Look at refunds",
        description="Marks large refunds for a person to look at.",
        trigger_type="webhook",
        trigger_config={"source": "stripe", "event_type": "charge.refunded"},
        versions=(REFUND,),
        enabled=True,
        run=refund_run,
    ),
    WorkflowPlan(
        name="Weekly revenue",
        description="By hand, before the team meeting.",
        trigger_type="manual",
        trigger_config={},
        versions=(REVENUE,),
        enabled=False,
        run=revenue_run,
        failure_share=0.25,
        runs_by_hand=5,
    ),
)

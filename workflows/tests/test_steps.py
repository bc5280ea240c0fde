"""The plain step types and the delay: what each does, gives and refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.core import mail

from automation_lab.core.exceptions import Invalid
from automation_lab.core.signing import sign_standard_webhook
from tasks.notifying.channels import create_channel
from tasks.secrets import set_secret
from workflows.definitions import validation
from workflows.links import token_for
from workflows.steps.base import step_types
from workflows.steps.delay import _next_time_of_day
from workflows.tests.factories import MessageTemplateFactory, NamedSchemaFactory
from workflows.tests.helpers import body_of, error_of, header, output_of, status_of

pytestmark = pytest.mark.django_db


def step(key, **config):
    return {"id": "it", "type": key, "config": config}


def refused(key, **config):
    with pytest.raises(Invalid) as caught:
        validation.check(validation.normalised([step(key, **config)]))
    return [fault["field"] for fault in caught.value.errors]


def setting(step_id, /, **values):
    return {"id": step_id, "type": "set", "config": {"values": values}}


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", list(step_types))
def test_every_step_type_can_be_shown_in_a_form(key):
    step_type = step_types.get(key)
    properties = step_type.config_schema["properties"]

    assert step_type.key == key
    assert step_type.title
    assert step_type.__doc__
    assert step_type.config_schema["additionalProperties"] is False
    assert [name for name, schema in properties.items() if not schema.get("title")] == []
    inside = {path.partition("[")[0] for path in getattr(step_type, "branches", ())}
    assert inside <= step_type.unrendered <= properties.keys()


# --- log, fail, stop, respond -----------------------------------------------------------------------------------------


def test_log_writes_a_line_without_secrets(run_workflow):
    set_secret(name="TOKEN", value="very-secret-value")

    run = run_workflow(
        [
            step("log", message="Order {{ trigger.data.id }}", level="warning", data={"a": [1, "{{ secrets.TOKEN }}"]}),
            {**step("log", message="{{ 'is ' ~ secrets.TOKEN }}"), "id": "more"},
        ],
        trigger_data={"id": 7},
    )

    lines = list(run.log_lines.exclude(path="").values_list("path", "level", "text"))
    assert lines == [("it", "warning", 'Order 7 {"a":[1,"***"]}'), ("more", "info", "***")]


def test_fail_fails_with_its_code(run_workflow):
    failing = step("fail", message="No stock for {{ trigger.data.sku }}", code="validation.stock")

    run = run_workflow([failing], trigger_data={"sku": "x"})

    assert (run.status, run.error_message) == ("failed", "Step it: No stock for x")
    assert (error_of(run, "it")["code"], error_of(run, "it")["type"]) == ("validation.stock", "validation")


def test_fail_can_be_handled(run_workflow):
    run = run_workflow([{**step("fail", message="x"), "on_error": "continue"}, setting("a", x=1)])

    assert run.status == "success"


def test_stop_ends_the_run_as_a_success_with_an_output(run_workflow):
    run = run_workflow([step("stop", output={"n": "{{ 1 + 1 }}"}), setting("never", x=1)])

    assert (run.status, run.error_message, run.output, run.variables) == ("success", "", {"n": 2}, {})
    assert (status_of(run, "it"), output_of(run, "it")) == ("success", {"n": 2})
    assert (run.current_step, run.total_steps) == (1, 2)


def test_the_answer_is_the_output_of_the_run(run_workflow):
    run = run_workflow(
        [step("respond", status=201, headers={"X-Id": "7"}, body={"ok": "{{ true }}"}), setting("a", x=1)]
    )

    answer = {"status": 201, "headers": {"X-Id": "7"}, "body": {"ok": True}}
    assert (run.status, run.output, output_of(run, "it")) == ("success", answer, answer)


@pytest.mark.parametrize("key", ["stop", "respond"])
def test_a_secret_is_not_given_back(run_workflow, key):
    set_secret(name="TOKEN", value="very-secret-value")
    field = {"stop": "output", "respond": "body"}[key]

    run = run_workflow([step(key, **{field: "{{ secrets.TOKEN }}"})])

    assert (run.status, run.output, error_of(run, "it")["code"]) == ("failed", None, "expression.secret")


@pytest.mark.parametrize(
    ("key", "config", "field"),
    [
        ("respond", {"status": 99}, "steps[0].config.status"),
        ("respond", {"headers": {"Set-Cookie": "a=b"}}, "steps[0].config.headers.Set-Cookie"),
        ("fail", {}, "steps[0].config.message"),
        ("fail", {"message": "x", "code": "Bad Code"}, "steps[0].config.code"),
        ("stop", {"status": "failed"}, "steps[0].config.status"),
        ("log", {"message": "x", "level": "loud"}, "steps[0].config.level"),
    ],
)
def test_a_config_that_cannot_work_is_refused(key, config, field):
    assert refused(key, **config) == [field]


# --- delay ------------------------------------------------------------------------------------------------------------


def test_a_delay_holds_no_worker(run_workflow, drive, travel):
    run = run_workflow(
        [step("delay", seconds="{{ 30 * 2 }}"), setting("a", until="{{ steps.it.output.waited_until }}")]
    )

    assert (run.status, run.waiting_for, run.worker) == ("running", "delay", None)
    assert run.due_at == run.steps.get().next_attempt_at
    assert status_of(run, "it") == "waiting"

    travel(seconds=59)
    assert drive(run).status == "running"

    travel(seconds=2)
    run = drive(run)
    assert run.status == "success"
    waited = datetime.fromisoformat(run.variables["until"]) - run.steps.get(path="it").scheduled_at
    assert waited.total_seconds() == 60


@pytest.mark.parametrize("config", [{"seconds": 0}, {"until": "2020-01-31T09:00:00Z"}])
def test_a_delay_that_is_over_goes_on_at_once(run_workflow, config):
    run = run_workflow([step("delay", **config)])

    assert (run.status, run.epoch) == ("success", 1)


@pytest.mark.parametrize(
    ("text", "zone", "now", "expected"),
    [
        ("09:00", "UTC", "2026-01-31T08:59:59", "2026-01-31T09:00:00"),
        ("09:00", "UTC", "2026-01-31T09:00:00", "2026-02-01T09:00:00"),
        ("09:00:30", "Asia/Tokyo", "2026-01-31T23:00:00", "2026-02-01T00:00:30"),
        ("09:00", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T07:00:00"),  # the clocks go forward that night
        ("02:30", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:00:00"),  # is left out: right after
        ("02:30", "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T00:30:00"),  # comes twice: the first
        ("02:30", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
    ],
)
def test_the_next_time_of_day(text, zone, now, expected):
    found = _next_time_of_day(text, zone, datetime.fromisoformat(now).replace(tzinfo=UTC))

    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "steps[0].config"),
        ({"seconds": 1, "until": "2026-01-31T09:00:00Z"}, "steps[0].config"),
        ({"seconds": -1}, "steps[0].config.seconds"),
        ({"seconds": 366 * 86_400 + 1}, "steps[0].config.seconds"),
        ({"until": "tomorrow"}, "steps[0].config.until"),
        ({"until_time": "25:00"}, "steps[0].config.until_time"),
        ({"until_time": "09:00", "timezone": "Mars/Base"}, "steps[0].config.timezone"),
    ],
    ids=str,
)
def test_a_delay_that_cannot_be_is_refused(config, field):
    assert refused("delay", **config) == [field]


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"until": "{{ trigger.data }}"}, "configuration.config"),
        ({"until": "{{ '9999-01-01T00:00:00Z' }}"}, "limit.delay"),
        ({"until_time": "09:00", "timezone": "{{ 'Mars/Base' }}"}, "configuration.timezone"),
    ],
    ids=str,
)
def test_a_delay_that_turns_out_to_be_none_fails(run_workflow, config, code):
    run = run_workflow([step("delay", **config)], trigger_data="soon")

    assert (run.status, error_of(run, "it")["code"]) == ("failed", code)


# --- set and transform ------------------------------------------------------------------------------------------------


def test_set_reaches_into_objects(run_workflow):
    values = {"order.total": "{{ vars.order.total + 1 }}", "new.part": [1]}

    run = run_workflow([step("set", values=values)], variables={"order": {"total": 1, "id": 7}})

    assert run.variables == {"order": {"total": 2, "id": 7}, "new": {"part": [1]}}


ITEMS = [
    {"sku": "b", "qty": 2, "in": {"eu": 1}},
    {"sku": "a", "qty": 5, "in": {"eu": 2}},
    {"sku": "b", "qty": 1, "in": {"eu": 1}},
]


@pytest.mark.parametrize(
    ("operations", "output"),
    [
        ([], ITEMS),
        ([{"map": "item.qty * 2 + index"}], [4, 11, 4]),
        ([{"map": {"id": "{{ item.sku }}-{{ vars.tail }}", "n": 1}}, {"limit": 1}], [{"id": "b-x", "n": 1}]),
        ([{"where": "item.qty > 1 and index < 2"}, {"pluck": "sku"}], ["b", "a"]),
        ([{"pluck": "in.eu"}, {"unique": True}, {"sort": {"descending": True}}], [2, 1]),
        ([{"sort": "qty"}, {"pluck": "qty"}], [1, 2, 5]),
        ([{"sort": {"by": "in.eu", "descending": True}}, {"pluck": "qty"}], [5, 2, 1]),
        ([{"unique": "sku"}, {"pluck": "qty"}], [2, 5]),
        ([{"limit": 1}, {"rename": {"sku": "id"}}], [{"id": "b", "qty": 2, "in": {"eu": 1}}]),
        ([{"rename": {"in": "stock"}}, {"pluck": "stock"}, {"group_by": "eu"}], {"1": [{"eu": 1}, {"eu": 1}], "2": [{"eu": 2}]}),
        ([{"group_by": "sku"}, {"map": "item.a | length"}], 1),
    ],
    ids=str,
)  # fmt: skip
def test_transform(run_workflow, operations, output):
    run = run_workflow(
        [step("transform", input="{{ trigger.data }}", steps=operations)], trigger_data=ITEMS, variables={"tail": "x"}
    )

    assert (run.status, run.error_message) == ("success", "")
    assert output_of(run, "it") == output


def test_an_operation_that_fails_is_named(run_workflow):
    run = run_workflow([step("transform", input=[1], steps=[{"limit": 1}, {"map": "item.x"}])])

    assert error_of(run, "it")["message"].startswith("steps[1].map: `item.x`: `item` is number")


def test_a_transformation_has_limits(run_workflow):
    large = run_workflow(
        [step("transform", input="{{ trigger.data }}", steps=[{"limit": 1}])], trigger_data=[1] * 10_001
    )
    long = run_workflow(
        [step("transform", input="{{ trigger.data }}", steps=[{"map": "trigger.data | sum"}])], trigger_data=[1] * 1_000
    )

    assert error_of(large, "it")["code"] == "limit.items"
    assert error_of(long, "it")["code"] == "expression.limit"


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ({"map": "itm.x"}, "steps[0].config.steps[0].map"),
        ({"where": "item ="}, "steps[0].config.steps[0].where"),
        ({"map": {"a": "{{ nothing }}"}}, "steps[0].config.steps[0].map.a"),
        ({"map": "steps.other.output"}, "steps[0].config.steps[0].map"),
        ({"map": "item", "limit": 1}, "steps[0].config.steps[0]"),
        ({"flip": 1}, "steps[0].config.steps[0].flip"),
    ],
    ids=str,
)
def test_an_operation_that_cannot_work_is_refused(operation, field):
    assert refused("transform", input=[], steps=[operation]) == [field]


# --- validate and email -----------------------------------------------------------------------------------------------


def test_validate_reports_what_is_wrong(run_workflow):
    NamedSchemaFactory(name="order", schema={"type": "object", "required": ["id"]})
    rules = [{"if": "data.total | default(0) > 0", "message": "Nothing to pay."}]

    run = run_workflow([step("validate", schema="order", rules=rules, mode="report")], trigger_data={"total": 0})

    assert output_of(run, "it") == {
        "valid": False,
        "errors": [
            {"path": "id", "message": "`id` is required.", "rule": "required"},
            {"path": "", "message": "Nothing to pay.", "rule": "if"},
        ],
    }


@pytest.mark.parametrize(("check_formats", "status"), [(True, "failed"), (False, "success")])
def test_formats_are_checked_unless_switched_off(run_workflow, check_formats, status):
    schema = {"type": "string", "format": "email"}

    run = run_workflow([step("validate", schema=schema, check_formats=check_formats)], trigger_data="nobody")

    assert run.status == status


def test_data_that_is_not_valid_fails_the_step_with_the_first_reason(run_workflow):
    run = run_workflow([step("validate", schema={"type": "object", "required": ["id"]})], trigger_data={})

    assert run.error_message == "Step it: The data is not valid: id: `id` is required."
    assert error_of(run, "it")["detail"]["errors"][0]["path"] == "id"


def test_an_email_is_made_from_its_template(run_workflow):
    MessageTemplateFactory(
        name="order",
        to="{{ trigger.data.email }}",
        subject="Order {{ trigger.data.id }}",
        text="{% for item in trigger.data.items %}- {{ item }}\n{% endfor %}",
        html="<p>{{ trigger.data.items[0] }}</p>",
    )

    run = run_workflow(
        [step("email", template="order", cc=["b@example.com"])],
        trigger_data={"email": "a@example.com", "id": 7, "items": ["<b>", "c"]},
    )

    assert run.status == "success"
    [message] = mail.outbox
    assert (message.to, message.cc, message.subject) == (["a@example.com"], ["b@example.com"], "Order 7")
    assert message.body == "- <b>\n- c\n"
    assert message.alternatives[0].content == "<p>&lt;b&gt;</p>"
    assert message.extra_headers["Message-ID"] == output_of(run, "it")["message_id"]


def test_an_address_from_outside_is_not_evaluated(run_workflow):
    """What a sender gives as an address must not be read as an expression."""
    run = run_workflow(
        [step("email", to="{{ trigger.data }}", subject="Hi")],
        trigger_data="{{ vars.internal }}@example.com",
        variables={"internal": "leaked"},
    )

    assert (run.status, mail.outbox) == ("failed", [])
    assert "leaked" not in run.error_message


def test_a_line_break_in_a_subject_or_address_adds_no_header(run_workflow):
    run = run_workflow(
        [step("email", to="a@example.com", subject="{{ trigger.data }}", text="-")],
        trigger_data="Hi\r\nBcc: x@example.com",
    )

    assert run.status == "success"
    assert mail.outbox[0].recipients() == ["a@example.com"]
    assert mail.outbox[0].subject == "Hi Bcc: x@example.com"


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"template": "none"}, "configuration.template"),
        ({"to": "", "subject": "x"}, "configuration.recipient"),
        ({"to": "nobody", "subject": "x"}, "configuration.recipient"),
        ({"to": "a@b.example, c@d.example", "subject": "x", "max_recipients": 1}, "configuration.recipient"),
    ],
    ids=str,
)
def test_an_email_that_cannot_be_sent_fails(run_workflow, config, code):
    run = run_workflow([step("email", **config)])

    assert (run.status, error_of(run, "it")["code"], mail.outbox) == ("failed", code, [])


# --- webhook and notify -----------------------------------------------------------------------------------------------

SIGNING = "whsec_" + "c2lnbmluZy1zZWNyZXQtb2YtdGhlLWxhYg=="


def test_a_webhook_is_sent_and_signed(run_workflow, serve):
    set_secret(name="SIGNING", value=SIGNING)
    server = serve({"ok": True})
    config = {
        "url": server.url,
        "event": "order.paid",
        "payload": {"n": "{{ trigger.data }}"},
        "secret": "{{ secrets.SIGNING }}",
    }

    run = run_workflow([step("webhook", **config)], trigger_data=7)

    assert (run.status, output_of(run, "it")["status"]) == ("success", 200)
    [request] = server.requests
    assert body_of(request) == {"type": "order.paid", "n": 7}
    assert header(request, "webhook-id") == output_of(run, "it")["message_id"]
    signature = sign_standard_webhook(
        SIGNING,
        header(request, "webhook-id"),
        int(header(request, "webhook-timestamp")),
        request.partition(b"\r\n\r\n")[2],
    )
    assert header(request, "webhook-signature") == signature["webhook-signature"]
    assert SIGNING not in str(run.steps.values())


def test_a_webhook_goes_to_a_channel_whose_target_stays_hidden(run_workflow, serve):
    server = serve()
    create_channel(
        name="partner", kind="webhook", target=f"{server.url}/hidden-path", secret=set_secret(name="S", value=SIGNING)
    )

    run = run_workflow([step("webhook", channel="partner", payload={"n": 1})])

    assert run.status == "success"
    assert header(server.requests[0], "webhook-signature")
    assert "hidden-path" not in str(run.steps.values())


def test_a_webhook_without_a_usable_channel_fails(run_workflow):
    create_channel(name="chat", kind="slack", target="https://hooks.example.com/x")

    for name in ("chat", "none"):
        run = run_workflow([step("webhook", channel=name)])
        assert error_of(run, "it")["code"] == "configuration.channel"
    assert refused("webhook") == ["steps[0].config"]


@pytest.fixture
def chat(serve):
    """A server for a channel `chat`, beside a channel `post` for e-mail and one that nobody answers."""
    server = serve()
    create_channel(name="chat", kind="slack", target=f"{server.url}/x")
    create_channel(name="post", kind="email", target="team@example.com")
    create_channel(name="dead", kind="slack", target="http://127.0.0.1:1/")
    return server


def test_channels_are_notified(run_workflow, chat):
    config = {
        "channel": ["chat", "post"],
        "title": "Order {{ trigger.data }}",
        "message": "{% if true %}Paid{% endif %}",
    }

    run = run_workflow([step("notify", **config, level="success")], trigger_data=7)

    assert (run.status, output_of(run, "it")) == ("success", {"chat": {"status": "sent"}, "post": {"status": "sent"}})
    assert body_of(chat.requests[0]) == {"text": "*✅ Order 7*\nPaid"}
    assert (mail.outbox[0].to, mail.outbox[0].body) == (["team@example.com"], "Paid")


def test_a_channel_that_cannot_be_reached_is_told_apart(run_workflow, chat):
    run = run_workflow([step("notify", channel=["dead", "chat"], message="x")])

    assert (run.status, len(chat.requests)) == ("success", 1)
    assert output_of(run, "it")["dead"]["status"] == "failed"
    assert run.log_lines.filter(level="warning", path="it").count() == 1


@pytest.mark.parametrize(("channel", "code"), [("dead", "authorization.ssrf"), ("none", "configuration.channel")])
def test_a_message_that_reaches_nobody_fails_the_step(run_workflow, chat, channel, code):
    run = run_workflow([step("notify", channel=channel, message="x")])

    assert (run.status, error_of(run, "it")["code"]) == ("failed", code)


def test_the_same_thing_is_told_once_in_a_while(run_workflow, chat, travel):
    telling = step("notify", channel="chat", message="x", dedupe_key="disk {{ trigger.data }}", throttle_seconds=60)

    results = [output_of(run_workflow([telling], trigger_data=disk), "it")["chat"]["status"] for disk in "aab"]
    travel(seconds=61)
    results.append(output_of(run_workflow([telling], trigger_data="a"), "it")["chat"]["status"])

    assert results == ["sent", "throttled", "sent", "sent"]
    assert len(chat.requests) == 3


def test_a_secret_is_not_told(run_workflow, chat):
    set_secret(name="TOKEN", value="very-secret-value")

    run = run_workflow([step("notify", channel="chat", message="{{ secrets.TOKEN }}")])

    assert (run.status, error_of(run, "it")["code"], chat.requests) == ("failed", "expression.secret", [])


def test_an_approval_tells_channels_its_link(run_workflow, chat, settings):
    settings.PUBLIC_URL = "https://lab.example.com"

    run = run_workflow([step("approval", message="Pay?", notify=["chat", "dead"])])

    assert run.waiting_for == "approval"
    text = body_of(chat.requests[0])["text"]
    assert f"https://lab.example.com/approve/{token_for(run.pk, 'it', 0)}" in text
    assert "Pay?" in text

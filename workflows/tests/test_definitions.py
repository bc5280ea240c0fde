"""What can be saved as a workflow's steps, and what is said about the rest."""

from __future__ import annotations

import copy

import pytest

from automation_lab.core.exceptions import Invalid
from tasks.secrets import set_secret
from workflows.definitions import tree, validation
from workflows.tests.factories import MessageTemplateFactory, NamedSchemaFactory


def setting(step_id=None, /, **values):
    step = {"type": "set", "config": {"values": values}}
    return {"id": step_id, **step} if step_id else step


def condition(step_id, /, *then, otherwise=(), test="trigger.data.go"):
    return {"id": step_id, "type": "condition", "config": {"if": test, "then": [*then], "else": [*otherwise]}}


def faults(*steps):
    with pytest.raises(Invalid) as caught:
        validation.check(validation.normalised(list(steps)))
    return [(fault["field"], fault["detail"]) for fault in caught.value.errors]


def accepted(*steps):
    validation.check(validation.normalised(list(steps)))


# --- ids --------------------------------------------------------------------------------------------------------------


def test_steps_without_an_id_get_one_of_their_type():
    steps = [{"type": "set"}, {"type": "set", "id": "set_2"}, {"type": "set"}, condition("if", {"type": "set"})]

    found = validation.normalised(steps)

    assert [item.step["id"] for item in tree.walk(found)] == ["set", "set_2", "set_3", "if", "set_4"]
    assert "id" not in steps[0]


def test_ids_stay_once_they_are_given():
    once = validation.normalised([setting(x=1), setting(y=1)])

    assert validation.normalised(copy.deepcopy(once)) == once
    assert [step["id"] for step in validation.normalised([setting(z=1), *once])] == ["set_3", "set", "set_2"]


def test_an_id_may_not_be_taken_twice():
    assert faults(setting("a", x=1), condition("b", setting("a", x=1))) == [
        ("steps[1].config.then[0].id", "'a' is the id of steps[0] too.")
    ]


@pytest.mark.parametrize("step_id", ["A", "1a", "a-b", "", "a" * 41, 1, ["a"], None])
def test_an_id_has_its_form(step_id):
    assert faults({**setting(x=1), "id": step_id})[0][0] == "steps[0].id"


# --- shape ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ("x", "steps"),
        ({"type": "set"}, "steps"),
        ([1], "steps[0]"),
        ([{}], "steps[0].type"),
        ([{"type": 1}], "steps[0].type"),
        ([condition("a", {"kind": "set"})], "steps[0].config.then[0].type"),
        ([{**setting(x=1), "on_error": {"steps": [7]}}], "steps[0].on_error.steps[0]"),
    ],
)
def test_steps_are_a_list_of_objects_with_a_type(steps, field):
    with pytest.raises(Invalid) as caught:
        validation.normalised(steps)

    assert [fault["field"] for fault in caught.value.errors] == [field]


def test_an_unknown_type_is_named_with_the_nearest():
    assert faults({"type": "emial"}) == [("steps[0].type", "There is no step type 'emial'. Did you mean `email`?")]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"colour": "red"}, "steps[0].colour"),
        ({"enabled": "yes"}, "steps[0].enabled"),
        ({"timeout_seconds": 0}, "steps[0].timeout_seconds"),
        ({"on_error": "ignore"}, "steps[0].on_error"),
        ({"on_error": {"steps": [], "x": 1}}, "steps[0].on_error"),
        ({"output_as": "order"}, "steps[0].output_as"),
        ({"log_level": "loud"}, "steps[0].log_level"),
        ({"config": []}, "steps[0].config"),
        ({"retry": {"max_attempts": 0}}, "steps[0].retry.max_attempts"),
        ({"retry": {"max": 1}}, "steps[0].retry.max"),
        ({"retry": {"retry_if": "status == 503"}}, "steps[0].retry.retry_if"),
        ({"condition": "1 +"}, "steps[0].condition"),
        ({"condition": "trigger.data == nothing"}, "steps[0].condition"),
        ({"condition": 1}, "steps[0].condition"),
    ],
)
def test_a_fault_of_the_envelope_has_its_path(part, field):
    assert [found for found, _ in faults({**setting(x=1), **part})][:1] == [field]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "steps[0].config.values"),
        ({"values": 1}, "steps[0].config.values"),
        ({"values": {}, "value": 1}, "steps[0].config.value"),
        ({"values": {"a": ["{{ 1 + }}"]}}, "steps[0].config.values.a[0]"),
        ({"values": {"a": "{{ trigr.data }}"}}, "steps[0].config.values.a"),
        ({"values": {"a b": 1}}, "steps[0].config.values.a b"),
        ({"values": {"a": "{{ trigger.data }"}}, "steps[0].config.values.a"),
    ],
)
def test_a_fault_of_the_config_has_its_path(config, field):
    assert [found for found, _ in faults({"type": "set", "config": config})] == [field]


def test_every_fault_is_reported_at_once():
    found = faults({"type": "nope"}, setting(x="{{ a }}"), {**setting(y="{{ b }}"), "note": 1})

    assert [field for field, _ in found] == ["steps[0].type", "steps[1].config.values.x", "steps[2].note"]


def test_a_text_with_an_expression_may_stand_for_any_value():
    accepted({"type": "set", "config": {"values": "{{ trigger.data }}"}})


def test_two_hundred_steps_are_the_most():
    accepted(*[setting(x=1) for _ in range(200)])

    assert faults(*[setting(x=1) for _ in range(201)]) == [
        ("steps", "201 steps are more than 200: use several workflows.")
    ]


def test_five_levels_are_the_most():
    nested = setting(x=1)
    for level in range(4):
        nested = condition(f"c{level}", nested)

    accepted(nested)

    assert [detail for _, detail in faults(condition("deepest", nested))] == ["Steps may be nested 5 deep at the most."]


# --- what a step sees -------------------------------------------------------------------------------------------------


def test_results_of_earlier_steps_and_of_steps_around_it_are_seen():
    accepted(
        setting("a", x=1),
        condition("c", setting("b", x="{{ steps.a.output.x }}"), setting("d", x="{{ steps.b.status }}")),
        setting("e", x="{{ steps.c.output.result }}"),
    )


LATER = {
    "config.values": setting("b", x="{{ steps.later.output }}"),
    "condition": {**setting("b", x=1), "condition": "steps.later.status == 'success'"},
    "config.if": condition("b", test="steps.later.output.x == 1"),
    "config.rules[0].if": {"type": "validate", "config": {"rules": [{"if": "steps.later.output.x", "message": "-"}]}},
    "config.subject": {"type": "email", "config": {"to": "a@b.example", "subject": "{% if steps.later.output %}x{% endif %}"}},
    "config.then[0].config.values": condition("b", setting(x="{{ steps.later.output }}")),
    "on_error.steps[0].config.values": {**setting("b", x=1), "on_error": {"steps": [setting(x="{{ steps.later.error }}")]}},
}  # fmt: skip


@pytest.mark.parametrize("field", LATER)
def test_the_result_of_a_later_step_is_not_seen(field):
    [(found, detail)] = faults(LATER[field], setting("later", x=1))

    assert found == f"steps[0].{field}"
    assert "runs later or in another branch" in detail


def test_a_step_does_not_see_itself_nor_the_other_branch():
    assert len(faults(setting("a", x="{{ steps.a.output }}"))) == 1
    assert len(faults(condition("c", setting("a", x=1), otherwise=[setting("b", x="{{ steps.a.output }}")]))) == 1


def test_an_unknown_step_is_named_with_the_nearest_even_when_it_may_be_missing():
    [(field, detail)] = faults(setting("fetch_order", x=1), setting(x="{{ steps.fetch_ordr.output | default(1) }}"))

    assert field == "steps[1].config.values"
    assert detail.endswith("no step has the id 'fetch_ordr'. Did you mean `fetch_order`?")


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("steps.a.outptu", "Did you mean `output`?"),
        ("trigger.bdy", "Did you mean `body`?"),
        ("workflow.nam", "Did you mean `name`?"),
        ("execution.pk", "Known are id, attempt"),
        ("callbacks.a", "'a' is no step of type wait_for_webhook or approval"),
    ],
)
def test_an_unknown_part_is_named_with_the_known_ones(expression, hint):
    [(_, detail)] = faults(setting("a", x=1), setting(x=f"{{{{ {expression} }}}}"))

    assert hint in detail


def test_the_error_is_known_in_the_steps_that_handle_it():
    accepted({**setting("a", x=1), "on_error": {"steps": [setting(x="{{ error.code }} {{ steps.a.error }}")]}})

    assert len(faults(setting(x="{{ error.code }}"))) == 1


# --- warnings ---------------------------------------------------------------------------------------------------------


def warned(*steps):
    steps = validation.normalised(list(steps))
    validation.check(steps)
    return [warning["path"] for warning in validation.warnings(steps)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "earlier",
    [
        condition("c", setting("a", x=1)),
        {**setting("b", x=1), "on_error": {"steps": [setting("a", x=1)]}},
        {**condition("c", setting("a", x=1)), "condition": "trigger.data.go"},
    ],
)
def test_a_result_from_a_branch_that_may_not_have_run_is_warned_about(earlier):
    assert warned(earlier, setting("z", x="{{ steps.a.output }}")) == ["steps[1].config.values"]
    assert warned(earlier, setting("z", x="{{ steps.a.output | default(1) }}")) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "part", [{"condition": "trigger.data.go"}, {"enabled": False}, {"on_error": "continue"}], ids=str
)
def test_a_part_of_an_output_that_may_be_null_is_warned_about(part):
    earlier = {**setting("a", x=1), **part}

    assert warned(earlier, setting("z", x="{{ steps.a.output.x }}")) == ["steps[1].config.values"]
    assert warned(earlier, setting("z", x="{{ steps.a.status }} {{ steps.a.output }}")) == []


@pytest.mark.django_db
def test_a_secret_that_may_exist_later_is_warned_about_once_until_it_does():
    call = {"type": "api_call", "config": {"url": "https://a.example", "headers": {"X-Key": "{{ secrets.KEY }}"}}}
    again = {"type": "api_call", "config": {"url": "https://a.example", "query": {"key": "{{ secrets.KEY }}"}}}
    steps = [setting("a", x=1), call, again]

    assert warned(*steps) == ["steps[1].config.headers"]

    set_secret(name="KEY", value="very-secret-value")
    assert warned(*steps) == []


@pytest.mark.django_db
def test_a_link_without_a_public_address_is_warned_about(settings):
    send = {"type": "log", "config": {"message": "{{ callbacks.ok }}"}}
    steps = [send, {"id": "ok", "type": "approval"}]

    assert warned(*steps) == ["steps[0].config.message"]
    assert warned({"type": "approval", "config": {"notify": ["x"]}}) == ["steps[0].config"] * 2

    settings.PUBLIC_URL = "https://lab.example.com"
    assert warned(*steps) == []


@pytest.mark.django_db
@pytest.mark.parametrize("step_type", ["api_call", "webhook"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://a.example/x", "Only http and https URLs are called."),
        ("http://10.0.0.1/x", "This address is not on the public internet."),
        ("https://a.example:9999/x", "Port 9999 is not in OUTBOUND_PORTS."),
        ("https://a.example/x", ""),
        ("http://{{ vars.host }}:9999/x", ""),
    ],
)
def test_an_address_that_is_not_called_is_warned_about(step_type, url, reason):
    found = validation.warnings(validation.normalised([{"type": step_type, "config": {"url": url}}]))

    assert [warning["detail"].partition(": ")[2] for warning in found] == ([reason] if reason else [])


@pytest.mark.parametrize(
    "step",
    [
        {"type": "approval"},
        {"type": "wait_for_webhook", "config": {"timeout_seconds": 3_601}},
        {"type": "delay", "config": {"seconds": 3_601}},
    ],
    ids=str,
)
def test_a_wait_for_longer_than_the_run_is_warned_about(step):
    steps = validation.normalised([step])

    [warning] = validation.long_waits(steps, 3_600)

    assert warning["path"] == "steps[0].config"
    assert "`timeout_seconds` ends a run after 3,600" in warning["detail"]
    assert list(validation.long_waits(steps, 259_200)) == []


@pytest.mark.parametrize("seconds", ["{{ vars.n }}", 3_600], ids=str)
def test_a_wait_that_fits_or_is_not_known_is_not_warned_about(seconds):
    step = {"type": "delay", "config": {"seconds": seconds}}

    assert list(validation.long_waits(validation.normalised([step]), 3_600)) == []


@pytest.mark.django_db
def test_what_may_exist_later_is_warned_about_until_it_does():
    steps = [
        {"type": "validate", "config": {"schema": "order"}},
        {"type": "email", "config": {"template": "order_confirmation"}},
    ]

    assert warned(*steps) == ["steps[0].config", "steps[1].config"]

    NamedSchemaFactory(name="order")
    template = MessageTemplateFactory(name="order_confirmation")
    assert warned(*steps) == ["steps[1].config"]

    template.to = "a@example.com"
    template.save()
    assert warned(*steps) == []

"""JSON Schema: what is refused, how faults read, and configs before and after rendering."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automation_lab.core import json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.expressions import SecretValue
from automation_lab.core.json_schema import check_config, check_schema, validate, with_defaults

API_CALL = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "method": {"enum": ["GET", "POST", "PUT"], "default": "GET"},
        "url": {"type": "string", "format": "uri", "maxLength": 100},
        "timeout_seconds": {"type": "number", "minimum": 0.1, "maximum": 300, "default": 30},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}, "default": {}},
        "retries": {"type": ["integer", "null"]},
        "auth": {
            "type": "object",
            "properties": {"kind": {"enum": ["none", "bearer"], "default": "none"}, "token": {"type": "string"}},
            "additionalProperties": False,
        },
        "extract": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/pair"}},
    },
    "$defs": {
        "pair": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "as": {"default": "x"}},
        }
    },
}


def messages(config: object, *, schema: object = API_CALL, templated: bool = False) -> list[str]:
    return [fault.message for fault in check_config(config, schema, templated=templated)]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nope"}, "not a valid JSON Schema at `type`"),
        ({"properties": {"a": {"pattern": "(a"}}}, "at `properties.a.pattern`"),
        ({"pattern": "(?=a)b"}, "regex"),
        ({"pattern": "(a{1000}){1000}"}, "regex"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "another document"),
        ({"$ref": "https://example.com/schema"}, "another document"),
        ({"$ref": "file:///etc/passwd"}, "another document"),
        ({"$id": "https://example.com/a", "$ref": "b"}, "another document"),
        ({"$schema": "https://example.com/own"}, "unknown `$schema`"),
        ({"$ref": "#/$defs/nope"}, "not a valid JSON Schema"),
        ([], "an object, true or false"),
        (None, "an object, true or false"),
        ({"enum": ["x" * 70_000]}, "larger than 64 kB"),
        ({"const": 10**30}, "not JSON that can be stored"),
        ({"const": "\ud800"}, "not JSON that can be stored"),
    ],
)
def test_an_unusable_schema_is_refused_with_the_reason(schema, reason):
    with pytest.raises(Invalid) as caught:
        check_schema(schema)

    assert reason in caught.value.message
    assert caught.value.code == "schema"


def test_a_schema_nested_too_deep_is_refused():
    schema: dict[str, object] = {}
    for _ in range(5_000):
        schema = {"not": schema}

    with pytest.raises(Invalid):
        check_schema(schema)


@pytest.mark.parametrize("schema", [True, False, {}, API_CALL, {"$schema": "http://json-schema.org/draft-07/schema#"}])
def test_a_usable_schema_is_accepted(schema):
    check_schema(schema)


def test_a_schema_is_compiled_once_by_content():
    assert json_schema.compile({"minimum": 17}) is json_schema.compile({"minimum": 17})


def test_a_pattern_takes_linear_time():
    before = time.thread_time()
    faults = validate("a" * 100_000 + "b", {"pattern": "^(a+)+$"})

    assert [fault.rule for fault in faults] == ["pattern"]
    assert time.thread_time() - before < 0.1


def test_faults_have_a_path_a_sentence_and_the_rule():
    schema = {"properties": {"steps": {"items": {"properties": {"X-Id": {"type": "integer"}}}}}}

    (fault,) = validate({"steps": [{}, {"X-Id": "one"}]}, schema)

    assert fault == json_schema.SchemaFault(
        path='steps[1]["X-Id"]', message='`steps[1]["X-Id"]` must be a whole number.', rule="type"
    )


def test_the_number_of_faults_is_capped():
    schema = {"items": {"type": "string"}}

    assert len(validate([1] * 1_000, schema)) == 20
    assert len(validate([1] * 1_000, schema, max_errors=3)) == 3
    assert len(validate([1] * 1_000, schema, max_errors=1_000)) == 50


def test_formats_can_be_left_out():
    assert [fault.rule for fault in validate("x", {"format": "email"})] == ["format"]
    assert validate("x", {"format": "email"}, formats=False) == []


@pytest.mark.parametrize(
    ("data", "schema", "sentence"),
    [
        (5, {"type": "string"}, "The value must be text."),
        ("x", {"type": ["null", "integer", "array"]}, "The value must be a whole number or a list or null."),
        ("x", {"enum": ["a", 1, None, ""]}, 'The value must be one of a, 1, null, "".'),
        ("x", {"const": {"a": 1}}, 'The value must be {"a": 1}.'),
        ("x", {"format": "uri"}, "The value must be a complete URL such as https://example.com/path."),
        ("x", {"format": "json-pointer"}, "The value must be in the format `json-pointer`."),
        ("x", {"pattern": "^a"}, "The value must match the pattern `^a`."),
        ("x", {"minLength": 2}, "The value must be at least 2 characters long."),
        ("xx", {"maxLength": 1}, "The value must be at most 1 characters long."),
        (5, {"minimum": 6}, "The value must be at least 6."),
        (5, {"maximum": 4}, "The value must be at most 4."),
        (5, {"exclusiveMinimum": 5}, "The value must be greater than 5."),
        (5, {"exclusiveMaximum": 5}, "The value must be less than 5."),
        (5, {"multipleOf": 2}, "The value must be a multiple of 2."),
        ([], {"minItems": 1}, "The value must have at least 1 item."),
        ([1, 2], {"maxItems": 1}, "The value must have at most 1 item."),
        ([1, 1], {"uniqueItems": True}, "The value must not hold the same item twice."),
        ([1], {"contains": {"type": "string"}}, "The value must contain an item of the wanted form."),
        ({}, {"minProperties": 1}, "The value must have at least 1 properties."),
        ({"a": 1}, {"maxProperties": 0}, "The value must have at most 0 properties."),
        ({"a": 1}, {"properties": {"a": False}}, "`a` is not allowed."),
        ({"a": 1}, {"dependentRequired": {"a": ["b"]}}, "`b` is required."),
        ({"a": 1}, {"propertyNames": {"pattern": "^x"}}, "The value has a property whose name is not allowed."),
        (5, {"not": {"type": "number"}}, "The value has a form that is not allowed."),
        (5, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "The value fits none of the allowed forms."),
        (
            5,
            {"oneOf": [{"type": "number"}, {"minimum": 1}]},
            "The value fits several of the allowed forms; exactly one is wanted.",
        ),
        (5, {"oneOf": [{"type": "string"}, {"type": "number", "minimum": 9}]}, "The value must be at least 9."),
    ],
)
def test_a_fault_is_a_clear_sentence(data, schema, sentence):
    assert [fault.message for fault in validate(data, schema)] == [sentence]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_data_is_safe(data):
    for schema in (
        API_CALL,
        {"not": {}},
        {"oneOf": [{"type": "object"}, {"type": "array"}]},
        {"uniqueItems": True, "contains": {"const": 1}},
    ):
        assert all(fault.message.endswith((".", "?")) for fault in validate(data, schema))
    check_config(data, API_CALL, templated=True)


def test_data_that_json_does_not_have_is_a_fault():
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]

    for data in ("\ud800", {1: 2}, b"x", object(), {"a": [object()]}, deep):
        assert validate(data, {"type": "integer"})[0].rule in {"json", "type"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "`url` is required."),
        ({"url": "https://a.example", "method": "GTE"}, "`method` must be one of GET, POST, PUT."),
        ({"url": "https://a.example", "timeout": 5}, "`timeout` is not known here. Did you mean `timeout_seconds`?"),
        (
            {"url": "https://a.example", "auth": {"zzz": 5}},
            "`auth.zzz` is not known here. Known are `kind`, `token`.",
        ),
        ({"url": "/relative"}, "`url` must be a complete URL such as https://example.com/path."),
        ({"url": "https://a.example", "extract": [{}]}, "`extract[0].name` is required."),
        ([], "The value must be an object."),
    ],
)
def test_a_config_fault_says_what_to_do(config, sentence):
    assert messages(config) == [sentence]


@pytest.mark.parametrize(
    "config",
    [
        {"url": "{{ vars.url }}"},
        {"url": "https://a.example/" + "{{ trigger.body.id }}" + "x" * 200},
        {"url": "{{ u }}", "method": "{{ vars.method }}", "timeout_seconds": "{{ vars.t }}", "retries": "{{ r }}"},
        {"url": "{{ u }}", "headers": "{{ vars.headers }}"},
        {"url": "{{ u }}", "headers": {"X-Id": "{{ trigger.id }}"}},
        {"url": "{{ u }}", "auth": {"kind": "{{ k }}"}, "extract": ["{{ pair }}"]},
        "{{ vars.config }}",
    ],
)
def test_on_save_an_expression_stands_for_any_value(config):
    assert messages(config, templated=True) == []


def test_on_save_everything_else_is_still_checked():
    config = {
        "method": "{{ m }}",
        "timeout_seconds": 900,
        "headrs": "{{ h }}",
        "auth": {"kind": "x", "token": "{{ t }}"},
    }

    assert sorted(messages(config, templated=True)) == [
        "`auth.kind` must be one of none, bearer.",
        "`headrs` is not known here. Did you mean `headers`?",
        "`timeout_seconds` must be at most 300.",
        "`url` is required.",
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "Give `url` or `channel`."),
        ({"url": "a", "channel": "b"}, "Give only one of `url` and `channel`."),
        ({"url": "a", "cases": [{}]}, "In `cases[0]` give `to` with `subject`, `template` or `copy`."),
    ],
)
def test_who_gave_none_or_several_of_the_alternatives_is_told_which_there_are(data, sentence):
    case = {"anyOf": [{"required": ["to", "subject"]}, {"required": ["template"]}, {"required": ["copy"]}]}
    schema = {
        "oneOf": [{"required": ["url"]}, {"required": ["channel"]}],
        "properties": {"cases": {"items": case}},
    }

    assert [fault.message for fault in validate(data, schema)] == [sentence]


def test_missing_and_unknown_properties_are_named_by_their_own_path():
    faults = check_config({"auth": {"a": 1, "b": 2}}, API_CALL, templated=True)

    assert [(fault.path, fault.rule) for fault in faults] == [
        ("auth.a", "additionalProperties"),
        ("auth.b", "additionalProperties"),
        ("url", "required"),
    ]


def test_after_rendering_the_schema_holds_strictly():
    assert messages({"url": "https://a.example", "timeout_seconds": "5"}) == ["`timeout_seconds` must be a number."]
    assert messages({"url": "{{ vars.url }}"}) == ["`url` must be a complete URL such as https://example.com/path."]


DELAY = {
    "oneOf": [
        {
            "type": "object",
            "required": ["seconds"],
            "properties": {"seconds": {"type": "integer"}},
            "additionalProperties": False,
        },
        {
            "type": "object",
            "required": ["until"],
            "properties": {"until": {"format": "date-time"}},
            "additionalProperties": False,
        },
    ]
}
AUTH = {
    "properties": {"kind": {"type": "string"}},
    "if": {"properties": {"kind": {"const": "basic"}}},
    "then": {"required": ["user"]},
    "else": {"required": ["token"]},
}


@pytest.mark.parametrize(
    ("config", "schema"),
    [
        ({"seconds": "{{ s }}"}, DELAY),
        ({"until": "{{ u }}"}, DELAY),
        ({"kind": "{{ k }}", "user": "x"}, AUTH),
        (["{{ a }}", "{{ a }}"], {"uniqueItems": True}),
        (["{{ a }}"], {"contains": {"const": 5}}),
        ({"a": "{{ a }}"}, {"enum": [{"a": 1}]}),
        ("{{ a }}", {"oneOf": [{"type": "integer"}, {"type": "object"}]}),
        ("{{ a }}", {"oneOf": [{"type": "string"}, {"minLength": 1}]}),
    ],
)
def test_on_save_alternatives_that_an_expression_may_still_meet_are_accepted(config, schema):
    assert messages(config, schema=schema, templated=True) == []


@pytest.mark.parametrize(
    ("config", "schema"),
    [
        ({"secnds": "{{ s }}"}, DELAY),
        ({}, DELAY),
        ({"seconds": "soon"}, DELAY),
        ({"kind": "basic"}, AUTH),
        ({"kind": "bearer"}, AUTH),
        ([1, 1], {"uniqueItems": True}),
    ],
)
def test_on_save_alternatives_that_cannot_be_met_are_refused(config, schema):
    assert messages(config, schema=schema, templated=True) != []


def test_a_rendered_config_with_secrets_is_checked_without_showing_them():
    config = {
        "url": "https://a.example",
        "headers": {"Authorization": SecretValue("canary")},
        "auth": {"kind": SecretValue("canary")},
    }

    faults = check_config(config, API_CALL, templated=False)

    assert [fault.path for fault in faults] == ["auth.kind"]
    assert "canary" not in str(faults)


def test_defaults_fill_absent_properties_at_any_depth():
    config = {"url": "u", "auth": {"token": "t"}, "extract": [{"name": "n"}]}

    filled = with_defaults(config, API_CALL)

    assert filled == {
        "url": "u",
        "auth": {"token": "t", "kind": "none"},
        "extract": [{"name": "n", "as": "x"}],
        "method": "GET",
        "timeout_seconds": 30,
        "headers": {},
    }
    assert config == {"url": "u", "auth": {"token": "t"}, "extract": [{"name": "n"}]}


def test_defaults_are_copies_and_never_replace_what_is_given():
    with_defaults({}, API_CALL)["headers"]["X"] = "changed"

    assert with_defaults({}, API_CALL)["headers"] == {}
    assert with_defaults({"timeout_seconds": None, "method": "{{ m }}"}, API_CALL) == {
        "timeout_seconds": None,
        "method": "{{ m }}",
        "headers": {},
    }
    assert with_defaults({"a": 1}, True) == {"a": 1}
    assert with_defaults(
        {"a": {}}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "properties": {"a": {"$ref": "#/$defs/a"}}}
    ) == {"a": {}}

"""What expressions give: types, paths, operators, text."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from automation_lab.core import expressions
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.expressions.filters import FILTERS
from automation_lab.core.expressions.interpreter import RULES

CONTEXT = {
    "trigger": {
        "body": {
            "order": {"id": 42, "total": 120.5, "paid": True, "note": None, "tags": ["a", "b", "c"]},
            "email": "ada@example.com",
            "items": [{"sku": "x", "qty": 3}, {"sku": "y", "qty": 12}],
            "X-Id": "h",
        }
    },
    "vars": {"threshold": 100, "key": "email", "two": 2.0, "big": 2**53 + 1, "huge": 10**30},
    "now": datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
}


def value_of(source: str, context: object = None) -> object:
    return expressions.parse("{{ " + source + " }}").render(CONTEXT if context is None else context)


def error_of(source: str, context: object = None) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        value_of(source, context)
    return caught.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("trigger.body.order.id", 42),
        ("trigger.body.order.paid", True),
        ("trigger.body.order.note", None),
        ("trigger.body.order.tags", ["a", "b", "c"]),
        ("trigger['body']['X-Id']", "h"),
        ("trigger.body[vars.key]", "ada@example.com"),
        ("trigger.body.items[0].qty", 3),
        ("trigger.body.items.1.qty", 12),
        ("trigger.body.order.tags[-1]", "c"),
        ("trigger.body.order.tags[1:]", ["b", "c"]),
        ("trigger.body.order.tags[::-1]", ["c", "b", "a"]),
        ("trigger.body.email[:3]", "ada"),
        ("vars.two", 2.0),
        ("vars.big", 2**53 + 1),
        ("vars.big + 1", 2**53 + 2),
        ("vars.huge", 10**30),
        ("now", "2026-03-01T12:00:00Z"),
        ("1 + 2 * 3", 7),
        ("7 / 2", 3.5),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("-(1 + 2)", -3),
        ("10 * 1.5", 15.0),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("'n: ' ~ 1 ~ true ~ none ~ 2.0", "n: 1true2.0"),
        ("[1, 'a'] ~ ''", '[1,"a"]'),
        ("{'a': 1, 'b': [1, 2]}", {"a": 1, "b": [1, 2]}),
        ("(1, 2)", [1, 2]),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("'a' < 'b'", True),
        ("2 == 2.0", True),
        ("1 == true", False),
        ("1 == '1'", False),
        ("[1, {'a': none}] == [1.0, {'a': none}]", True),
        ("[true] != [1]", True),
        ("'b' in trigger.body.order.tags", True),
        ("true in [1]", False),
        ("'email' in trigger.body", True),
        ("'ada' not in trigger.body.email", False),
        ("1 and 'x'", "x"),
        ("'' or 'fallback'", "fallback"),
        ("not []", True),
        ("'yes' if vars.two > 1 else 'no'", "yes"),
        ("'yes' if vars.two < 1", None),
        ("'\\u00e9\\n'", "é\n"),
    ],
)
def test_an_expression_keeps_the_exact_type(source, expected):
    value = value_of(source)

    assert value == expected
    assert type(value) is type(expected)


def test_a_text_around_expressions_makes_text():
    source = (
        "Order {{ trigger.body.order.id }} ({{ trigger.body.order.note }}) {{ vars.two }} {{ trigger.body.order.tags }}"
    )

    text = expressions.parse(source).render(CONTEXT)

    assert text == 'Order 42 () 2.0 ["a","b","c"]'


def test_white_space_around_the_braces_makes_text():
    assert expressions.parse(" {{ vars.threshold }}").render(CONTEXT) == " 100"


def test_dashes_in_the_braces_eat_white_space():
    assert expressions.parse("a  {{- vars.threshold -}}  b").render(CONTEXT) == "a100b"


def test_braces_and_marks_inside_texts_and_objects_do_not_end_the_expression():
    assert value_of("'}}' ~ {'a': {'b': '{{'}}") == '}}{"a":{"b":"{{"}}'
    assert expressions.parse("{{ {'a': {'b': 1}}}}").render({}) == {"a": {"b": 1}}


def test_a_text_without_braces_is_untouched():
    assert expressions.render("100 % {x} {# y #} %s", CONTEXT) == "100 % {x} {# y #} %s"


def test_every_text_in_a_config_is_rendered_and_keys_are_not():
    config = {"{{ a }}": ["{{ vars.threshold }}", {"b": "n{{ vars.threshold }}"}], "c": 5, "d": None}

    assert expressions.render(config, CONTEXT) == {"{{ a }}": [100, {"b": "n100"}], "c": 5, "d": None}


def test_an_error_in_a_config_names_its_place():
    with pytest.raises(ExpressionError) as caught:
        expressions.render({"headers": [{"X-Id": "ab {{ vars.nope }}"}]}, CONTEXT)

    assert caught.value.field == 'headers[0]["X-Id"]'
    assert caught.value.position == 3
    assert caught.value.expression == "vars.nope"


def test_an_unknown_name_is_refused_with_the_nearest_or_with_all_that_are_known():
    [near, far] = expressions.check(["{{ triger.x }}", "{{ body.x }}"], ["vars", "trigger"])

    assert near.message == "`triger` is not known here. Did you mean `trigger`?"
    assert far.message == "`body` is not known here. Known are trigger, vars."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("trigger.body.ordr.id", "`trigger.body.ordr.id`: there is no `ordr` in `trigger.body`. Did you mean `order`?"),
        ("trigger.body.items[5].qty", "`trigger.body.items` has 2 items, so there is no `5`."),
        ("trigger.body.order.note.x", "`trigger.body.order.note` is null, so it has no `x`."),
        ("trigger.body.email.x", "`trigger.body.email` is text, so it has no `x`."),
        ("trigger.body.email[0]", "is text, so it has no `0`"),
        ("triger.body", "`triger` is not known here. Did you mean `trigger`?"),
        ("trigger.body['x-id']", "Did you mean `X-Id`?"),
    ],
)
def test_what_is_missing_is_an_error_with_the_path_and_a_hint(source, message):
    error = error_of(source)

    assert error.code == "expression.missing"
    assert message in error.message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nope | default('x')", "x"),
        ("trigger.nope.deep[0].er | default('x')", "x"),
        ("trigger.body.order.note | default('x')", "x"),
        ("trigger.body.order.note.deeper | default('x')", "x"),
        ("trigger.body.order.id | default('x')", 42),
        ("nope | default", ""),
        ("nope | default(also_nope) | default(3)", 3),
        ("trigger.body.order.id | default(also_nope)", 42),
        ("'' | default('x')", ""),
        ("'' | default('x', true)", "x"),
        ("nope is defined", False),
        ("nope.deep is not defined", True),
        ("trigger.body.order.note is defined", True),
        ("trigger.body.order.note is none", True),
        ("trigger.nope is undefined", True),
    ],
)
def test_default_and_defined_cover_what_is_missing(source, expected):
    assert value_of(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "1 + '1'",
        "'1' + 1",
        "true + 1",
        "none + 1",
        "[1] + 'a'",
        "'a' * 3",
        "[1] * 3",
        "{} - {}",
        "-'a'",
        "-true",
        "1 < '2'",
        "true < 2",
        "none < 1",
        "[1] < [2]",
        "1 in 5",
        "1 in 'abc'",
        "{1: 2}",
        "trigger.body[none]",
        "trigger.body[1.5]",
        "trigger.body.order.tags['a':]",
        "trigger.body.order.tags[::0]",
        "{'a': 1}[1:]",
        "1 / 0",
        "1 // 0",
        "1.5 % 0",
    ],
)
def test_kinds_are_never_mixed_silently(source):
    assert error_of(source).code in {"expression.type", "expression.missing"}


@pytest.mark.parametrize(
    "source",
    [
        "",
        "1 +",
        "a b",
        "1, 2",
        "f()",
        "trigger.body.items()",
        "a.b(1)",
        "2 ** 3",
        "[x for x in y]",
        "lambda: 1",
        "a := 1",
        "x | nope",
        "x | where",
        "x | upper(1)",
        "x | upper(*y)",
        "x | default(nope=1)",
        "x is odd",
        "x is defined(1)",
        "'\\d'",
        "'\\ud800'",
        "secrets",
        "secrets | keys",
        "secrets[vars.key]",
        'secrets["a\\ud800"]',
        'secrets["a\\x00"]',
        "a } b",
        "{'a': }",
        "loop.x if",
    ],
)
def test_everything_outside_the_language_is_refused_when_parsed(source):
    with pytest.raises(ExpressionError) as caught:
        expressions.parse("{{ " + source + " }}")

    assert caught.value.code == "expression.syntax"


@pytest.mark.parametrize(
    "name", ["__class__", "__init__", "__globals__", "items", "pop", "mro", "format", "real", "_plain"]
)
def test_python_attributes_do_not_exist(name):
    context = {"o": {}, "t": "text", "n": 5, "l": [], "f": MappingProxyType({})}

    for holder in context:
        assert error_of(f"{holder}.{name}", context).code == "expression.missing"
        assert error_of(f"{holder}['{name}']", context).code == "expression.missing"


def test_an_object_that_is_not_json_cannot_be_used():
    assert error_of("x", {"x": object()}).code == "expression.type"
    assert error_of("x.y", {"x": {"y": open}}).code == "expression.type"
    assert error_of("x ~ ''", {"x": {"y": open}}).code == "expression.type"


def test_data_is_never_parsed_again():
    context = {"x": "{{ vars.key }} {% if %} %s {0}"}

    assert expressions.render("a {{ x }}", context) == "a {{ vars.key }} {% if %} %s {0}"


def test_statements_are_refused_outside_messages():
    with pytest.raises(ExpressionError, match="only in messages"):
        expressions.parse("{% if x %}{{ x }}{% endif %}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("vars.threshold > 50", True),
        ("{{ vars.threshold > 50 }}", True),
        ("  {{ vars.threshold > 500 }} ", False),
        ("trigger.body.nope is defined", False),
        (True, True),
    ],
)
def test_a_condition_may_have_braces_or_not(source, expected):
    assert expressions.evaluate_condition(source, CONTEXT) is expected


@pytest.mark.parametrize("source", ["vars.threshold", "{{ vars.key }}", "none", "trigger.body.items", "'true'"])
def test_a_condition_must_be_true_or_false(source):
    with pytest.raises(ExpressionError, match="must be true or false"):
        expressions.evaluate_condition(source, CONTEXT)


@pytest.mark.parametrize("source", ["{{ 1 }} == {{ 1 }}", "{{ true }} and true", "", "{{ a"])
def test_a_condition_is_one_expression(source):
    with pytest.raises(ExpressionError):
        expressions.evaluate_condition(source, CONTEXT)


def test_references_name_root_path_and_whether_they_are_guarded():
    config = {
        "a": "{{ steps.fetch.output.body[0].id + vars.x[trigger.n] }}",
        "b": ["x {{ steps.other.output | default(vars.y) }}", "{{ steps.third is defined }}", "{{ broken"],
    }

    found = {(str(reference), reference.guarded) for reference in expressions.references(config)}

    assert found == {
        ("steps.fetch.output.body[0].id", False),
        ("vars.x", False),
        ("trigger.n", False),
        ("steps.other.output", True),
        ("vars.y", False),
        ("steps.third", True),
    }


def test_references_see_through_slices_and_literals():
    found = {
        str(reference) for reference in expressions.references("{{ [a.b[1:c.d].e, {'k': f}] | where('x', 'eq', g) }}")
    }

    assert found == {"a.b", "c.d", "f", "g"}


def test_check_reports_every_fault_with_place_and_hint():
    config = {"url": "{{ triger.body }}", "list": ["{{ 1 + }}", "ok {{ vars.x }}"], "t": "{% if x %}{% endif %}"}

    faults = expressions.check(config, {"trigger", "vars"})

    assert [(fault.field, fault.code) for fault in faults] == [
        ("url", "expression.name"),
        ("list[0]", "expression.syntax"),
        ("t", "expression.syntax"),
    ]
    assert "Did you mean `trigger`?" in faults[0].message


def test_check_reports_an_unknown_filter_with_a_hint():
    (fault,) = expressions.check("{{ vars.x | tojson }}", {"vars"})

    assert "Did you mean `json`?" in fault.message


def test_check_of_a_condition_works_without_braces():
    assert expressions.check_condition("vars.x > 1", {"vars"}) == []
    assert expressions.check_condition("var.x > 1", {"vars"})[0].code == "expression.name"
    assert expressions.check_condition("vars.x >", {"vars"})[0].code == "expression.syntax"
    assert expressions.check_condition(False, set()) == []


def test_templates_are_parsed_once():
    assert expressions.parse("{{ vars.cached }}") is expressions.parse("{{ vars.cached }}")


def test_the_language_has_no_more_node_kinds_than_these():
    assert {node.__name__ for node in RULES} == {
        *("Const", "Name", "Getattr", "Getitem", "List", "Tuple", "Dict", "Filter", "Test", "Compare", "Concat"),
        *("CondExpr", "Or", "And", "Not", "Neg", "Pos", "Add", "Sub", "Mul", "Div", "FloorDiv", "Mod"),
    }


def test_every_filter_is_described():
    described = {entry["name"]: entry for entry in expressions.describe_filters()}

    assert described.keys() == FILTERS.keys()
    assert described["where"]["usage"] == 'where(field, op="eq", expected=true)'
    assert all(entry["help"].endswith(".") for entry in described.values())

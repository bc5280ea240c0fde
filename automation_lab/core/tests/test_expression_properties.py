"""Random expression trees against minijinja, and random text that must never end in anything but ExpressionError."""

from __future__ import annotations

import minijinja
from hypothesis import given, settings
from hypothesis import strategies as st

from automation_lab.core import expressions
from automation_lab.core.expressions import ExpressionError

CONTEXT = {
    "a": 7,
    "b": 0,
    "f": 2.5,
    "s": "Text",
    "e": "",
    "t": True,
    "n": None,
    "l": [3, 1, 2],
    "o": {"k": 5, "s": "deep", "l": [9, 8], "o": {"k": 1}},
}
ORACLE = minijinja.Environment(undefined_behavior="strict")


@st.composite
def _joined(draw, template, *parts):
    return "(" + template.format(*(draw(part) for part in parts)) + ")"


def _typed_strategies():
    number, text, boolean, numbers = (st.deferred(lambda i=i: made[i]) for i in range(4))
    small = st.integers(0, 9).map(str)
    made = (
        st.one_of(
            small,
            st.sampled_from(["a", "b", "f", "o.k", "o['o'].k", "l[0]", "l[-1]", "o.l[1]", "1.5"]),
            _joined("{} + {}", number, number),
            _joined("{} - {}", number, number),
            _joined("{} * {}", small, number),
            _joined("{} / 4", number),
            _joined("-{}", number),
            _joined("{} if {} else {}", number, boolean, number),
            _joined("{} or {}", number, number),
            _joined("{} | abs", number),
            _joined("{} | length", text),
            _joined("{} | sum", numbers),
            _joined("({} + [1]) | max", numbers),
            _joined("({} + [1]) | first", numbers),
            _joined("o.nope | default({})", number),
        ),
        st.one_of(
            st.sampled_from(["s", "e", "o.s", "'lit'", '"quo\'te"']),
            _joined("{} ~ {}", text, text),
            _joined("{} + {}", text, text),
            _joined("{} ~ {}", text, small),
            _joined("{} | upper", text),
            _joined("{} | lower", text),
            _joined("(' ' ~ {}) | trim", text),
            _joined("{} | replace('t', 'zz')", text),
            _joined("{}[{}:]", text, small),
            _joined("{} if {} else {}", text, boolean, text),
            _joined("['x', {}] | join('-')", text),
            _joined("nope | default({})", text),
        ),
        st.one_of(
            st.sampled_from(["t", "true", "false", "n is none", "a is defined", "o.z is defined", "s is string"]),
            _joined("{} < {}", number, number),
            _joined("{} >= {}", number, number),
            _joined("{} == {}", number, number),
            _joined("{} != {}", text, text),
            _joined("{} <= {}", text, text),
            _joined("{} and {}", boolean, boolean),
            _joined("{} or {}", boolean, boolean),
            _joined("not {}", boolean),
            _joined("{} in {}", number, numbers),
            _joined("{} not in {}", text, text),
            _joined("{} == {}", numbers, numbers),
            _joined("{} < {} < {}", number, number, number),
        ),
        st.one_of(
            st.sampled_from(["l", "o.l", "[]", "[1, 2]"]),
            _joined("[{}, {}]", number, number),
            _joined("{} + {}", numbers, numbers),
            _joined("{}[1:]", numbers),
            _joined("{}[::-1]", numbers),
            _joined("{} | sort", numbers),
            _joined("{} | reverse", numbers),
        ),
    )
    return made


@settings(max_examples=300, deadline=None)
@given(st.one_of(_typed_strategies()).filter(lambda source: len(source) < 600))
def test_random_trees_give_what_minijinja_gives(source):
    expected = ORACLE.eval_expr(source, **CONTEXT)

    try:
        value = expressions.parse_expression(source).evaluate(CONTEXT, expressions.Budget())
    except ExpressionError as error:
        assert error.code == "expression.limit"
        return

    # minijinja gives back whole floats as integers and iterators as lists
    assert value == (list(expected) if isinstance(value, list) else expected)
    assert isinstance(value, bool) == isinstance(expected, bool)


WORDS = """
    a b o.k l[0] [ ] ( ) { } {{ }} {% %} {# #} if else elif endif for in endfor and or not is defined none | . , : ; ~
    + - * / // ** % == != < > <= >= = ' " \\ \\u12 \\x 1 0 1.5 1e5 0x1 99999999999999999999 'x' "y" upper where sort
    default json date from_json split join truncate round get __class__ __init__ .__class__ [0] [:] () *x **x secrets
    secrets.x loop true null \0 \ud800 é 😀 %s {0} {{- -}} {%- -%} {{a}}
"""
FRAGMENTS = st.sampled_from([*WORDS.split(), "\n", "{{ a | "])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(FRAGMENTS, max_size=12).map(" ".join) | st.lists(FRAGMENTS, max_size=8).map("".join) | st.text(max_size=40)
)
def test_random_text_never_raises_anything_else(text):
    for attempt in (
        lambda: expressions.render(text, CONTEXT),
        lambda: expressions.render("{{ " + text + " }}", CONTEXT),
        lambda: expressions.evaluate_condition(text, CONTEXT),
        lambda: expressions.render_message(text, CONTEXT),
        lambda: expressions.render_message("{% if " + text + " %}{% endif %}", CONTEXT, html=True),
    ):
        try:
            attempt()
        except ExpressionError as error:
            assert error.code.startswith("expression.")
    expressions.references(text)
    expressions.check(text, {"a"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(expressions.FILTERS)), JSON, st.lists(JSON, max_size=3))
def test_no_filter_raises_anything_else_on_any_data(name, value, arguments):
    source = f"x | {name}" + (f"({', '.join(f'y[{index}]' for index in range(len(arguments)))})" if arguments else "")

    try:
        expressions.parse_expression(source).evaluate({"x": value, "y": arguments}, expressions.Budget())
    except ExpressionError as error:
        assert "expression." in error.code


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_a_path_gives_the_very_value_and_rendering_changes_nothing(value):
    assert expressions.parse("{{ x.y[0] }}").render({"x": {"y": [value]}}) is value

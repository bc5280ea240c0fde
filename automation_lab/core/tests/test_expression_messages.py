"""Message templates: conditions, loops, comments, escaping, and nothing else."""

from __future__ import annotations

import pytest

from automation_lab.core import expressions
from automation_lab.core.expressions import ExpressionError, check_message, message_references, render_message

CONTEXT = {"name": "Ada & <b>", "items": [{"sku": "x", "qty": 1}, {"sku": "y", "qty": 2}], "total": 0, "none": None}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Hello {{ name }}!", "Hello Ada & <b>!"),
        ("{{ total }}", "0"),
        ("[{{ none }}]", "[]"),
        ("{% if total %}a{% elif items %}b{% else %}c{% endif %}", "b"),
        ("{% if total %}a{% else %}c{% endif %}", "c"),
        ("{% if total %}a{% endif %}", ""),
        ("{% for i in items %}{{ loop.index }}:{{ i.sku }}{% if not loop.last %}, {% endif %}{% endfor %}", "1:x, 2:y"),
        ("{% for i in [1,2] %}{% for j in [3] %}{{ loop.length }}{{ i }}{{ j }} {% endfor %}{% endfor %}", "113 123 "),
        ("{% for i in [] %}x{% endfor %}", ""),
        ("a{# {{ hidden }} {% if #}b", "ab"),
        ("a {%- if true -%} b {%- endif -%} c", "abc"),
        ("{% for p in {'a': 1} | items %}{{ p.key }}={{ p.value }}{% endfor %}", "a=1"),
        ("{{ '{% if %}' }}", "{% if %}"),
        ("a\n{% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("a\n  {# note #}\nb", "a\nb"),
        ("x {% if true %}y{% endif %}\nz", "x y\nz"),
    ],
)
def test_a_message_renders(source, expected):
    assert render_message(source, CONTEXT) == expected


def test_values_are_escaped_in_html_and_the_template_is_not():
    assert render_message("<p>{{ name }}</p>", CONTEXT, html=True) == "<p>Ada &amp; &lt;b&gt;</p>"
    assert (
        render_message("<a title='{{ q }}'>", {"q": "' onclick='x"}, html=True) == "<a title='&#x27; onclick=&#x27;x'>"
    )


@pytest.mark.parametrize(
    "source",
    [
        "{% if a %}",
        "{% for i in items %}",
        "{% endif %}",
        "{% else %}",
        "{% if a %}{% endfor %}",
        "{% if a %}{% else %}{% else %}{% endif %}",
        "{% for i in items %}{% else %}{% endfor %}",
        "{% for i, j in items %}{% endfor %}",
        "{% for secrets in items %}{% endfor %}",
        "{% for loop in items %}{% endfor %}",
        "{% if %}{% endif %}",
        "{% if a %}{% endif a %}",
        "{% set a = 1 %}",
        "{% include 'x' %}",
        "{% macro m() %}{% endmacro %}",
        "{% raw %}{% endraw %}",
        "{% extends 'x' %}",
        "{% if a ",
        "{{ a ",
        "{# a ",
        "{{ a | safe }}",
        "{% if a() %}{% endif %}",
    ],
)
def test_everything_else_is_refused_when_parsed(source):
    (fault,) = check_message(source, {"a", "items"})

    assert fault.code == "expression.syntax"


def test_a_loop_needs_a_list():
    with pytest.raises(ExpressionError, match="needs a list, not object"):
        render_message("{% for i in o %}{% endfor %}", {"o": {}})


def test_a_missing_value_names_its_position():
    with pytest.raises(ExpressionError) as caught:
        render_message("Dear {{ nam }}", CONTEXT)

    assert caught.value.position == 5
    assert "Did you mean `name`?" in caught.value.message


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in n %}{% for j in n %}x{% endfor %}{% endfor %}",
        "{% for i in n %}" + "x" * 5_000 + "{% endfor %}",
        "{% for i in n %}{{ text }}{% endfor %}",
        "{% if true %}" * 30 + "{% endif %}" * 30,
        "{{ 1 }}" * 1_000,
        "{#" * 50_000,
        "{%" * 50_000,
        "{{" * 50_000,
        "x" * 300_000,
    ],
)
def test_a_message_has_the_same_limits(source):
    with pytest.raises(ExpressionError):
        render_message(source, {"n": list(range(1_000)), "text": "x" * 100_000})


def test_references_leave_out_the_loop_names():
    source = "{% for i in steps.a.output %}{{ i.x }}{{ loop.index }}{{ vars.y }}{% endfor %}{% if i %}{% endif %}"

    assert {str(reference) for reference in message_references(source)} == {"steps.a.output", "vars.y", "i"}


def test_check_knows_the_loop_names_inside_the_loop_only():
    source = "{% for i in items %}{{ i }}{{ loop.index }}{% endfor %}{{ i }}"

    (fault,) = check_message(source, {"items"})

    assert (fault.code, fault.position) == ("expression.name", source.rindex("{{"))


def test_a_message_is_parsed_once():
    assert expressions.parse_message("Hi {{ name }}") is expressions.parse_message("Hi {{ name }}")

"""A secret can be sent but not shown: its tag survives everything, and nothing else gets its value out."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping

import pytest

from automation_lab.core import expressions
from automation_lab.core.expressions import ExpressionError, SecretValue, contains_secret, redact, reveal

PLAIN = "hunter2-canary"


class LazySecrets(Mapping[str, object]):
    """Opens a secret only when it is asked for."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __getitem__(self, name: str) -> object:
        if name not in self:
            raise KeyError(name)
        self.opened.append(name)
        return {"login": {"user": "ada", "password": PLAIN}, "API_KEY": PLAIN}[name]

    def __contains__(self, name: object) -> bool:
        return name in {"API_KEY", "login"}

    def __iter__(self) -> Iterator[str]:
        return iter(["API_KEY", "login"])

    def __len__(self) -> int:
        return 2


@pytest.fixture
def context():
    return {"secrets": LazySecrets(), "vars": {"x": "x", "list": [1], "held": [SecretValue(PLAIN)]}}


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("{{ secrets.API_KEY }}", PLAIN),
        ("{{ secrets['API_KEY'] }}", PLAIN),
        ("Bearer {{ secrets.API_KEY }}", f"Bearer {PLAIN}"),
        ("{{ 'Bearer ' ~ secrets.API_KEY }}", f"Bearer {PLAIN}"),
        ("{{ 'Bearer ' + secrets.API_KEY }}", f"Bearer {PLAIN}"),
        ("{{ secrets.API_KEY | upper }}", PLAIN.upper()),
        ("{{ secrets.API_KEY | b64encode }}", "aHVudGVyMi1jYW5hcnk="),
        ("{{ secrets.API_KEY | length }}", len(PLAIN)),
        ("{{ secrets.API_KEY | split('-') }}", ["hunter2", "canary"]),
        ("{{ (secrets.API_KEY | split('-'))[0] }}", "hunter2"),
        ("{{ secrets.login.password }}", PLAIN),
        ("{{ secrets.login | json }}", json.dumps({"user": "ada", "password": PLAIN}, separators=(",", ":"))),
        ("{{ [secrets.API_KEY, 'b'] | join(':') }}", f"{PLAIN}:b"),
        ("{{ {'k': [secrets.API_KEY]} | json }}", f'{{"k":["{PLAIN}"]}}'),
        ("{{ {'k': [secrets.API_KEY]} ~ '' }}", f'{{"k":["{PLAIN}"]}}'),
        ("{{ 'x' | replace('x', secrets.API_KEY) }}", PLAIN),
        ("{{ nope | default(secrets.API_KEY) }}", PLAIN),
        ("{{ secrets.API_KEY if vars.x == 'x' else '' }}", PLAIN),
        ("{{ vars.held ~ '' }}", f'["{PLAIN}"]'),
        ("{{ vars.held[0] ~ '!' }}", f"{PLAIN}!"),
    ],
)
def test_the_tag_survives(source, plain, context):
    value = expressions.render(source, context)

    assert isinstance(value, SecretValue)
    assert reveal(value) == plain
    assert redact(value) == "***"


def test_lists_and_objects_keep_the_tag_inside(context):
    value = expressions.render({"headers": {"a": "Bearer {{ secrets.API_KEY }}", "b": "{{ vars.x }}"}}, context)

    assert contains_secret(value)
    assert redact(value) == {"headers": {"a": "***", "b": "x"}}
    assert reveal(value) == {"headers": {"a": f"Bearer {PLAIN}", "b": "x"}}


@pytest.mark.parametrize(
    "source",
    [
        "{{ secrets.API_KEY == 'x' }}",
        "{{ [secrets.API_KEY] == ['x'] }}",
        "{{ secrets.API_KEY < 'x' }}",
        "{{ secrets.API_KEY in ['x'] }}",
        "{{ 'h' in secrets.API_KEY }}",
        "{{ 1 if secrets.API_KEY else 2 }}",
        "{{ secrets.API_KEY and 1 }}",
        "{{ not secrets.API_KEY }}",
        "{{ secrets.API_KEY is string }}",
        "{{ secrets.API_KEY is none }}",
        "{{ vars.held | join }}",
        "{{ vars.held | contains('x') }}",
    ],
)
def test_a_secret_decides_nothing(source, context):
    with pytest.raises(ExpressionError) as caught:
        expressions.render(source, context)

    assert caught.value.code == "expression.secret"


def test_a_secret_is_no_condition(context):
    with pytest.raises(ExpressionError, match="secret"):
        expressions.evaluate_condition("secrets.API_KEY | contains('h')", context)


def test_whether_a_secret_exists_may_be_asked(context):
    assert expressions.evaluate_condition("secrets.API_KEY is defined", context)
    assert not expressions.evaluate_condition("secrets.NOPE is defined", context)


@pytest.mark.parametrize(
    "source",
    [
        "{{ secrets.API_KEY | int }}",
        "{{ secrets.API_KEY | from_json }}",
        "{{ secrets.API_KEY | date }}",
        "{{ secrets.API_KEY | b64decode }}",
        "{{ secrets.API_KEY - 1 }}",
        "{{ secrets.login.passwort }}",
        "{{ secrets.API_KEY.x }}",
        "{{ vars[secrets.API_KEY] }}",
        "{{ vars.list[secrets.API_KEY:] }}",
    ],
)
def test_no_error_shows_a_secret(source, context):
    with pytest.raises(ExpressionError) as caught:
        expressions.render(source, context)

    shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert "canary" not in shown
    assert "password" not in shown


def test_a_missing_secret_hints_at_the_names_only(context):
    with pytest.raises(ExpressionError, match="Did you mean `API_KEY`"):
        expressions.render("{{ secrets.APIKEY }}", context)

    assert context["secrets"].opened == []


def test_only_the_secrets_that_are_used_are_opened(context):
    expressions.render("{{ secrets.API_KEY }}", context)

    assert context["secrets"].opened == ["API_KEY"]


def test_a_secret_cannot_leak_by_accident():
    secret = SecretValue(PLAIN)

    assert f"{secret} {secret!r} {secret:>20}" == "*** *** ***"
    assert str([secret]) == "[***]"
    assert copy.deepcopy({"a": secret})["a"] is secret
    for store in (json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            store(secret)


def test_a_message_refuses_secrets(context):
    with pytest.raises(ExpressionError) as caught:
        expressions.render_message("Key: {{ secrets.API_KEY }}", context)

    assert caught.value.code == "expression.secret"


def test_references_name_the_secrets_that_are_used():
    found = expressions.references({"a": "{{ secrets.API_KEY ~ secrets['other'] }}"})

    assert {str(reference) for reference in found} == {"secrets.API_KEY", "secrets.other"}

"""Message templates and schemas: what their steps name them by is given once."""

from __future__ import annotations

import copy

import pytest

from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.tests.helpers import together
from workflows import named
from workflows.models import MessageTemplate, NamedSchema

TEMPLATE = {"name": "order", "subject": "Your order"}
SCHEMA = {"name": "order", "schema": {"type": "object"}}


@pytest.mark.parametrize("part", ["to", "subject", "text", "html"])
def test_a_message_template_that_cannot_be_read_is_refused(part):
    with pytest.raises(Invalid) as caught:
        named.check_template({part: "{{ trigr.x }}"})

    assert caught.value.errors[0]["field"] == part
    named.check_template({part: "{{ trigger.data.x }} {{ item }} {{ callbacks.ok }}"})


def test_a_schema_that_is_none_is_refused():
    with pytest.raises(Invalid):
        named.check_schema({"type": "nothing"})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("kind", "address", "body", "saved", "refused"),
    [
        ("api", "/v1/workflows/templates", TEMPLATE, 201, 400),
        ("api", "/v1/workflows/schemas", SCHEMA, 201, 400),
        ("browser", "/admin/workflows/messagetemplate/add/", TEMPLATE, 302, 200),
        ("browser", "/admin/workflows/namedschema/add/", {**SCHEMA, "schema": '{"type": "object"}'}, 302, 200),
    ],
)
def test_of_saves_that_race_for_one_name_one_is_kept_and_the_others_are_told(
    request, kind, address, body, saved, refused
):
    clients = [copy.copy(request.getfixturevalue(kind)) for _ in range(6)]

    answers = together([lambda each=each: each.post(address, body) for each in clients])

    assert sorted(answer.status_code for answer in answers) == sorted([saved, *[refused] * 5])
    assert [b"exists" in answer.content for answer in answers].count(True) == 5
    assert MessageTemplate.objects.count() + NamedSchema.objects.count() == 1

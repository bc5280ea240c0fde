"""The OpenAPI document: it builds without a warning, and every change of it is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.validation import validate_schema

from automation_lab.core.api.problems import CONTENT_TYPE

SNAPSHOT = Path(__file__).with_name("openapi.yaml")
RECEIVING = "/v1/webhooks/inbox/{source}"
RENEW = "manage.py spectacular --file automation_lab/tests/openapi.yaml"


@pytest.fixture(scope="module")
def document():
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_the_committed_one(document):
    made = OpenApiYamlRenderer().render(document, renderer_context={}).decode()

    assert made == SNAPSHOT.read_text(), f"The API has changed. If that is meant: {RENEW}"


def test_the_document_is_valid(document):
    validate_schema(document)


def test_every_operation_documents_its_problems(document):
    for path, method, operation in operations(document):
        if operation.get("security") == [] or path.startswith(RECEIVING):
            continue  # answers senders, who have no token
        wanted = {"400", "401", "403", "405", "503"} | ({"404"} if "{" in path else set())
        if "requestBody" in operation:
            wanted |= {"413", "415"}
        assert wanted <= set(operation["responses"]), f"{method} {path}"


def test_problems_have_their_media_type(document):
    for name, response in document["components"]["responses"].items():
        assert list(response["content"]) == [CONTENT_TYPE], name
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and "content" in response:
                assert CONTENT_TYPE in response["content"], f"{method} {path} {status}"


def test_operations_have_names_of_their_own_and_a_description(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(names) == len(set(names))
    assert not [name for name in names if name[-1].isdigit()]
    assert not [path for path, _, operation in operations(document) if not operation.get("description")]


def test_paths_have_version_one_and_no_trailing_slash(document):
    assert not [path for path in document["paths"] if not path.startswith("/v1/") or path.endswith("/")]

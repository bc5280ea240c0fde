"""What the workflow tests say often."""

from __future__ import annotations

import json
import re

from django.db import connection

from automation_lab.core.execution.hints import kind_of
from workflows.models import WorkflowExecution

KIND = kind_of(WorkflowExecution)


def new_worker() -> int:
    """A worker's row with a heartbeat of this moment."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        return cursor.fetchone()[0]


class Script:
    """Answers requests with the given responses, one after the other; the last one again and again."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, connection, request):
        connection.sendall(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def hang(connection, request):
    """A target that does not answer, until its caller gives up."""
    connection.recv(1)


def header(request: bytes, name: str) -> str:
    """The value of a header field of a request that a StubServer keeps."""
    found = re.search(rb"(?im)^" + name.encode() + rb": (.*?)\r$", request)
    return found[1].decode() if found else ""


def body_of(request: bytes):
    return json.loads(request.partition(b"\r\n\r\n")[2])


def status_of(run, path):
    return run.steps.get(path=path).status


def output_of(run, path):
    return run.steps.get(path=path).output


def error_of(run, path):
    return run.steps.get(path=path).error

"""The task type `api_call`: one HTTP request."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions
from automation_lab.core.expressions import ExpressionError
from tasks.handlers import http_call
from tasks.handlers.base import TaskContext, TaskHandler


class ApiCallHandler(TaskHandler):
    """Send one HTTP request; the output is `{"status", "headers", "body", "elapsed_ms"}` and the `extract`ed names."""

    key = "api_call"
    config_schema = http_call.CONFIG_SCHEMA
    unrendered = http_call.UNRENDERED

    def check(self, config: dict[str, Any]) -> list[ExpressionError]:
        extract = config.get("extract")
        faults = []
        for name, source in extract.items() if isinstance(extract, dict) else ():
            for error in expressions.check_condition(source, {"response"}) if isinstance(source, str) else ():
                error.field = f"extract.{name}"
                faults.append(error)
        return faults

    def run(self, *, config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        answer = http_call.call(config, context.call)
        context.log("info", f"{config['method']} answered {answer['status']} after {answer['elapsed_ms']} ms.")
        return {**answer, **extracted(config["extract"], answer)}


def extracted(extract: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
    """The values that `extract` names, taken from the answer as `response`."""
    return {name: expressions.parse_condition(source).render({"response": answer}) for name, source in extract.items()}

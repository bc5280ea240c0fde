"""The step type `api_call`: one HTTP request, by the same code as the task type."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.results import MAX_OUTPUT_BYTES, storable
from automation_lab.core.safe_json import dump
from tasks.handlers import http_call
from tasks.handlers.api_call import extracted
from workflows.steps.base import Fault, StepContext, StepType, condition_faults, url_warnings


class ApiCallStep(StepType):
    """Send one HTTP request; the output is `{"status", "headers", "body", "elapsed_ms"}` and the `extract`ed names."""

    key = "api_call"
    title = "HTTP request"
    config_schema = http_call.CONFIG_SCHEMA
    has_effect = True
    retries = True
    unrendered = http_call.UNRENDERED

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        answer = http_call.call(config, context.call())
        context.log("info", f"{config['method']} answered {answer['status']} after {answer['elapsed_ms']} ms.")
        output = {**answer, **extracted(config["extract"], answer)}
        if len(dump(output).encode("utf-8", "surrogatepass")) > MAX_OUTPUT_BYTES:
            context.log(
                "warning", "The answer is too large to be kept whole: `extract` what later steps need of its body."
            )
            output["body"] = storable(output["body"])
        return output

    def is_safe_to_repeat(self, config: dict[str, Any]) -> bool:
        return http_call.is_safe_to_repeat(config)

    def warnings(self, config: dict[str, Any]) -> list[str]:
        return url_warnings(config.get("url"))

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        extract = config.get("extract")
        if not isinstance(extract, dict):
            return []
        return [
            fault
            for name, source in extract.items()
            if isinstance(source, str) and not expressions.has_expression(str(name))
            for fault in condition_faults(source, {"response"}, f"extract.{name}")
        ]

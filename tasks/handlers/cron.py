"""The task type `cron`: a job that the server itself offers, such as `prune`."""

from __future__ import annotations

from typing import Any

from automation_lab.core import json_schema
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import reveal
from automation_lab.core.registry import UnknownKey, server_jobs
from tasks.handlers.base import TaskContext, TaskHandler


class CronHandler(TaskHandler):
    """Run the registered server job `job` with `arguments`; the output is what the job returns."""

    key = "cron"
    config_schema = {
        "type": "object",
        "required": ["job"],
        "additionalProperties": False,
        "properties": {
            "job": {"type": "string", "minLength": 1, "title": "Job"},
            "arguments": {"type": "object", "default": {}, "title": "Arguments"},
        },
    }

    def run(self, *, config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        try:
            job = server_jobs.get(config["job"])
        except UnknownKey as error:
            raise RunError(str(error), code="configuration.job") from error
        arguments = json_schema.with_defaults(config["arguments"], job.config_schema)
        faults = json_schema.check_config(arguments, job.config_schema, templated=False)
        if faults:
            raise RunError(f"{faults[0].path}: {faults[0].message}", code="configuration.arguments")
        context.log("info", f"Running {config['job']}.")
        try:
            return job.run(reveal(arguments))
        except AutomationLabError as error:
            raise RunError(error.message, code="runtime.job") from error

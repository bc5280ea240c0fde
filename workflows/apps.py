from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "workflows"
    verbose_name = "Workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core.execution.hints import kind_of
        from automation_lab.core.registry import (
            executables,
            live_topics,
            prunable_tables,
            replay_targets,
            secret_users,
            server_jobs,
            tick_sources,
        )
        from inbox.signals import webhook_received
        from tasks.signals import execution_finished as task_finished
        from workflows import waits
        from workflows.live import WORKFLOW_EXECUTION
        from workflows.models import WorkflowExecution
        from workflows.pruning import WORKFLOW_EXECUTIONS
        from workflows.running.runner import WorkflowExecutable
        from workflows.secret_uses import uses_in_workflows
        from workflows.server_jobs import START_WORKFLOW
        from workflows.signals import execution_finished
        from workflows.steps import catalogue
        from workflows.triggering import replays, ticking, triggers

        catalogue.register()
        executables.register(kind_of(WorkflowExecution), WorkflowExecutable())
        live_topics.register(WORKFLOW_EXECUTION.name, WORKFLOW_EXECUTION)
        tick_sources.register("workflows", ticking.tick)
        prunable_tables.register("workflow_executions", WORKFLOW_EXECUTIONS)
        server_jobs.register("start_workflow", START_WORKFLOW)
        secret_users.register("workflows", uses_in_workflows)
        replay_targets.register("workflows", replays.MATCHING)
        replay_targets.register("workflow", replays.CHOSEN)
        webhook_received.connect(triggers.start_matching, dispatch_uid="workflows.start_matching")
        task_finished.connect(waits.task_finished, dispatch_uid="workflows.task_finished")
        execution_finished.connect(waits.child_finished, dispatch_uid="workflows.child_finished")

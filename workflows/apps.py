from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "workflows"
    verbose_name = "Workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core.execution.hints import kind_of
        from automation_lab.core.registry import executables, live_topics, replay_targets, tick_sources
        from inbox.signals import webhook_received
        from workflows import replays, ticking, triggers
        from workflows.live import WORKFLOW_EXECUTION
        from workflows.models import WorkflowExecution
        from workflows.runner import WorkflowExecutable
        from workflows.steps import catalogue

        catalogue.register()
        executables.register(kind_of(WorkflowExecution), WorkflowExecutable())
        live_topics.register(WORKFLOW_EXECUTION.name, WORKFLOW_EXECUTION)
        tick_sources.register("workflows", ticking.tick)
        replay_targets.register("workflows", replays.MATCHING)
        replay_targets.register("workflow", replays.CHOSEN)
        webhook_received.connect(triggers.start_matching, dispatch_uid="workflows.start_matching")

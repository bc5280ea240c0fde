from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core import pruning as retention
        from automation_lab.core.execution.hints import kind_of
        from automation_lab.core.registry import (
            encrypted_values,
            executables,
            live_topics,
            prunable_tables,
            secret_users,
            secret_values,
            server_jobs,
            tick_sources,
        )
        from tasks import pruning, secrets, signals
        from tasks.handlers.api_call import ApiCallHandler
        from tasks.handlers.base import handlers
        from tasks.handlers.cron import CronHandler
        from tasks.handlers.webhook import WebhookHandler
        from tasks.live import TASK_EXECUTION
        from tasks.models import Notification, TaskExecution
        from tasks.notifying import channels, notifications
        from tasks.notifying.notifications import NotificationExecutable
        from tasks.runner import TaskExecutable
        from tasks.scheduling import ticking
        from tasks.secret_context import live_values

        for handler in (ApiCallHandler(), WebhookHandler(), CronHandler()):
            handlers.register(handler.key, handler)
        executables.register(kind_of(TaskExecution), TaskExecutable())
        executables.register(kind_of(Notification), NotificationExecutable())
        tick_sources.register("tasks", ticking.tick)
        signals.execution_finished.connect(notifications.task_finished, dispatch_uid="tasks.notify_finished")
        signals.task_paused.connect(notifications.task_paused, dispatch_uid="tasks.notify_paused")
        secret_values.register("secrets", live_values)
        secret_values.register("channels", channels.live_values)
        live_topics.register(TASK_EXECUTION.name, TASK_EXECUTION)
        encrypted_values.register("secrets", secrets.rotate)
        encrypted_values.register("channels", channels.rotate)
        secret_users.register("tasks", secrets.uses_in_tasks)
        secret_users.register("channels", secrets.uses_in_channels)
        prunable_tables.register("task_executions", pruning.TASK_EXECUTIONS)
        prunable_tables.register("notifications", pruning.NOTIFICATIONS)
        server_jobs.register("prune", retention.PRUNE)

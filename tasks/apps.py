from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core.execution.hints import kind_of
        from automation_lab.core.registry import executables, live_topics, secret_values, tick_sources
        from tasks import channels, notifications, signals, ticking
        from tasks.handlers.api_call import ApiCallHandler
        from tasks.handlers.base import handlers
        from tasks.handlers.cron import CronHandler
        from tasks.handlers.webhook import WebhookHandler
        from tasks.live import TASK_EXECUTION
        from tasks.models import Notification, TaskExecution
        from tasks.notifications import NotificationExecutable
        from tasks.runner import TaskExecutable
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

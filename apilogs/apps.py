from django.apps import AppConfig


class ApiLogsConfig(AppConfig):
    name = "apilogs"
    verbose_name = "API logs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apilogs.live import API_LOG
        from automation_lab.core.registry import live_topics

        live_topics.register(API_LOG.name, API_LOG)

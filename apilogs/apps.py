from django.apps import AppConfig


class ApiLogsConfig(AppConfig):
    name = "apilogs"
    verbose_name = "API logs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apilogs.live import API_LOG
        from apilogs.services import PRUNABLE
        from automation_lab.core.registry import live_topics, prunable_tables

        live_topics.register(API_LOG.name, API_LOG)
        for name, table in PRUNABLE.items():
            prunable_tables.register(name, table)

from django.apps import AppConfig


class ApiLogsConfig(AppConfig):
    name = "apilogs"
    verbose_name = "API logs"
    default_auto_field = "django.db.models.BigAutoField"

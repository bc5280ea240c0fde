from django.apps import AppConfig


class AutomationLabConfig(AppConfig):
    name = "automation_lab"
    verbose_name = "Automation Lab"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab import checks  # noqa: F401 - registers them

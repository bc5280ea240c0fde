from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AutomationLabConfig(AppConfig):
    name = "automation_lab"
    verbose_name = "Automation Lab"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab import checks  # noqa: F401 - registers them
        from automation_lab.roles import grant_roles

        post_migrate.connect(grant_roles, dispatch_uid="automation_lab.roles")

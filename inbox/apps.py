from django.apps import AppConfig


class InboxConfig(AppConfig):
    name = "inbox"
    verbose_name = "Inbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core.registry import secret_values
        from inbox.secrets import live_values

        secret_values.register("webhook sources", live_values)

from django.apps import AppConfig


class InboxConfig(AppConfig):
    name = "inbox"
    verbose_name = "Inbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core.registry import live_topics, secret_values
        from inbox.live import FORWARD, WEBHOOK
        from inbox.secrets import live_values

        secret_values.register("webhook sources", live_values)
        live_topics.register(WEBHOOK.name, WEBHOOK)
        live_topics.register(FORWARD.name, FORWARD)

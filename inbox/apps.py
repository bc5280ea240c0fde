from django.apps import AppConfig


class InboxConfig(AppConfig):
    name = "inbox"
    verbose_name = "Inbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation_lab.core.execution.hints import kind_of
        from automation_lab.core.registry import (
            encrypted_values,
            executables,
            live_topics,
            prunable_tables,
            replay_targets,
            secret_values,
        )
        from inbox import pruning, rotation
        from inbox.live import FORWARD, REPLAY, WEBHOOK
        from inbox.models import Forward, Replay
        from inbox.replaying import url_target
        from inbox.replaying.forwarding import ForwardExecutable
        from inbox.replaying.replays import ReplayExecutable
        from inbox.secrets import live_values

        secret_values.register("webhook sources", live_values)
        live_topics.register(WEBHOOK.name, WEBHOOK)
        live_topics.register(FORWARD.name, FORWARD)
        live_topics.register(REPLAY.name, REPLAY)
        executables.register(kind_of(Forward), ForwardExecutable())
        executables.register(kind_of(Replay), ReplayExecutable())
        replay_targets.register("url", url_target.TARGET)
        prunable_tables.register("webhooks", pruning.WEBHOOKS)
        prunable_tables.register("webhooks of sources", pruning.BY_SOURCE)
        prunable_tables.register("payloads", pruning.PAYLOADS)
        prunable_tables.register("forwards", pruning.FORWARDS)
        prunable_tables.register("replays", pruning.REPLAYS)
        prunable_tables.register("rate windows", pruning.RATE_WINDOWS)
        encrypted_values.register("sources", rotation.rotate_sources)
        encrypted_values.register("replays", rotation.rotate_replays)

"""What the live port tells of the inbox."""

from automation_lab.core.live import Topic

WEBHOOK = Topic(
    name="webhook",
    table="webhook_inbox",
    area="inbox",
    permission="inbox.view_webhook",
    columns=[
        "source", "event_type", "status", "method", "path", "content_type", "size_bytes", "remote_addr", "delivery_id",
        "is_duplicate", "duplicate_count", "verification", "flags", "error_message", "received_at", "processed_at",
        "correlation_id",
    ],
    expressions={"duplicate_of": "duplicate_of_id"},
)  # fmt: skip

# Without its target: the address of a forward may itself be the secret.
FORWARD = Topic(
    name="forward",
    table="webhook_forwards",
    area="inbox",
    permission="inbox.view_forward",
    columns=[
        "status", "mode", "trigger", "attempt", "worker", "due_at", "cancel_requested_at", "started_at", "finished_at",
        "duration_ms", "error_message", "correlation_id",
    ],
    expressions={"webhook": "webhook_id"},
)  # fmt: skip

# Without its target's options, which may hold an address that is itself the secret.
REPLAY = Topic(
    name="replay",
    table="webhook_replays",
    area="inbox",
    permission="inbox.view_replay",
    columns=[
        "status", "target", "rate_per_second", "total_count", "done_count", "failed_count", "cancel_requested_at",
        "created_by", "started_at", "finished_at", "error_message", "correlation_id",
    ],
)  # fmt: skip

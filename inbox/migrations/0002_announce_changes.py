from django.db import migrations

from automation_lab.core.live import announce_inserts, announce_updates


class Migration(migrations.Migration):
    dependencies = [("inbox", "0001_create_inbox"), ("automation_lab", "0002_announce_changes")]

    operations = [
        announce_inserts("webhook_inbox"),
        announce_updates(
            "webhook_inbox",
            [
                "event_type", "status", "is_duplicate", "duplicate_of_id", "duplicate_count", "verification", "flags",
                "error_message", "processed_at",
            ],
        ),
        announce_inserts("webhook_forwards"),
        announce_updates(
            "webhook_forwards",
            ["status", "attempt", "worker", "cancel_requested_at", "started_at", "finished_at", "error_message"],
        ),
    ]

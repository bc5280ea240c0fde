from django.db import migrations

from automation_lab.core.live import announce_inserts, announce_updates


class Migration(migrations.Migration):
    dependencies = [("workflows", "0001_create_workflows"), ("automation_lab", "0002_announce_changes")]

    operations = [
        announce_inserts("workflow_executions"),
        announce_updates(
            "workflow_executions",
            [
                "status", "waiting_for", "current_step", "total_steps", "attempt", "worker", "cancel_requested_at",
                "started_at", "finished_at", "error_message",
            ],
        ),
    ]

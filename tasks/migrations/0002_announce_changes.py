from django.db import migrations

from automation_lab.core.live import announce_inserts, announce_updates


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_create_tasks"), ("automation_lab", "0002_announce_changes")]

    operations = [
        announce_inserts("task_executions"),
        announce_updates(
            "task_executions",
            ["status", "count", "attempt", "worker", "cancel_requested_at", "started_at", "finished_at", "error_message"],
        ),
    ]

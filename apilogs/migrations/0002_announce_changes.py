from django.db import migrations

from automation_lab.core.live import announce_inserts


class Migration(migrations.Migration):
    dependencies = [("apilogs", "0001_create_api_logs"), ("automation_lab", "0002_announce_changes")]

    operations = [
        announce_inserts("api_logs"),
    ]

from django.db import migrations

from automation_lab.core.live import CREATE_FUNCTION, DROP_FUNCTION


class Migration(migrations.Migration):
    dependencies = [("automation_lab", "0001_create_api_tokens")]

    operations = [migrations.RunSQL(CREATE_FUNCTION, DROP_FUNCTION)]

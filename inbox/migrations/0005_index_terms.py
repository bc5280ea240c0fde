import django.contrib.postgres.indexes
from django.db import migrations, models

import inbox.terms

BATCH = 100
FILL = """
    UPDATE webhook_inbox SET header_terms = %s::bigint[], body_terms = %s::bigint[], flags = flags || %s::varchar[]
    WHERE id = %s
"""


def fill(apps, schema_editor):
    """What is there already is found as before; one UPDATE per webhook, a batch in one journey."""
    rows = apps.get_model("inbox", "Webhook").objects.order_by("pk").values_list("pk", "headers", "body")
    batch = []
    with schema_editor.connection.cursor() as cursor:
        for pk, headers, body in rows.iterator(chunk_size=BATCH):
            terms, all_terms = inbox.terms.body_terms(body)
            flags = [] if all_terms else ["partly_searchable"]
            batch.append((inbox.terms.header_terms(headers), terms, flags, pk))
            if len(batch) == BATCH:
                cursor.executemany(FILL, batch)
                batch = []
        if batch:
            cursor.executemany(FILL, batch)


class Migration(migrations.Migration):

    dependencies = [
        ('inbox', '0004_index_searches'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='webhook',
            name='webhook_inbox_headers',
        ),
        migrations.RemoveIndex(
            model_name='webhook',
            name='webhook_inbox_body',
        ),
        migrations.AddField(
            model_name='webhook',
            name='header_terms',
            field=inbox.terms.HeaderTermsField(base_field=models.BigIntegerField(), blank=True, default=list, editable=False, size=None),
        ),
        migrations.AddField(
            model_name='webhook',
            name='body_terms',
            field=inbox.terms.BodyTermsField(base_field=models.BigIntegerField(), blank=True, default=list, editable=False, size=None),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name='webhook',
            index=django.contrib.postgres.indexes.GinIndex(fields=['header_terms', 'body_terms'], gin_pending_list_limit=1024, name='webhook_inbox_terms'),
        ),
    ]

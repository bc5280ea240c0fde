from django.db import migrations

CREATE_FUNCTION = """
CREATE OR REPLACE FUNCTION lab_announce() RETURNS trigger LANGUAGE plpgsql AS $lab$
DECLARE
    changed bigint[];
BEGIN
    IF pg_try_advisory_xact_lock(1818850917, pg_backend_pid() % 64) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(id ORDER BY id) INTO changed FROM new_rows;
    ELSE
        EXECUTE 'SELECT array_agg(n.id ORDER BY n.id) FROM new_rows n JOIN old_rows o USING (id) WHERE ' || TG_ARGV[0]
            INTO changed;
    END IF;
    FOR start IN 1 .. coalesce(cardinality(changed), 0) BY 300 LOOP
        PERFORM pg_notify('lab_live', json_build_object(
            'table', TG_TABLE_NAME,
            'event', CASE TG_OP WHEN 'INSERT' THEN 'created' ELSE 'updated' END,
            'at', now(),
            'ids', changed[start : start + 299]
        )::text);
    END LOOP;
    RETURN NULL;
END
$lab$
"""


class Migration(migrations.Migration):
    dependencies = [("automation_lab", "0001_create_api_tokens")]

    operations = [migrations.RunSQL(CREATE_FUNCTION, "DROP FUNCTION lab_announce()")]

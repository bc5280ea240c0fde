"""What the live port shows: apps declare their topics here, and the triggers that announce changes of their tables.

A trigger tells the live port which rows of a table have changed, by `NOTIFY`, and only while somebody watches: NOTIFY
makes commits wait for each other. Watching is a shared advisory lock on every one of `SLOTS` keys. A writer tries its
own key exclusively, which costs microseconds, and fails while anybody watches or is about to. As the try lasts until
the end of the transaction, a watcher that has all its locks knows that whatever commits from then on is announced.
Two writers on one key make each other announce for nobody, which costs a little and does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.db.migrations import RunSQL

CHANNEL = "lab_live"
# The function lab_announce of migration automation_lab.0002 has these as well.
LOCK_CLASS = 1_818_850_917  # "live" in ASCII
SLOTS = 64

WATCH = "SELECT pg_advisory_lock_shared(%s, slot) FROM generate_series(0, %s) AS slot"
WATCH_ARGUMENTS = [LOCK_CLASS, SLOTS - 1]


@dataclass(frozen=True)
class Topic:
    """Rows of one table as messages of type `name`: a summary, never bodies, headers or secrets.

    Seen by those who may read `area` (scope of a token) and hold `permission`.
    """

    name: str
    table: str
    area: str
    permission: str
    columns: Sequence[str]
    expressions: Mapping[str, str] = field(default_factory=dict)
    """Further fields: name -> SQL over the table's columns."""


def announce_inserts(table: str) -> RunSQL:
    """Migration step: new rows of `table` are announced."""
    return RunSQL(
        f"CREATE TRIGGER lab_announce_inserts AFTER INSERT ON {table} "
        "REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION lab_announce()",
        f"DROP TRIGGER lab_announce_inserts ON {table}",
    )


def announce_updates(table: str, columns: Sequence[str]) -> RunSQL:
    """Migration step: rows of `table` are announced when one of `columns` has got another value."""
    # The whole condition as the argument: putting it together at each call would take longer than judging it.
    condition = " OR ".join(f"n.{column} IS DISTINCT FROM o.{column}" for column in columns)
    return RunSQL(
        f"CREATE TRIGGER lab_announce_updates AFTER UPDATE ON {table} "
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows "
        f"FOR EACH STATEMENT EXECUTE FUNCTION lab_announce('{condition}')",
        f"DROP TRIGGER lab_announce_updates ON {table}",
    )

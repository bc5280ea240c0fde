"""Old webhooks."""

from __future__ import annotations

from datetime import datetime, timedelta

from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.pruning import delete_in_batches
from automation_lab.core.registry import PrunableTable
from inbox.models import Forward, Webhook


def prune_webhooks(*, now: datetime, days: int, dry_run: bool) -> int:
    """Webhooks received more than `days` ago, with their forwards; not while one of these is going on."""
    busy = Forward.objects.filter(status__in=LIVE_STATUSES).values("webhook_id")
    old = Webhook.objects.filter(received_at__lt=now - timedelta(days=days)).exclude(pk__in=busy)
    return delete_in_batches(old, dry_run=dry_run)


WEBHOOKS = PrunableTable("RETENTION_WEBHOOKS_DAYS", prune_webhooks)

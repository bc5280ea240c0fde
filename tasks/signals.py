"""What tasks announce. Receivers run inside the transaction that makes it true and only insert rows."""

from django.dispatch import Signal

execution_finished = Signal()
"""Sent with `execution=` (its task loaded, `status` and `error_message` set), `now=` and `recovered=` (a success after
failures) for every run that ends, and for skipped and missed slots; after the counters of its task were changed."""

task_paused = Signal()
"""Sent with `task=`, `reason=` and `now=` when failures have paused a task, or its schedule was set aside."""

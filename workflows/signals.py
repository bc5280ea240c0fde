"""What workflows announce. Receivers run inside the transaction that makes it true and only insert or change rows."""

from django.dispatch import Signal

execution_finished = Signal()
"""Sent with `execution=`, `status=` and `now=` for every run that ends."""

"""What the inbox announces. Receivers run inside the transaction that stores the webhook and only insert rows."""

from django.dispatch import Signal

webhook_received = Signal()
"""Sent with `webhook=` for every accepted request that is no repetition; a receiver that raises undoes the webhook.

A receiver may return a callable without arguments that gives the answer to the sender after the commit, as
`{"status", "headers", "body"}`, or None when there is none in time.
"""

"""Sending stored webhooks again: batches, their targets, and forwards to other addresses."""

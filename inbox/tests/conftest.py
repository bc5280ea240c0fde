"""Fixtures of the inbox."""

from __future__ import annotations

import pytest

from inbox.signals import webhook_received


@pytest.fixture
def announced():
    """The webhooks announced to the other apps, in order."""
    webhooks = []

    def note(webhook, **kwargs):
        webhooks.append(webhook)

    webhook_received.connect(note)
    yield webhooks
    webhook_received.disconnect(note)

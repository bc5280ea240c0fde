"""The smallest valid objects of the inbox."""

from __future__ import annotations

import hashlib

import factory

from inbox.incoming import IncomingRequest
from inbox.models import Source, Webhook


class SourceFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Source

    name = factory.Sequence(lambda number: f"source-{number}")


class WebhookFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Webhook

    source = "github"
    method = "POST"
    path = factory.LazyAttribute(lambda webhook: f"/v1/webhooks/inbox/{webhook.source}")
    raw_body = b"{}"
    size_bytes = factory.LazyAttribute(lambda webhook: len(webhook.raw_body))
    sha256 = factory.LazyAttribute(lambda webhook: hashlib.sha256(webhook.raw_body).hexdigest())


def incoming(raw_body: bytes = b'{"ref": "refs/heads/main"}', *, headers=(), **values) -> IncomingRequest:
    """A POST of JSON, with more headers or other parts if given."""
    return IncomingRequest(
        **{
            "method": "POST",
            "path": "/v1/webhooks/inbox/github",
            "headers": [["Content-Type", "application/json"], *map(list, headers)],
            "raw_body": raw_body,
            **values,
        }
    )

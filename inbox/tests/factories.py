"""The smallest valid objects of the inbox."""

from __future__ import annotations

import hashlib
from typing import Any

import factory
import psycopg
from django.db import connection

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


def insert_webhook(other: psycopg.Connection[Any], **values: Any) -> int:
    """A webhook in the open transaction of `other`, another connection; its id."""
    webhook = WebhookFactory.build(**values)
    fields = [field for field in Webhook._meta.concrete_fields if field.name not in ("id", "received_at")]
    row = [field.get_db_prep_save(field.pre_save(webhook, add=True), connection) for field in fields]
    columns, places = ", ".join(str(field.column) for field in fields), ", ".join("%s" for _ in fields)
    inserted = other.execute(f"INSERT INTO webhook_inbox ({columns}) VALUES ({places}) RETURNING id", row).fetchone()
    assert inserted is not None
    return inserted[0]

"""`GET /v1/webhooks/stream`: what `forward` and `listen` read, by long polling."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core.api.filters import BIGINT, check_query_parameters
from automation_lab.core.api.viewsets import LabAPIView
from inbox.masking import mask_credentials
from inbox.models import Webhook
from inbox.serializers import PAIRS
from inbox.streaming import stream

MOST_WAIT_SECONDS = 20
MOST_WAITING = 2
RETRY_AFTER_SECONDS = 2
REPEATABLE = ("source", "event_type", "status")
ON_ARRIVAL = {
    "received": [Webhook.Status.RECEIVED, Webhook.Status.PROCESSED, Webhook.Status.FAILED],
    "rejected": [Webhook.Status.REJECTED],
}
"""What a reader may ask for: a cursor passes each webhook once, and never comes back when its status changes."""

_places = threading.BoundedSemaphore(MOST_WAITING)


class StreamQuerySerializer(serializers.Serializer[Any]):
    """Several of `source`, `event_type` and `status` may be given; without a status, all but rejected ones and
    handshakes come."""

    after = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=BIGINT,
        help_text="The cursor before. 400 with the code `unknown_cursor` if no webhook has had such an id yet.",
    )
    since = serializers.DateTimeField(required=False, help_text="Instead of a cursor: received from then on.")
    limit = serializers.IntegerField(required=False, default=50, min_value=1, max_value=200)
    wait = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=MOST_WAIT_SECONDS, help_text="Seconds, for the first one."
    )
    source = serializers.ListField(  # type: ignore[assignment]  # a parameter of that name
        child=serializers.CharField(max_length=64), required=False, default=list
    )
    event_type = serializers.ListField(child=serializers.CharField(max_length=255), required=False, default=list)
    status = serializers.ListField(
        child=serializers.ChoiceField(
            choices=list(ON_ARRIVAL),
            error_messages={
                "invalid_choice": "The stream knows the status on arrival only: received, whatever came of it, or "
                "rejected."
            },
        ),
        required=False,
        default=list,
        help_text="On arrival: received, whatever came of it since, or rejected.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "after" in attrs and "since" in attrs:
            raise serializers.ValidationError({"since": "Give after or since, not both."})
        return attrs


class StreamedWebhookSerializer(serializers.ModelSerializer[Webhook]):
    """A webhook with all that is needed to send it again, byte by byte."""

    headers = serializers.SerializerMethodField(help_text="Pairs, as the server gives them.")
    query_params = serializers.SerializerMethodField(help_text="Pairs, in the order sent.")
    body_base64 = serializers.SerializerMethodField(help_text="The exact bytes.")

    class Meta:
        model = Webhook
        fields = [
            "id", "source", "event_type", "status", "method", "path", "query_params", "headers", "body_base64",
            "content_type", "size_bytes", "sha256", "remote_addr", "delivery_id", "is_duplicate", "verification", "flags",
            "received_at",
        ]  # fmt: skip

    @extend_schema_field(PAIRS)
    def get_headers(self, webhook: Webhook) -> Any:
        return mask_credentials(webhook.headers) if self.context["masked"] else webhook.headers

    @extend_schema_field(PAIRS)
    def get_query_params(self, webhook: Webhook) -> Any:
        return webhook.query_params

    def get_body_base64(self, webhook: Webhook) -> str:
        return base64.b64encode(webhook.raw_body).decode()


class StreamSerializer(serializers.Serializer[Any]):
    results = StreamedWebhookSerializer(many=True)
    cursor = serializers.IntegerField(help_text="For `after` of the next request.")
    retry_after_seconds = serializers.IntegerField(
        help_text="How long to wait before the next request; 0 when this one could wait by itself."
    )
    credentials_masked = serializers.BooleanField(
        help_text="Headers with credentials come whole to callers who may change webhooks."
    )


class StreamView(LabAPIView):
    """Webhooks as they come, in order and without gaps."""

    permission_model = Webhook
    scope_area = "inbox"

    @extend_schema(
        operation_id="webhooks_stream",
        parameters=[StreamQuerySerializer],
        responses=StreamSerializer,
    )
    def get(self, request: Request) -> Response:
        """The webhooks beyond a cursor, oldest first; without one, those to come. Waits for the first, if asked to."""
        asked = _asked(request)
        after = _start(asked)
        with _waiting_place(asked["wait"]) as wait_seconds:
            batch = stream.read(
                after=after,
                selection=stream.Selection(asked["source"], asked["event_type"], asked["status"]),
                limit=asked["limit"],
                wait_seconds=wait_seconds,
            )
        masked = not may_see_credentials(request)
        refused_to_wait = wait_seconds < asked["wait"] and not batch.webhooks
        answer = {
            "results": batch.webhooks,
            "cursor": batch.cursor,
            "retry_after_seconds": RETRY_AFTER_SECONDS if refused_to_wait else 0,
            "credentials_masked": masked,
        }
        return Response(StreamSerializer(answer, context={"masked": masked}).data)


def may_see_credentials(request: Request) -> bool:
    """Whoever may change webhooks: a copy can be verified only with the headers as they came."""
    scopes = getattr(request.auth, "scopes", None)
    return request.user.has_perm("inbox.change_webhook") and (
        not scopes or bool({"admin", "inbox:write"} & set(scopes))
    )


def _asked(request: Request) -> dict[str, Any]:
    check_query_parameters(request, list(StreamQuerySerializer().fields), repeatable=REPEATABLE, what="parameter")
    query = StreamQuerySerializer(data=request.query_params)
    query.is_valid(raise_exception=True)
    statuses = [status for name in query.validated_data["status"] for status in ON_ARRIVAL[name]]
    return {**query.validated_data, "status": statuses}


def _start(asked: dict[str, Any]) -> int:
    if "after" in asked:
        return asked["after"]
    return stream.position_at(asked["since"]) if "since" in asked else stream.latest_id()


@contextlib.contextmanager
def _waiting_place(seconds: float) -> Iterator[float]:
    """How long this request may wait: a waiting one holds one of the few threads of the process."""
    granted = seconds > 0 and settings.WEB_THREADS > MOST_WAITING and _places.acquire(blocking=False)
    try:
        yield seconds if granted else 0
    finally:
        if granted:
            _places.release()

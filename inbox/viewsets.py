"""The inbox over the API. Receiving is not here: see views.py."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.api.viewsets import DestroyMixin, LabGenericViewSet, LabModelViewSet, PartialUpdateMixin
from automation_lab.core.exceptions import Gone
from inbox import services
from inbox.export_views import ExportAction
from inbox.filters import SourceFilterSet, WebhookFilterSet, counted_rows
from inbox.models import PAYLOAD_REMOVED, Source, Webhook
from inbox.replaying.viewsets import ReplayActions
from inbox.serializers import SourceSerializer, WebhookSerializer, WebhookSummarySerializer
from inbox.verify_viewsets import VerifyActions

REPLACEABLE = [
    name
    for name in SourceSerializer.Meta.fields
    if name not in ("id", "name", "secrets", "is_open", "refused_count", "last_refused_at", "created_at", "updated_at")
]
FILE_ENDINGS = {"application/json": "json", "text/plain": "txt"}


class WebhookViewSet(
    ExportAction,
    VerifyActions,
    ReplayActions,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    PartialUpdateMixin,
    DestroyMixin,
    LabGenericViewSet,
):
    """Webhooks received. Only status and notes can be changed.

    The list is filtered by what was carried, too: `header.X-GitHub-Event=push` and
    `body.repository.full_name=octo/x`, where a part of the path may be a position in a list, or `*` for any.
    """

    queryset = Webhook.objects.all()
    serializer_class = WebhookSerializer
    filterset_class = WebhookFilterSet
    ordering_fields = ["received_at"]
    cursor_fields = ("id", "received_at")
    scope_area = "inbox"

    @property
    def counted_rows(self) -> int:
        return counted_rows(self.request.query_params)

    def get_queryset(self) -> QuerySet[Webhook]:
        if self.action == "list":
            return Webhook.objects.without_bodies().with_preview()
        return super().get_queryset()

    def get_serializer_class(self) -> type[Any]:
        return WebhookSummarySerializer if self.action == "list" else super().get_serializer_class()

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # A raw body has the type it came with, whatever the caller would rather accept.
        return super().perform_content_negotiation(request, force=force or self.action == "raw")

    def perform_destroy(self, instance: Webhook) -> None:
        services.delete_webhook(webhook=instance)

    @extend_schema(responses={(200, "*/*"): OpenApiTypes.BINARY})
    @action(detail=True, methods=["get"])
    def raw(self, request: Request, **kwargs: Any) -> HttpResponse:
        """The exact bytes received, with the content type they came with, as a download."""
        webhook = self.get_object()
        if PAYLOAD_REMOVED in webhook.flags:
            raise Gone("The body of this webhook was removed, as its source keeps it for some days only.")
        content_type = webhook.content_type or "application/octet-stream"
        ending = FILE_ENDINGS.get(content_type.partition(";")[0].strip().lower(), "bin")
        return HttpResponse(
            bytes(webhook.raw_body),
            content_type=content_type,
            headers={
                "Content-Disposition": f'attachment; filename="webhook-{webhook.pk}.{ending}"',
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "sandbox; default-src 'none'",
            },
        )


class SourceViewSet(LabModelViewSet):
    """Configured senders. A webhook of a name without a source is accepted too, unless INBOX_ACCEPT_UNKNOWN is off."""

    queryset = Source.objects.with_refusals()
    serializer_class = SourceSerializer
    filterset_class = SourceFilterSet
    ordering_fields = ["name", "created_at"]
    scope_area = "inbox"
    lookup_field = "name"
    lookup_value_converter = "str"
    http_method_names = [*LabModelViewSet.http_method_names, "put"]

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace a source: fields left out get their defaults; the secrets stay unless new ones are given."""
        serializer = self.get_serializer(self.get_object(), data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            source = serializer.save(**(_defaults() | serializer.validated_data))
            self.record(source, audit.CHANGE, "Replaced.")
        return Response(self.get_serializer(source).data)

    def perform_destroy(self, instance: Source) -> None:
        services.delete_source(source=instance)


def _defaults() -> dict[str, Any]:
    return {name: Source._meta.get_field(name).get_default() for name in REPLACEABLE}  # type: ignore[union-attr]

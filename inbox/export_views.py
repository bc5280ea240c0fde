"""`GET /v1/webhooks/inbox/export`."""

from __future__ import annotations

from typing import Any, cast

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request

from automation_lab.core.api.filters import check_query_parameters
from automation_lab.core.console import display as show
from automation_lab.core.exceptions import Invalid
from automation_lab.core.export import ExportRenderer
from inbox import export
from inbox.filters import WebhookFilterSet
from inbox.serializers import WebhookSerializer

FORMATS = [renderer.format for renderer in export.FORMATS]


class ExportAction:
    """What the resource of webhooks offers as a download."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        wanted = request.query_params.get("format", "")
        if self.action == "export" and wanted and wanted not in FORMATS:  # type: ignore[attr-defined]  # of the viewset
            raise Invalid(f"format is one of {', '.join(FORMATS)}.", field="format")
        super().initial(request, *args, **kwargs)  # type: ignore[misc]

    @extend_schema(
        parameters=[
            OpenApiParameter("format", str, enum=FORMATS, description="json by default."),
            OpenApiParameter("include_bodies", bool, description="With headers and bodies; curl always has them."),
        ],
        responses={
            (200, "application/json"): WebhookSerializer(many=True),
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiTypes.STR,
            (200, "text/x-shellscript"): OpenApiTypes.STR,
        },
    )
    @action(
        detail=False,
        renderer_classes=export.FORMATS,
        pagination_class=None,
        extra_query_parameters=("include_bodies",),
    )
    def export(self, request: Request) -> StreamingHttpResponse:
        """All webhooks that match, newest first, as one download."""
        known = [*WebhookFilterSet.base_filters, "include_bodies"]
        check_query_parameters(request, known, prefixes=WebhookFilterSet.prefixes)
        renderer = cast(ExportRenderer, request.accepted_renderer)
        with_bodies = _is_true(request, "include_bodies") or renderer.format == "curl"
        webhooks = self.filter_queryset(self.get_queryset())  # type: ignore[attr-defined]
        by_time = any(request.query_params.get(name) for name in ("received_after", "received_before"))
        rows = export.pages(webhooks, by_time=by_time, with_bodies=with_bodies)
        ending = export.ENDINGS.get(renderer.format, renderer.format)
        if renderer.format == "curl":
            content = export.as_curl(rows, show.origin(request))
        else:
            content = renderer.write(rows, export.fields(with_bodies=with_bodies))
        return StreamingHttpResponse(
            content,
            content_type=f"{renderer.media_type}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="webhooks.{ending}"'},
        )


def _is_true(request: Request, name: str) -> bool:
    text = request.query_params.get(name) or "false"
    try:
        return bool(serializers.BooleanField().run_validation(text))
    except serializers.ValidationError as error:
        raise Invalid(f"{name} is true or false.", field=name) from error

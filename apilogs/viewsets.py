"""The API log over HTTP: read, figures, export, delete."""

from __future__ import annotations

from typing import Any, cast

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apilogs import export, stats
from apilogs.filters import ApiLogFilterSet
from apilogs.models import ApiLog
from apilogs.serializers import (
    ApiLogListSerializer,
    ApiLogSerializer,
    SelectionSerializer,
    SummarySerializer,
    TimeseriesSelectionSerializer,
    TimeseriesSerializer,
)
from automation_lab.core.api.filters import check_query_parameters
from automation_lab.core.api.viewsets import DestroyMixin, LabGenericViewSet
from automation_lab.core.exceptions import Invalid
from automation_lab.core.export import RENDERERS, ExportRenderer

EXPORT_ORDERINGS = ("created_at", "-created_at")
FORMATS = [renderer.format for renderer in RENDERERS]


class ApiLogViewSet(DestroyMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, LabGenericViewSet):
    """Every request to this API with its answer. Reading the log is not logged itself."""

    queryset = ApiLog.objects.all()
    filterset_class = ApiLogFilterSet
    ordering_fields = ["created_at", "duration_ms"]
    scope_area = "logs"

    def get_queryset(self) -> QuerySet[ApiLog]:
        return ApiLog.objects.without_payloads() if self.action == "list" else ApiLog.objects.all()

    def get_serializer_class(self) -> type[ApiLogListSerializer]:
        return ApiLogListSerializer if self.action == "list" else ApiLogSerializer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        wanted = request.query_params.get("format", "")
        if self.action == "export" and wanted and wanted not in FORMATS:
            raise Invalid(f"format is one of {', '.join(FORMATS)}.", field="format")
        super().initial(request, *args, **kwargs)

    @extend_schema(parameters=[SelectionSerializer], responses=SummarySerializer)
    @action(detail=False, url_path="stats/summary", filterset_class=None, pagination_class=None)
    def summary(self, request: Request) -> Response:
        """Count, error share and durations: in all, by route, by status, per hour. The last 24 hours by default."""
        query = SelectionSerializer(data=request.query_params, context={"request": request})
        return Response(SummarySerializer(stats.summary(query.selection())).data)

    @extend_schema(parameters=[TimeseriesSelectionSerializer], responses=TimeseriesSerializer)
    @action(detail=False, url_path="stats/timeseries", filterset_class=None, pagination_class=None)
    def timeseries(self, request: Request) -> Response:
        """The figures of every minute, hour or day of the window, for charts."""
        query = TimeseriesSelectionSerializer(data=request.query_params, context={"request": request})
        selection = query.selection()
        return Response(TimeseriesSerializer(stats.timeseries(selection, query.validated_data["bucket"])).data)

    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=FORMATS, description="json by default.")],
        responses={
            (200, "application/json"): ApiLogSerializer(many=True),
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiTypes.STR,
        },
    )
    @action(detail=False, renderer_classes=RENDERERS, pagination_class=None)
    def export(self, request: Request) -> StreamingHttpResponse:
        """All rows that match, as one download: newest first, or `ordering=created_at`."""
        check_query_parameters(request, [*ApiLogFilterSet.base_filters, "ordering"])
        ordering = request.query_params.get("ordering") or "-created_at"
        if ordering not in EXPORT_ORDERINGS:
            raise Invalid(f"The export takes ordering={' or '.join(EXPORT_ORDERINGS)}.", field="ordering")
        renderer = cast(ExportRenderer, request.accepted_renderer)
        logs = export.pages(self.filter_queryset(self.get_queryset()), newest_first=ordering == "-created_at")
        return StreamingHttpResponse(
            renderer.write(logs, export.FIELDS),
            content_type=f"{renderer.media_type}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="api-logs.{renderer.format}"'},
        )

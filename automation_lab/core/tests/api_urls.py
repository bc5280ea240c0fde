"""A small API over existing models, for the tests of the shared layer."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.urls import include, path
from rest_framework.decorators import action
from rest_framework.exceptions import Throttled
from rest_framework.response import Response

from automation_lab.core import exceptions
from automation_lab.core.api.filters import StrictFilterSet, created_after, created_before
from automation_lab.core.api.serializers import (
    JSONListField,
    JSONObjectField,
    StrictIntegerField,
    StrictModelSerializer,
    StrictSerializer,
)
from automation_lab.core.api.viewsets import LabAPIView, LabModelViewSet, LabRouter
from automation_lab.urls import handler400, handler403, handler404, handler500
from automation_lab.urls import urlpatterns as real_urls
from workflows.models import Workflow

__all__ = ["handler400", "handler403", "handler404", "handler500"]


class WorkflowSerializer(StrictModelSerializer):
    variables = JSONObjectField(required=False)
    steps = JSONListField(required=False)

    class Meta:
        model = Workflow
        fields = [
            "id",
            "name",
            "enabled",
            "trigger_type",
            "timeout_seconds",
            "variables",
            "steps",
            "version",
            "created_at",
        ]
        read_only_fields = ["version", "created_at"]


class WorkflowFilterSet(StrictFilterSet):
    created_after = created_after()
    created_before = created_before()

    class Meta:
        model = Workflow
        fields = ["name", "enabled", "trigger_type", "version"]


class WorkflowViewSet(LabModelViewSet):
    """Workflows, for the tests."""

    queryset = Workflow.objects.all()
    serializer_class = WorkflowSerializer
    filterset_class = WorkflowFilterSet
    ordering_fields = ["name", "created_at"]
    scope_area = "workflows"
    action_permissions = {"start": "workflows.add_workflowexecution"}
    closed_when_open = False

    @action(detail=True, methods=["post"])
    def pause(self, request, **kwargs):
        return Response({"paused": self.get_object().pk})

    @action(detail=True, methods=["post"])
    def start(self, request, **kwargs):
        return Response({"started": self.get_object().pk}, status=202)


class ClosedViewSet(WorkflowViewSet):
    closed_when_open = True


class PointSerializer(StrictSerializer):
    x = StrictIntegerField()


class LineSerializer(StrictSerializer):
    points = PointSerializer(many=True)


class EchoView(LabAPIView):
    """Answers what it was sent; `?raise=` raises."""

    scope_area = "tasks"

    def post(self, request):
        kind = request.query_params.get("raise")
        if kind:
            raise ERRORS[kind]
        return Response({"data": request.data, "has_content": request.has_content})

    def delete(self, request):
        return Response(status=204)

    def patch(self, request):
        serializer = LineSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(serializer.validated_data)


ERRORS = {
    "invalid": exceptions.Invalid("No.", field="config.url", code="url"),
    "not_found": exceptions.NotFound("Gone."),
    "conflict": exceptions.Conflict("Archived."),
    "refused": exceptions.Refused("Never here."),
    "throttled": Throttled(wait=7),
    "database": OperationalError("server closed the connection: secret-host"),
    "django": ValidationError({"name": [ValidationError("Taken.", code="unique")]}),
    "bug": RuntimeError("secret-detail"),
}

router = LabRouter()
router.register("things", WorkflowViewSet, basename="thing")
router.register("closed", ClosedViewSet, basename="closed")

urlpatterns = [path("v1/", include([*router.urls, path("echo", EchoView.as_view(), name="echo")])), *real_urls]

"""Base classes of every API view. One resource, complete:

class TaskViewSet(LabModelViewSet):
    \"\"\"Define and start scheduled tasks.\"\"\"

    queryset = ScheduledTask.objects.all()
    serializer_class = TaskSerializer            # a StrictModelSerializer
    filterset_class = TaskFilterSet              # a StrictFilterSet
    ordering_fields = ["name", "created_at"]
    scope_area = "tasks"
    action_permissions = {"pause": "change"}     # or a whole name: "tasks.run_scheduledtask"

    def perform_create(self, serializer):
        return services.create_task(fields=serializer.validated_data)

    @extend_schema(request=None, responses=TaskSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request, **kwargs):
        task = self.audited(lambda: services.pause_task(task=self.get_object()), audit.CHANGE, "Paused.")
        return Response(self.get_serializer(task).data)

router = LabRouter()                             # no trailing slash, integer ids
router.register("tasks", TaskViewSet, basename="task")
urlpatterns = router.urls
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest
from rest_framework import mixins, status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from automation_lab.core import audit
from automation_lab.core.api.parsers import LabRequest
from automation_lab.core.exceptions import Invalid

Row = TypeVar("Row", bound=Model)


class LabRouter(SimpleRouter):
    """Paths without trailing slash; ids are integers unless the viewset names another `lookup_value_converter`."""

    def __init__(self) -> None:
        super().__init__(trailing_slash=False, use_regex_path=False)


class LabAPIView(APIView):
    """What every view of the API shares. `scope_area` must be set; see core/api/permissions.py for the rest.

    A view that is no resource sets `permission_model` too, or its callers need the scope alone.
    """

    scope_area = ""
    action_permissions: dict[str, str] = {}
    closed_when_open = False
    extra_query_parameters: tuple[str, ...] = ()
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return LabRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def record(self, obj: Model, action_flag: int, message: str | list[Any] = "") -> None:
        """Leave the audit line of a write by the caller of this request."""
        audit.record(self.request.user, obj, action_flag, message)

    def audited(self, work: Callable[[], Row], action_flag: int, message: str | list[Any]) -> Row:
        """The row that `work` writes; it and its audit line are written together. Not for work that calls the network."""
        with transaction.atomic():
            row = work()
            self.record(row, action_flag, message)
        return row


class LabGenericAPIView(LabAPIView, GenericAPIView):
    """A view on a queryset, outside a router."""


class LabGenericViewSet(ViewSetMixin, LabGenericAPIView):
    """For resources that offer some of the verbs: add DRF's list and retrieve mixins and the ones below."""

    lookup_value_converter = "int"


class CreateMixin:
    """POST. `perform_create` returns the object; override it to call a service."""

    def create(self, request: LabRequest, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)  # type: ignore[attr-defined]
        if not request.has_content:
            raise Invalid("Send the object as a JSON body.", code="empty_body")
        serializer.is_valid(raise_exception=True)
        instance = self.audited(  # type: ignore[attr-defined]
            lambda: self.perform_create(serializer), audit.ADDITION, [{"added": {}}]
        )
        data = self.get_serializer(instance).data  # type: ignore[attr-defined]
        return Response(data, status=status.HTTP_201_CREATED)

    def perform_create(self, serializer: BaseSerializer[Any]) -> Any:
        return serializer.save()


class PartialUpdateMixin:
    """PATCH. `perform_update` returns the object; override it to call a service."""

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        instance = self.get_object()  # type: ignore[attr-defined]
        serializer = self.get_serializer(instance, data=request.data, partial=True)  # type: ignore[attr-defined]
        serializer.is_valid(raise_exception=True)
        message = [{"changed": {"fields": sorted(request.data)}}]
        instance = self.audited(  # type: ignore[attr-defined]
            lambda: self.perform_update(serializer), audit.CHANGE, message
        )
        return Response(self.get_serializer(instance).data)  # type: ignore[attr-defined]

    def perform_update(self, serializer: BaseSerializer[Any]) -> Any:
        return serializer.save()


class DestroyMixin:
    """DELETE. Override `perform_destroy` to call a service."""

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        instance = self.get_object()  # type: ignore[attr-defined]
        with transaction.atomic():
            self.record(instance, audit.DELETION, [{"deleted": {}}])  # type: ignore[attr-defined]
            self.perform_destroy(instance)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def perform_destroy(self, instance: Any) -> None:
        instance.delete()


class LabReadOnlyModelViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, LabGenericViewSet):
    """List and detail."""


class LabModelViewSet(CreateMixin, PartialUpdateMixin, DestroyMixin, LabReadOnlyModelViewSet):
    """List, create, detail, change (PATCH) and delete."""

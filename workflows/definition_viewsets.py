"""What the builder asks before a workflow is saved, and events, over the API."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.api.filters import check_query_parameters
from automation_lab.core.api.idempotency_key import IDEMPOTENCY_KEY, idempotency_key
from automation_lab.core.api.viewsets import LabAPIView
from automation_lab.core.exceptions import Invalid
from workflows import services
from workflows.models import Workflow, WorkflowExecution
from workflows.serializers import (
    DraftResultSerializer,
    DraftSerializer,
    EmittedSerializer,
    EventSerializer,
    StepTypeSerializer,
)
from workflows.steps.base import ContainerType, StepType, WaitingType
from workflows.steps.catalogue import CATALOGUE
from workflows.triggering import events


class StepTypesView(LabAPIView):
    """The step types."""

    scope_area = "workflows"
    permission_model = Workflow

    @extend_schema(responses=StepTypeSerializer(many=True), operation_id="workflows_step_types_list")
    def get(self, request: Request) -> Response:
        """Every step type with the schema of its config."""
        check_query_parameters(request, (), what="parameter")
        return Response(StepTypeSerializer([_described(step_type) for step_type in CATALOGUE], many=True).data)


class ValidateView(LabAPIView):
    """Checks of definitions that are not saved."""

    scope_area = "workflows"
    permission_model = Workflow
    action_permissions = {"": "view"}

    @extend_schema(request=DraftSerializer, responses=DraftResultSerializer, operation_id="workflows_validate")
    def post(self, request: Request) -> Response:
        """Check a definition as saving would, without saving it. Faults are part of the answer, which is 200."""
        body = DraftSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(DraftResultSerializer(_checked(Workflow(name="draft", **body.validated_data))).data)


class EventsView(LabAPIView):
    """Events that start workflows."""

    scope_area = "workflows"
    permission_model = WorkflowExecution

    @extend_schema(
        request=EventSerializer,
        responses={202: EmittedSerializer},
        parameters=[IDEMPOTENCY_KEY],
        operation_id="events_emit",
    )
    def post(self, request: Request) -> Response:
        """Say that something has happened: every enabled workflow whose trigger names the event is started."""
        body = EventSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        key = idempotency_key(request)
        with transaction.atomic():
            emitted = events.emit(
                **body.validated_data,
                event_id=events.event_id_for(key) if key else "",
                started_by=request.user.get_username(),
            )
            for run in emitted.executions:
                self.record(run, audit.ADDITION, f"Started by the event {body.validated_data['event']}.")
        answer = {"event_id": emitted.event_id, "executions": [run.pk for run in emitted.executions]}
        return Response(answer, status=status.HTTP_202_ACCEPTED)


def _described(step_type: StepType) -> dict[str, Any]:
    is_container = isinstance(step_type, ContainerType)
    return {
        "key": step_type.key,
        "title": step_type.title,
        "help": " ".join((step_type.__doc__ or "").split()),
        "schema": step_type.config_schema,
        "kind": "container" if is_container else "waiting" if isinstance(step_type, WaitingType) else "plain",
        "has_effect": step_type.has_effect,
        "retries": step_type.retries,
        "branches": list(step_type.branches) if isinstance(step_type, ContainerType) else [],
        "child_names": sorted(step_type.child_names()) if isinstance(step_type, ContainerType) else [],
        "unrendered": sorted(step_type.unrendered),
    }


def _checked(workflow: Workflow) -> dict[str, Any]:
    try:
        services.check_workflow(workflow)
    except Invalid as error:
        return {"valid": False, "errors": error.errors, "warnings": [], "steps": workflow.steps}
    return {"valid": True, "errors": [], "warnings": services.warnings(workflow), "steps": workflow.steps}

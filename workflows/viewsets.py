"""Workflows and their runs over the API."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.api.idempotency_key import IDEMPOTENCY_KEY, idempotency_key
from automation_lab.core.api.viewsets import LabGenericViewSet, LabModelViewSet
from workflows import services, waits
from workflows.filters import (
    MessageTemplateFilterSet,
    NamedSchemaFilterSet,
    WorkflowExecutionFilterSet,
    WorkflowFilterSet,
)
from workflows.models import MessageTemplate, NamedSchema, Workflow, WorkflowExecution, WorkflowVersion
from workflows.serializers import (
    ApprovalSerializer,
    DecisionSerializer,
    MessageTemplateSerializer,
    NamedSchemaSerializer,
    StartWorkflowSerializer,
    WorkflowExecutionSerializer,
    WorkflowExecutionSummarySerializer,
    WorkflowSerializer,
    WorkflowSummarySerializer,
    WorkflowVersionSerializer,
)
from workflows.tool_viewsets import ResumeMixin, VersionToolsMixin, WorkflowToolsMixin


class WorkflowViewSet(WorkflowToolsMixin, LabModelViewSet):
    """Define workflows. A change of the definition makes a new version; runs stay on theirs."""

    queryset = Workflow.objects.all()
    serializer_class = WorkflowSerializer
    filterset_class = WorkflowFilterSet
    ordering_fields = ["name", "created_at"]
    ordering = ["-id"]
    scope_area = "workflows"
    action_permissions = {"dry_run": "view", "test_step": "change", "import_file": "add"}

    def get_serializer_class(self) -> type[Any]:
        return WorkflowSummarySerializer if self.action == "list" else WorkflowSerializer

    def perform_destroy(self, instance: Workflow) -> None:
        services.delete_workflow(workflow=instance)


class WorkflowVersionViewSet(VersionToolsMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, LabGenericViewSet):
    """The versions of one workflow, newest first."""

    queryset = WorkflowVersion.objects.all()
    serializer_class = WorkflowVersionSerializer
    ordering_fields = ["number"]
    lookup_field = "number"
    scope_area = "workflows"
    action_permissions = {"restore": "workflows.change_workflow"}
    extra_query_parameters = ("against",)

    def get_queryset(self) -> QuerySet[WorkflowVersion]:
        if getattr(self, "swagger_fake_view", False):
            return WorkflowVersion.objects.none()
        get_object_or_404(Workflow.objects.only("pk"), pk=self.kwargs["workflow_id"])
        return WorkflowVersion.objects.select_related("workflow").filter(workflow_id=self.kwargs["workflow_id"])


class WorkflowExecutionViewSet(ResumeMixin, mixins.RetrieveModelMixin, mixins.ListModelMixin, LabGenericViewSet):
    """Watch, cancel and unblock runs of workflows. Executions are never edited over the API."""

    queryset = WorkflowExecution.objects.with_workflow()
    serializer_class = WorkflowExecutionSerializer
    filterset_class = WorkflowExecutionFilterSet
    ordering_fields = ["created_at", "started_at", "duration_ms"]
    scope_area = "workflows"

    def get_queryset(self) -> QuerySet[WorkflowExecution]:
        if self.action == "list":
            return WorkflowExecution.objects.for_lists()
        return WorkflowExecution.objects.with_history()

    def get_serializer_class(self) -> type[Any]:
        return WorkflowExecutionSummarySerializer if self.action == "list" else WorkflowExecutionSerializer

    @extend_schema(request=None, responses=WorkflowExecutionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **kwargs: Any) -> Response:
        """End a waiting run at once, ask the worker of a running one to stop."""
        execution = self.get_object()
        self.audited(lambda: services.cancel_execution(execution=execution), audit.CHANGE, "Cancelled.")
        return self._answer(execution)

    @extend_schema(request=DecisionSerializer, responses=WorkflowExecutionSerializer)
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, **kwargs: Any) -> Response:
        """Answer for a step that was cut off in its effect: do it again, skip it with an output, or fail it."""
        body = DecisionSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        decision = body.validated_data
        execution = self.audited(
            lambda: services.decide(execution=self.get_object(), author=request.user.get_username(), **decision),
            audit.CHANGE,
            f"Decided: {decision['action']} {decision['step']}".strip(),
        )
        return self._answer(execution)

    @extend_schema(request=ApprovalSerializer, responses=WorkflowExecutionSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, **kwargs: Any) -> Response:
        """Approve what a step of this run waits for."""
        return self._decide_approval(request, approved=True)

    @extend_schema(request=ApprovalSerializer, responses=WorkflowExecutionSerializer)
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, **kwargs: Any) -> Response:
        """Reject what a step of this run waits for."""
        return self._decide_approval(request, approved=False)

    def _decide_approval(self, request: Request, *, approved: bool) -> Response:
        body = ApprovalSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        answer = {"approved": approved, "user": request.user, **body.validated_data}
        message = f"{'Approved' if approved else 'Rejected'} {body.validated_data['step']}".strip()
        execution = self.audited(
            lambda: waits.decide_approval(execution=self.get_object(), **answer), audit.CHANGE, f"{message}."
        )
        return self._answer(execution)

    def _answer(self, execution: WorkflowExecution, **options: Any) -> Response:
        fresh = WorkflowExecution.objects.with_history().get(pk=execution.pk)
        return Response(WorkflowExecutionSerializer(fresh, context=self.get_serializer_context()).data, **options)


class ExecutionsOfWorkflowViewSet(WorkflowExecutionViewSet):
    """The runs of one workflow, and the way to start one."""

    def get_queryset(self) -> QuerySet[WorkflowExecution]:
        if getattr(self, "swagger_fake_view", False):
            return WorkflowExecution.objects.none()
        if self.action == "list":
            get_object_or_404(Workflow.objects.only("pk"), pk=self.kwargs["workflow_id"])
        return super().get_queryset().filter(workflow_id=self.kwargs["workflow_id"])

    def get_serializer_class(self) -> type[Any]:
        return StartWorkflowSerializer if self.action == "create" else super().get_serializer_class()

    @extend_schema(
        request=StartWorkflowSerializer, responses={202: WorkflowExecutionSerializer}, parameters=[IDEMPOTENCY_KEY]
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Start a run now."""
        workflow = get_object_or_404(Workflow, pk=kwargs["workflow_id"])
        body = StartWorkflowSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        execution = self.audited(
            lambda: services.start_execution(
                workflow=workflow,
                idempotency_key=idempotency_key(request),
                started_by=request.user.get_username(),
                **body.validated_data,
            ),
            audit.ADDITION,
            "Started.",
        )
        return self._answer(execution, status=status.HTTP_202_ACCEPTED)


class MessageTemplateViewSet(LabModelViewSet):
    """Messages that `email` and `notify` steps name."""

    queryset = MessageTemplate.objects.all()
    serializer_class = MessageTemplateSerializer
    filterset_class = MessageTemplateFilterSet
    ordering_fields = ["name", "created_at"]
    scope_area = "workflows"


class NamedSchemaViewSet(LabModelViewSet):
    """JSON Schemas that `validate` steps name."""

    queryset = NamedSchema.objects.all()
    serializer_class = NamedSchemaSerializer
    filterset_class = NamedSchemaFilterSet
    ordering_fields = ["name", "created_at"]
    scope_area = "workflows"

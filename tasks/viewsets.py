"""Tasks and their runs over the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from automation_lab.core import audit, clock
from automation_lab.core.api.authentication import OpenAccess
from automation_lab.core.api.idempotency_key import IDEMPOTENCY_KEY, idempotency_key
from automation_lab.core.api.viewsets import LabGenericViewSet, LabModelViewSet
from tasks import services
from tasks.commands import access
from tasks.filters import ScheduledTaskFilterSet, TaskExecutionFilterSet
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import backfill as backfills
from tasks.scheduling import previews
from tasks.serializers import (
    BackfillResultSerializer,
    BackfillSerializer,
    NextRunsSerializer,
    PauseSerializer,
    ScheduledTaskSerializer,
    ScheduledTaskSummarySerializer,
    SchedulePreviewRequestSerializer,
    SchedulePreviewSerializer,
    StartTaskSerializer,
    TaskExecutionSerializer,
    TaskExecutionSummarySerializer,
)


class ScheduledTaskViewSet(LabModelViewSet):
    """Define scheduled tasks."""

    queryset = ScheduledTask.objects.all()
    serializer_class = ScheduledTaskSerializer
    filterset_class = ScheduledTaskFilterSet
    ordering_fields = ["name", "created_at", "next_run_at"]
    ordering = ["-id"]
    scope_area = "tasks"
    action_permissions = {"preview_schedule": "view"}

    def get_queryset(self) -> QuerySet[ScheduledTask]:
        queryset = super().get_queryset()
        return queryset.defer("last_output") if self.action == "list" else queryset

    def get_serializer_class(self) -> type[Any]:
        return ScheduledTaskSummarySerializer if self.action == "list" else super().get_serializer_class()

    def perform_create(self, serializer: BaseSerializer[Any]) -> Any:
        asked = serializer.validated_data
        _check_command(self.request, asked.get("task_type", ""), asked.get("config"))
        return serializer.save()

    def perform_update(self, serializer: BaseSerializer[Any]) -> Any:
        task, changes = serializer.instance, serializer.validated_data
        assert task is not None  # noqa: S101 - DRF gives it
        _check_command(self.request, task.task_type, task.config)
        _check_command(self.request, changes.get("task_type", task.task_type), changes.get("config", task.config))
        return serializer.save()

    def perform_destroy(self, instance: ScheduledTask) -> None:
        services.delete_task(task=instance)

    @extend_schema(request=PauseSerializer, responses=ScheduledTaskSerializer)
    @action(detail=True, methods=["post"], serializer_class=PauseSerializer)
    def pause(self, request: Request, **kwargs: Any) -> Response:
        """Stop the schedule. Runs by hand stay possible."""
        body = PauseSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        note = body.validated_data["note"]
        return self._changed(lambda: services.pause_task(task=self.get_object(), note=note), "Paused.")

    @extend_schema(request=None, responses=ScheduledTaskSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **kwargs: Any) -> Response:
        """Start the schedule again. Slots of the pause do not fire."""
        task = self.get_object()
        _check_command(request, task.task_type, task.config)
        return self._changed(lambda: services.resume_task(task=task), "Resumed.")

    @extend_schema(request=BackfillSerializer, responses={202: BackfillResultSerializer})
    @action(detail=True, methods=["post"])
    def backfill(self, request: Request, **kwargs: Any) -> Response:
        """Run the slots of a past period that were missed or skipped, or have no run. `dry_run` only counts."""
        body = BackfillSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        task = self.get_object()
        _check_command(request, task.task_type, task.config)
        with transaction.atomic():
            result = backfills.backfill(task=task, from_at=asked["from"], to_at=asked["to"], dry_run=asked["dry_run"])
            if asked["dry_run"]:
                return Response(asdict(result))
            self.record(task, audit.CHANGE, f"Backfilled {result.revived + result.created} slots.")
        return Response(asdict(result), status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        responses=SchedulePreviewSerializer,
        parameters=[OpenApiParameter("count", int, description="How many, 1 to 100; default 5.")],
    )
    @action(detail=True, methods=["get"], url_path="next-runs", extra_query_parameters=("count",))
    def next_runs(self, request: Request, **kwargs: Any) -> Response:
        """The next runs, with what changes of clocks do to them."""
        asked = NextRunsSerializer(data={"count": _number(request.query_params.get("count", "5"))})
        asked.is_valid(raise_exception=True)
        count = asked.validated_data["count"]
        return Response(previews.of_task(self.get_object(), now=clock.database_now(), count=count))

    @extend_schema(request=SchedulePreviewRequestSerializer, responses=SchedulePreviewSerializer)
    @action(detail=False, methods=["post"], url_path="preview-schedule")
    def preview_schedule(self, request: Request, **kwargs: Any) -> Response:
        """What a schedule means and when it runs, before it is saved."""
        body = SchedulePreviewRequestSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        text, count = asked.pop("schedule"), asked.pop("count")
        return Response(previews.of_text(text, now=clock.database_now(), count=count, **asked))

    def _changed(self, change: Callable[[], ScheduledTask], message: str) -> Response:
        task = self.audited(change, audit.CHANGE, message)
        return Response(ScheduledTaskSerializer(task, context=self.get_serializer_context()).data)


class TaskExecutionViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, LabGenericViewSet):
    """Watch, cancel and retry runs of scheduled tasks. Executions are never edited over the API."""

    queryset = TaskExecution.objects.with_task()
    serializer_class = TaskExecutionSerializer
    filterset_class = TaskExecutionFilterSet
    ordering_fields = ["created_at", "started_at", "duration_ms"]
    scope_area = "tasks"

    def get_queryset(self) -> QuerySet[TaskExecution]:
        if self.action == "list":
            return TaskExecution.objects.with_task().defer("output_data", "task__last_output")
        return TaskExecution.objects.with_history()

    def get_serializer_class(self) -> type[Any]:
        return TaskExecutionSummarySerializer if self.action == "list" else TaskExecutionSerializer

    @extend_schema(request=None, responses=TaskExecutionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **kwargs: Any) -> Response:
        """End a pending run at once, ask the worker of a running one to stop."""
        execution = self.get_object()
        self.audited(lambda: services.cancel_execution(execution=execution), audit.CHANGE, "Cancelled.")
        return self._answer(execution)

    @extend_schema(request=None, responses={202: TaskExecutionSerializer}, parameters=[IDEMPOTENCY_KEY])
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **kwargs: Any) -> Response:
        """A new run with the same input, linked to this finished one."""
        first = self.get_object()
        _check_command(request, first.task.task_type, first.task.config)
        key = idempotency_key(request)
        execution = self.audited(
            lambda: services.retry_execution(execution=first, idempotency_key=key),
            audit.ADDITION,
            "Started as a retry.",
        )
        return self._answer(execution, status=status.HTTP_202_ACCEPTED)

    def _answer(self, execution: TaskExecution, **options: Any) -> Response:
        fresh = TaskExecution.objects.with_history().get(pk=execution.pk)
        return Response(TaskExecutionSerializer(fresh, context=self.get_serializer_context()).data, **options)


class ExecutionsOfTaskViewSet(TaskExecutionViewSet):
    """The runs of one task, and the way to start one."""

    def get_queryset(self) -> QuerySet[TaskExecution]:
        if getattr(self, "swagger_fake_view", False):
            return TaskExecution.objects.none()
        if self.action == "list":
            get_object_or_404(ScheduledTask.objects.only("pk"), pk=self.kwargs["task_id"])
        return super().get_queryset().filter(task_id=self.kwargs["task_id"])

    def get_serializer_class(self) -> type[Any]:
        return StartTaskSerializer if self.action == "create" else super().get_serializer_class()

    @extend_schema(request=StartTaskSerializer, responses={202: TaskExecutionSerializer}, parameters=[IDEMPOTENCY_KEY])
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Run the task now."""
        task = get_object_or_404(ScheduledTask, pk=kwargs["task_id"])
        _check_command(request, task.task_type, task.config)
        body = StartTaskSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        execution = self.audited(
            lambda: services.start_execution(
                task=task,
                trigger=TaskExecution.Trigger.API,
                input_data=body.validated_data.get("input_data"),
                idempotency_key=idempotency_key(request),
            ),
            audit.ADDITION,
            "Started.",
        )
        return self._answer(execution, status=status.HTTP_202_ACCEPTED)


def _check_command(request: Request, task_type: str, config: Any) -> None:
    is_open = isinstance(request.auth, OpenAccess)
    access.check_config(request.user, task_type, config, is_open=is_open)


def _number(text: str) -> Any:
    """`text` as an integer where it is one; what it is otherwise, its field refuses."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text

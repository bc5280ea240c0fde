"""What the builder and the operator ask of workflows and runs beside their data: tries, resumes, files, versions."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Model
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.exceptions import Conflict, NotFound
from inbox.models import Webhook
from workflows import resume as resumes
from workflows.definitions import transfer, versions
from workflows.models import Workflow, WorkflowVersion
from workflows.running import rehearsal
from workflows.serializers import WorkflowExecutionSerializer, WorkflowSerializer
from workflows.tool_serializers import (
    DryRunSerializer,
    ImportResultSerializer,
    ImportSerializer,
    RehearsalResultSerializer,
    ResumePreviewSerializer,
    ResumeSerializer,
    TestStepSerializer,
    VersionDiffSerializer,
    WorkflowFileSerializer,
)

Row = TypeVar("Row", bound=Model)

_testing = threading.Lock()  # a tested step occupies a web thread: one at a time in each process


class WorkflowToolsMixin:
    """For the viewset of workflows."""

    @extend_schema(request=DryRunSerializer, responses=RehearsalResultSerializer)
    @action(detail=True, methods=["post"], url_path="dry-run")
    def dry_run(self, request: Request, **kwargs: Any) -> Response:
        """What a run would do with this input: every config rendered, outside effects marked and not done."""
        workflow = self.get_object()  # type: ignore[attr-defined]
        body = DryRunSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        asked["webhook"] = _named(Webhook, asked["webhook"], "webhook")
        return Response(rehearsal.dry_run(workflow=workflow, **asked))

    @extend_schema(request=TestStepSerializer, responses=RehearsalResultSerializer)
    @action(detail=False, methods=["post"], url_path="test-step")
    def test_step(self, request: Request, **kwargs: Any) -> Response:
        """Run one step on sample data, only rendered unless `do_it`."""
        body = TestStepSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        asked["webhook"] = _named(Webhook, asked["webhook"], "webhook")
        workflow_id = asked.pop("workflow")
        workflow = _named(Workflow, workflow_id, "workflow")
        if not asked["do_it"]:
            return Response(rehearsal.test_step(workflow=workflow, **asked))
        if not _testing.acquire(blocking=False):
            raise Conflict("Another step is being tested: try again when it is done.")
        try:
            return Response(rehearsal.test_step(workflow=workflow, **asked))
        finally:
            _testing.release()

    @extend_schema(responses=WorkflowFileSerializer)
    @action(detail=True, methods=["get"])
    def export(self, request: Request, **kwargs: Any) -> Response:
        """The workflow as one file with its templates and schemas; secrets by name only."""
        workflow = self.get_object()  # type: ignore[attr-defined]
        disposition = f'attachment; filename="workflow-{workflow.pk}.json"'
        return Response(transfer.export_workflow(workflow), headers={"Content-Disposition": disposition})

    @extend_schema(request=ImportSerializer, responses={201: ImportResultSerializer, 200: ImportResultSerializer})
    @action(detail=False, methods=["post"], url_path="import")
    def import_file(self, request: Request, **kwargs: Any) -> Response:
        """Add the workflow of an exported file, switched off. `dry_run` only says what would happen."""
        body = ImportSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        with transaction.atomic():
            result = transfer.import_workflow(**asked, author=request.user.get_username())
            workflow = result["workflow"]
            if not asked["dry_run"]:
                self.record(workflow, audit.ADDITION, f"Imported: {result['action']}.")  # type: ignore[attr-defined]
        answer = {"action": result["action"], "id": workflow.pk, "name": workflow.name, "warnings": result["warnings"]}
        return Response(answer, status=status.HTTP_200_OK if asked["dry_run"] else status.HTTP_201_CREATED)


class VersionToolsMixin:
    """For the viewset of versions."""

    @extend_schema(request=None, responses=WorkflowSerializer)
    def restore(self, request: Request, **kwargs: Any) -> Response:
        """Make this version's definition the current one, as a new version."""
        version: WorkflowVersion = self.get_object()  # type: ignore[attr-defined]
        workflow = self.audited(  # type: ignore[attr-defined]
            lambda: versions.restore(workflow=version.workflow, version=version, author=request.user.get_username()),
            audit.CHANGE,
            f"Restored version {version.number}.",
        )
        return Response(WorkflowSerializer(workflow, context=self.get_serializer_context()).data)  # type: ignore[attr-defined]

    @extend_schema(
        responses=VersionDiffSerializer,
        parameters=[OpenApiParameter("against", int, description="The older version; default the one before.")],
    )
    def diff(self, request: Request, **kwargs: Any) -> Response:
        """What changed from an older version to this one, step by step."""
        version: WorkflowVersion = self.get_object()  # type: ignore[attr-defined]
        text = request.query_params.get("against", str(max(1, version.number - 1)))
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        older = WorkflowVersion.objects.filter(workflow_id=version.workflow_id, number=number).first()
        if older is None:
            raise NotFound(f"This workflow has no version {text[:20]!r}.")
        return Response(versions.diff(older, version))


class ResumeMixin:
    """For the viewset of runs."""

    @extend_schema(request=ResumeSerializer, responses={200: ResumePreviewSerializer, 202: WorkflowExecutionSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **kwargs: Any) -> Response:
        """Run again from the failed step, any finished step, or the start. `dry_run` only says what would run."""
        execution = self.get_object()  # type: ignore[attr-defined]
        body = ResumeSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        plan = resumes.plan(
            execution=execution,
            start=asked["from"],
            version=asked["version"],
            variables=asked.get("variables"),
            skip=asked["skip"],
            trigger_data=asked.get("trigger_data"),
            edit_input="trigger_data" in asked,
        )
        if asked["dry_run"]:
            return Response(_preview(plan))
        fresh = self.audited(  # type: ignore[attr-defined]
            lambda: resumes.resume(execution=execution, plan=plan, started_by=request.user.get_username()),
            audit.ADDITION,
            f"Resumed from run {execution.pk}.",
        )
        return self._answer(fresh, status=status.HTTP_202_ACCEPTED)  # type: ignore[attr-defined]


def _preview(plan: resumes.ResumePlan) -> dict[str, Any]:
    return {
        "version": plan.version.number,
        "kept": [record.path for record in plan.kept],
        "again": [record.path for record in plan.again],
        "skipped": list(plan.skipped),
        "variables": plan.variables,
    }


def _named(model: type[Row], pk: int | None, what: str) -> Row | None:
    """The row that the body names, which another 404 than that of the path says."""
    if pk is None:
        return None
    row = model._default_manager.filter(pk=pk).first()
    if row is None:
        raise NotFound(f"There is no {what} {pk}.", field=what)
    return row

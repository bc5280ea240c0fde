from django.urls import path

from automation_lab.core.api.viewsets import LabRouter
from workflows.definition_viewsets import EventsView, StepTypesView, ValidateView
from workflows.views import callback
from workflows.viewsets import (
    ExecutionsOfWorkflowViewSet,
    MessageTemplateViewSet,
    NamedSchemaViewSet,
    WorkflowExecutionViewSet,
    WorkflowVersionViewSet,
    WorkflowViewSet,
)

router = LabRouter()
router.register("workflows/executions", WorkflowExecutionViewSet, basename="workflow-execution")
router.register("workflows/templates", MessageTemplateViewSet, basename="message-template")
router.register("workflows/schemas", NamedSchemaViewSet, basename="named-schema")
router.register("workflows", WorkflowViewSet, basename="workflow")
urlpatterns = [
    *router.urls,
    path("workflows/step-types", StepTypesView.as_view(), name="step-types"),
    path("workflows/validate", ValidateView.as_view(), name="validate-workflow"),
    path("events", EventsView.as_view(), name="events"),
    path("callbacks/<str:token>", callback, name="callback"),
    path(
        "workflows/<int:workflow_id>/executions",
        ExecutionsOfWorkflowViewSet.as_view({"get": "list", "post": "create"}),
        name="executions-of-workflow",
    ),
    path(
        "workflows/<int:workflow_id>/versions",
        WorkflowVersionViewSet.as_view({"get": "list"}),
        name="versions-of-workflow",
    ),
    path(
        "workflows/<int:workflow_id>/versions/<int:number>",
        WorkflowVersionViewSet.as_view({"get": "retrieve"}),
        name="version-of-workflow",
    ),
    path(
        "workflows/<int:workflow_id>/versions/<int:number>/restore",
        WorkflowVersionViewSet.as_view({"post": "restore"}),
        name="restore-version-of-workflow",
    ),
    path(
        "workflows/<int:workflow_id>/versions/<int:number>/diff",
        WorkflowVersionViewSet.as_view({"get": "diff"}),
        name="diff-version-of-workflow",
    ),
]

from django.urls import path

from automation_lab.core.api.viewsets import LabRouter
from tasks.urls_shared import router as shared_router
from tasks.viewsets import ExecutionsOfTaskViewSet, ScheduledTaskViewSet, TaskExecutionViewSet

router = LabRouter()
router.register("tasks/executions", TaskExecutionViewSet, basename="task-execution")
router.register("tasks", ScheduledTaskViewSet, basename="task")
urlpatterns = [
    *router.urls,
    *shared_router.urls,
    path(
        "tasks/<int:task_id>/executions",
        ExecutionsOfTaskViewSet.as_view({"get": "list", "post": "create"}),
        name="executions-of-task",
    ),
]

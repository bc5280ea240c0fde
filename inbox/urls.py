from django.urls import path, re_path

from automation_lab.core.api.viewsets import LabRouter
from inbox.replaying.viewsets import ForwardViewSet, ReplayViewSet, SavedViewViewSet
from inbox.streaming.stream_views import StreamView
from inbox.views import receive
from inbox.viewsets import SourceViewSet, WebhookViewSet

router = LabRouter()
router.register("webhooks/inbox", WebhookViewSet, basename="webhook")
router.register("webhooks/sources", SourceViewSet, basename="source")
router.register("webhooks/replays", ReplayViewSet, basename="replay")
router.register("webhooks/forwards", ForwardViewSet, basename="forward")
router.register("webhooks/views", SavedViewViewSet, basename="saved-view")
urlpatterns = [
    *router.urls,
    path("webhooks/stream", StreamView.as_view(), name="webhook-stream"),
    # After the routes of the API, which have ids where these have names. Not anchored: whatever may follow the name.
    re_path(r"^webhooks/inbox/(?P<name>[^/]*)", receive, name="receive"),
]

from django.urls import re_path

from automation_lab.core.viewsets import LabRouter
from inbox.views import receive
from inbox.viewsets import SourceViewSet, WebhookViewSet

router = LabRouter()
router.register("webhooks/inbox", WebhookViewSet, basename="webhook")
router.register("webhooks/sources", SourceViewSet, basename="source")
urlpatterns = [
    *router.urls,
    # After the routes of the API, which have ids where these have names. Not anchored: whatever may follow the name.
    re_path(r"^webhooks/inbox/(?P<name>[^/]*)", receive, name="receive"),
]

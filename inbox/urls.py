from django.urls import re_path

from automation_lab.core.viewsets import LabRouter
from inbox.views import receive
from inbox.viewsets import SourceViewSet, WebhookViewSet

router = LabRouter()
router.register("webhooks/inbox", WebhookViewSet, basename="webhook")
router.register("webhooks/sources", SourceViewSet, basename="source")
urlpatterns = [
    *router.urls,
    # After the routes of the API, which have ids where these have names. Any character may follow, line breaks too.
    re_path(r"(?s)^webhooks/inbox/(?P<name>[^/]*)(?:/(?P<rest>.*))?\Z", receive, name="receive"),
]

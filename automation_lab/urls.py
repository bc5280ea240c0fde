"""Every address: the console, the API of the four apps, its documentation, health."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, register_converter
from django.views.generic import RedirectView

from automation_lab.converters import TokenIdConverter
from automation_lab.core.api.viewsets import LabRouter
from automation_lab.docs import OpenApiView, RedocView, SwaggerView
from automation_lab.viewsets import ApiTokenViewSet
from workflows.console.approval_page import approve

register_converter(TokenIdConverter, "token_id")

router = LabRouter()
router.register("tokens", ApiTokenViewSet, basename="token")

api = [
    path("", include("inbox.urls")),
    path("", include("tasks.urls")),
    path("", include("workflows.urls")),
    path("", include("apilogs.urls")),
    path("", include(router.urls)),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("v1/", include(api)),
    path("approve/<str:token>", approve, name="approve"),
    path("openapi.json", OpenApiView.as_view(), name="openapi"),
    path("docs", SwaggerView.as_view(), name="docs"),
    path("redoc", RedocView.as_view(), name="redoc"),
    path("", include("automation_lab.health")),
]

handler400 = "automation_lab.error_views.bad_request"
handler403 = "automation_lab.error_views.permission_denied"
handler404 = "automation_lab.error_views.not_found"
handler500 = "automation_lab.error_views.server_error"

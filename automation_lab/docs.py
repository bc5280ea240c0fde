"""The API's documentation: the OpenAPI document and two ways to read it, all served from here."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response


@lru_cache(maxsize=1)
def openapi_document() -> dict[str, Any]:
    """The document; the same for everybody and costly to build, so kept."""
    return SchemaGenerator().get_schema(request=None, public=True)


class OpenApiView(SpectacularJSONAPIView):
    authentication_classes: list[Any] = []
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer]

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(openapi_document())


class SwaggerView(SpectacularSwaggerSplitView):
    """The start script is its own request (`?script=`), so that the page needs no inline script."""

    authentication_classes: list[Any] = []
    url_name = "openapi"


class RedocView(SpectacularRedocView):
    authentication_classes: list[Any] = []
    url_name = "openapi"

"""Tokens over the API."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins

from automation_lab import tokens
from automation_lab.core import audit
from automation_lab.core.api.viewsets import CreateMixin, DestroyMixin, LabGenericViewSet
from automation_lab.core.exceptions import NotFound
from automation_lab.models import ApiToken
from automation_lab.serializers import ApiTokenSerializer, NewApiTokenSerializer

TOKEN_ID = OpenApiParameter("id", str, OpenApiParameter.PATH, pattern="^[0-9a-f]{16}$")


@extend_schema_view(
    create=extend_schema(request=ApiTokenSerializer, responses={201: NewApiTokenSerializer}),
    retrieve=extend_schema(parameters=[TOKEN_ID]),
    destroy=extend_schema(parameters=[TOKEN_ID]),
)
class ApiTokenViewSet(CreateMixin, DestroyMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, LabGenericViewSet):
    """Make, list and revoke API tokens. Superusers see all, others their own; the value is shown once, when made."""

    queryset = ApiToken.objects.select_related("user")
    serializer_class = ApiTokenSerializer
    ordering_fields = ["created", "name"]
    ordering = ["-created"]
    scope_area = "admin"
    closed_when_open = True
    lookup_field = "id"
    lookup_value_converter = "token_id"
    cursor_fields = ()

    def get_queryset(self) -> QuerySet[ApiToken]:
        queryset = super().get_queryset()
        user = self.request.user
        return queryset if user.is_superuser else queryset.filter(user_id=user.pk)

    def get_serializer_class(self) -> type[ApiTokenSerializer]:
        return NewApiTokenSerializer if self.action == "create" else ApiTokenSerializer

    def get_object(self) -> ApiToken:
        token = self.filter_queryset(self.get_queryset()).filter(digest__startswith=self.kwargs["id"]).first()
        if token is None:
            raise NotFound("There is no such token.")
        return token

    def record(self, obj: Any, action_flag: int, message: str | list[Any] = "") -> None:
        audit.record(self.request.user, obj, action_flag, message, object_id=tokens.public_id(obj))

    def perform_destroy(self, instance: ApiToken) -> None:
        tokens.revoke_token(instance)

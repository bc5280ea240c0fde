"""Replays, forwards and saved views over the API."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.api.idempotency_key import IDEMPOTENCY_KEY, idempotency_key
from automation_lab.core.api.permissions import check_scope
from automation_lab.core.api.viewsets import (
    CreateMixin,
    DestroyMixin,
    LabGenericViewSet,
    LabReadOnlyModelViewSet,
    PartialUpdateMixin,
)
from automation_lab.core.exceptions import NotFound
from automation_lab.core.registry import replay_targets
from inbox.filters import ForwardFilterSet, ReplayFilterSet
from inbox.models import Forward, Replay, SavedView, Webhook
from inbox.replaying import replays
from inbox.replaying.serializers import (
    BatchCountSerializer,
    BatchOrderSerializer,
    ForwardSerializer,
    ForwardSummarySerializer,
    ReplayDetailSerializer,
    ReplayOrderSerializer,
    ReplaySerializer,
    SavedViewSerializer,
)
from inbox.searching import selection


class ReplayActions:
    """What the resource of webhooks offers beside reading and changing them."""

    @extend_schema(request=ReplayOrderSerializer, responses={202: ReplayDetailSerializer}, parameters=[IDEMPOTENCY_KEY])
    @action(detail=True, methods=["post"], serializer_class=ReplayOrderSerializer)
    def replay(self, request: Request, **kwargs: Any) -> Response:
        """Send this webhook again: to the workflows it matches, to a chosen one, or to an address."""
        body = ReplayOrderSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        target = check_target(request, body.validated_data["target"])
        with transaction.atomic():
            replay = replays.replay_webhook(
                webhook=self.get_object(),  # type: ignore[attr-defined]  # of the viewset
                target=target,
                options=body.options(),
                created_by=request.user.get_username(),
                idempotency_key=idempotency_key(request),
            )
            self.record(replay, audit.ADDITION, "Ordered.")  # type: ignore[attr-defined]
        return Response(ReplayDetailSerializer(replay).data, status=status.HTTP_202_ACCEPTED)


class ReplayViewSet(LabReadOnlyModelViewSet):
    """Webhooks that are sent again, one or many at a time."""

    queryset = Replay.objects.all()
    serializer_class = ReplayDetailSerializer
    filterset_class = ReplayFilterSet
    scope_area = "inbox"

    def get_queryset(self) -> QuerySet[Replay]:
        return (
            super().get_queryset().defer("webhook_ids", "options") if self.action == "list" else super().get_queryset()
        )

    def get_serializer_class(self) -> type[Any]:
        by_action = {"list": ReplaySerializer, "create": BatchOrderSerializer}
        return by_action.get(self.action, super().get_serializer_class())

    @extend_schema(
        request=BatchOrderSerializer,
        responses={200: BatchCountSerializer, 202: ReplayDetailSerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Send a selection again, in the background and at a rate. With `dry_run` it is only counted: 200."""
        body = BatchOrderSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        order = body.validated_data
        target = check_target(request, order["target"])
        webhooks = _selected(order).order_by("pk").values_list("pk", flat=True)
        ids = list(webhooks[: replays.MOST_WEBHOOKS + 1])
        if order["dry_run"]:
            replay_targets.get(target).check(body.options())
            return Response(_count(len(ids)))
        with transaction.atomic():
            replay = replays.replay_webhooks(
                webhook_ids=ids,
                filters={"filter": order["filter"]} if "filter" in order else {"ids": order["ids"]},
                target=target,
                options=body.options(),
                rate_per_second=order["rate_per_second"],
                created_by=request.user.get_username(),
                idempotency_key=idempotency_key(request),
            )
            self.record(replay, audit.ADDITION, "Ordered.")
        return Response(ReplayDetailSerializer(replay).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=ReplayDetailSerializer)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, **kwargs: Any) -> Response:
        """Start nothing more, and cancel the forwards that still wait. What has been sent stays sent."""
        replay = self.audited(lambda: replays.stop_replay(replay=self.get_object()), audit.CHANGE, "Stopped.")
        return Response(ReplayDetailSerializer(replay).data)


class ForwardViewSet(LabReadOnlyModelViewSet):
    """Webhooks on their way to another address, with every answer."""

    queryset = Forward.objects.all()
    serializer_class = ForwardSerializer
    filterset_class = ForwardFilterSet
    scope_area = "inbox"

    def get_queryset(self) -> QuerySet[Forward]:
        if self.action == "list":
            return Forward.objects.defer("answer")
        return Forward.objects.prefetch_related("attempts")

    def get_serializer_class(self) -> type[Any]:
        return ForwardSummarySerializer if self.action == "list" else super().get_serializer_class()

    @extend_schema(request=None, responses=ForwardSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **kwargs: Any) -> Response:
        """End a waiting forward at once, interrupt one that is being sent."""
        forward = self.audited(lambda: replays.cancel_forward(forward=self.get_object()), audit.CHANGE, "Cancelled.")
        return Response(ForwardSerializer(forward).data)


class SavedViewViewSet(
    CreateMixin, PartialUpdateMixin, DestroyMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, LabGenericViewSet
):
    """Named queries of the list of webhooks: one's own, and those that others share."""

    queryset = SavedView.objects.select_related("owner")
    serializer_class = SavedViewSerializer
    ordering_fields = ["name", "created_at"]
    scope_area = "inbox"

    def get_queryset(self) -> QuerySet[SavedView]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        own = Q(owner=self.request.user.pk)
        # Seeing a shared view is not changing it.
        shared = Q(shared=True) if self.request.method in ("GET", "HEAD", "OPTIONS") else Q(pk=None)
        return super().get_queryset().filter(own | shared)


def check_target(request: Request, name: str) -> str:
    """`name`, if the caller may do what a replay to it does."""
    target = replay_targets.get(name)
    check_scope(request, target.scope_area)
    if not request.user.has_perm(target.permission):
        raise PermissionDenied(f'Your user lacks the permission "{target.permission}".', code="missing_permission")
    return name


def _selected(order: dict[str, Any]) -> QuerySet[Webhook]:
    if "filter" in order:
        return selection.select_for_replay(order["filter"])
    wanted = set(order["ids"])
    found = Webhook.objects.filter(pk__in=wanted)
    missing = sorted(wanted - set(found.values_list("pk", flat=True)))
    if missing:
        raise NotFound(f"There is no webhook {missing[0]} ({len(missing)} of {len(wanted)} are missing).", field="ids")
    return found


def _count(found: int) -> dict[str, Any]:
    most = replays.MOST_WEBHOOKS
    return {"dry_run": True, "count": min(found, most), "count_is_capped": found > most}

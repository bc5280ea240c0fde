"""How the API shows log rows and figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from apilogs.models import ApiLog
from apilogs.stats import MOST_POINTS, MOST_ROUTES, STATUS_CLASSES, STEPS, Selection
from automation_lab.core.api.filters import check_query_parameters
from automation_lab.core.api.serializers import StrictChoiceField

PAYLOADS = ["request_headers", "request_body", "response_headers", "response_body"]


class ApiLogListSerializer(serializers.ModelSerializer[ApiLog]):
    class Meta:
        model = ApiLog
        fields = [
            "id",
            "correlation_id",
            "method",
            "path",
            "route",
            "query_params",
            "status_code",
            "duration_ms",
            "user_id",
            "username",
            "client_ip",
            "user_agent",
            "request_size",
            "response_size",
            "error",
            "created_at",
        ]
        read_only_fields = fields


class ApiLogSerializer(ApiLogListSerializer):
    class Meta(ApiLogListSerializer.Meta):
        fields = [*ApiLogListSerializer.Meta.fields, *PAYLOADS]
        read_only_fields = fields


# --- figures ----------------------------------------------------------------------------------------------------------


class StatusClassesSerializer(serializers.Serializer[Any]):
    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {f"{status}xx": serializers.IntegerField() for status in STATUS_CLASSES}


class FiguresSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    error_count = serializers.IntegerField(help_text="Answers from 400 on.")
    error_share = serializers.FloatField(help_text="From 0 to 1.")
    status_classes = StatusClassesSerializer()
    avg_ms = serializers.FloatField(allow_null=True, help_text="null without requests.")
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)
    max_ms = serializers.FloatField(allow_null=True)


class RouteFiguresSerializer(FiguresSerializer):
    route = serializers.CharField(help_text="Empty for requests that matched no address.")


class StatusCountSerializer(serializers.Serializer[Any]):
    status_code = serializers.IntegerField()
    count = serializers.IntegerField()


class PointSerializer(FiguresSerializer):
    at = serializers.DateTimeField(help_text="Where the bucket begins, UTC.")


class SummarySerializer(FiguresSerializer):
    since = serializers.DateTimeField(help_text="From hourly figures: the full hour before the instant asked for.")
    until = serializers.DateTimeField()
    read_from = serializers.ChoiceField(
        choices=["rows", "hours"],
        help_text="Beyond 25 hours: from hourly figures, a minute old at most, with percentiles within 5.2 %.",
    )
    by_route = RouteFiguresSerializer(many=True, help_text=f"The {MOST_ROUTES} busiest.")
    by_status = StatusCountSerializer(many=True, help_text="Empty when read from hours.")
    per_hour = PointSerializer(many=True, help_text=f"Empty when there are more than {MOST_POINTS} hours.")
    dropped_count = serializers.IntegerField(help_text="Requests of this window that the log had to drop.")


class TimeseriesSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    read_from = serializers.ChoiceField(choices=["rows", "hours"])
    bucket = serializers.ChoiceField(choices=list(STEPS))
    points = PointSerializer(many=True)


# --- what may be asked ------------------------------------------------------------------------------------------------


# One day of the calendar stays free on both sides, for the window before an instant and the bucket that ends after it.
EARLIEST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


def check_calendar(instant: datetime) -> None:
    if not EARLIEST <= instant <= LATEST:
        raise serializers.ValidationError(f"Take an instant from {EARLIEST.date()} to {LATEST.date()}.")


class SelectionSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField(
        required=False, help_text="From this instant on; 24 hours before until by default."
    )
    until = serializers.DateTimeField(
        required=False, validators=[check_calendar], help_text="Before this instant; now by default."
    )
    route = serializers.CharField(required=False, allow_blank=True, max_length=200, help_text="The URL template.")
    path = serializers.CharField(required=False, allow_blank=True, help_text="How the path begins.")
    method = serializers.CharField(required=False, allow_blank=True, max_length=16)

    def selection(self) -> Selection:
        """What is asked for. Raises ValidationError, and Invalid for parameters that are not known."""
        check_query_parameters(self.context["request"], list(self.fields))
        self.is_valid(raise_exception=True)
        given = self.validated_data
        until = given.get("until") or timezone.now()
        return Selection(
            since=given.get("since") or until - timedelta(hours=24),
            until=until,
            route=given.get("route", ""),
            path=given.get("path", ""),
            method=given.get("method", "").upper(),
        )


class TimeseriesSelectionSerializer(SelectionSerializer):
    bucket = StrictChoiceField(choices=list(STEPS), default="hour")

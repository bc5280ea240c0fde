"""What the live port tells of API requests."""

from automation_lab.core.live import Topic

API_LOG = Topic(
    name="api_log",
    table="api_logs",
    area="logs",
    permission="apilogs.view_apilog",
    columns=[
        "correlation_id", "method", "path", "route", "status_code", "duration_ms", "user_id", "username", "client_ip",
        "request_size", "response_size", "error", "created_at",
    ],
)  # fmt: skip

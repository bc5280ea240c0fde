"""The one table that belongs to no resource."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from knox.models import AbstractAuthToken


class ApiToken(AbstractAuthToken):
    """A named token for the API. Only its SHA-512 digest is kept; the token itself is shown once, when it is made."""

    class Scope(models.TextChoices):
        INBOX_READ = "inbox:read"
        INBOX_WRITE = "inbox:write"
        TASKS_READ = "tasks:read"
        TASKS_WRITE = "tasks:write"
        WORKFLOWS_READ = "workflows:read"
        WORKFLOWS_WRITE = "workflows:write"
        LOGS_READ = "logs:read"
        LOGS_WRITE = "logs:write"
        ADMIN = "admin"

    name = models.CharField(max_length=100)
    scopes = ArrayField(
        models.CharField(max_length=30, choices=Scope),
        default=list,
        blank=True,
        help_text="Empty: all the user may do.",
    )
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Written at most once a minute.")

    class Meta(AbstractAuthToken.Meta):
        abstract = False
        db_table = "api_tokens"
        ordering = ["-created", "digest"]

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key[:8]}…)"

"""Tokens, people, the audit trail, the job queue and refused sign-ins in the console."""

from __future__ import annotations

from copy import copy
from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSplitDateTimeWidget

from automation_lab import admin_site, tokens
from automation_lab.core import audit
from automation_lab.core.admin import (
    LabChangeList,
    LabModelAdmin,
    ReadOnlyAdmin,
    ServiceAdmin,
    id_column,
    json_column,
    section,
    state_column,
    when_column,
)
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import TimeRangeFilter
from automation_lab.models import ApiToken

for model in (User, Group, ProcrastinateJob, AccessAttempt, AccessFailureLog, AccessLog):
    admin.site.unregister(model)  # their own pages are not made for this theme
admin.site.extra_urls = admin_site.extra_urls  # type: ignore[attr-defined]  # unfold's hook


# --- tokens -----------------------------------------------------------------------------------------------------------


class TokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in ApiToken.Scope.values],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None: all that the user may do.",
    )
    expiry = forms.SplitDateTimeField(
        label="Expires", required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="Empty: never."
    )

    class Meta:
        model = ApiToken
        fields = ["name", "user", "scopes", "expiry"]


class TokenChangeList(LabChangeList):
    def url_for_result(self, result: ApiToken) -> str:
        return reverse("admin:automation_lab_apitoken_change", args=[tokens.public_id(result)])


@admin.register(ApiToken)
class ApiTokenAdmin(ServiceAdmin):
    """Made and revoked, never changed. Addresses and audit name a token by the head of its digest, as the API does."""

    form = TokenForm
    list_display = ["name", "show_prefix", "user", "show_scopes", "show_created", "show_expiry", "show_last_used_at"]
    list_filter = [("user", RelatedDropdownFilter), ("created", TimeRangeFilter)]
    list_select_related = ["user"]
    search_fields = ["name", "token_key", "user__username"]
    autocomplete_fields = ["user"]
    date_hierarchy = "created"
    ordering = ["-created", "digest"]
    actions = None
    fieldsets = [section(None, "name user scopes expiry")]
    stored_fieldsets = [
        section(None, "name show_prefix user show_scopes show_created show_expiry show_last_used_at"),
    ]

    show_created = when_column("created", "Created", ordering=True)
    show_last_used_at = when_column("last_used_at", ordering=True)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LabChangeList]:
        return TokenChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.stored_fieldsets if obj else self.fieldsets

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        queryset = super().get_queryset(request)
        return queryset if request.user.is_superuser else queryset.filter(user_id=request.user.pk)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ApiToken | None:
        if len(object_id) != tokens.ID_LENGTH:
            return None
        return self.get_queryset(request).filter(digest__startswith=object_id).first()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Others than superusers make tokens for themselves only."""
        return [*super().get_readonly_fields(request, obj), *([] if request.user.is_superuser else ["user"])]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, "expiry": timezone.now() + tokens.DEFAULT_LIFETIME}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Begins with")
    def show_prefix(self, token: ApiToken) -> Any:
        return show.mono(f"{token.token_key[:8]}…")

    @display(description="Scopes")
    def show_scopes(self, token: ApiToken) -> Any:
        return ", ".join(token.scopes) or show.muted("all the user may do")

    @display(description="Expires", ordering="expiry")
    def show_expiry(self, token: ApiToken) -> Any:
        if token.expiry is None:
            return show.label("never", "warn")
        return show.label("expired", "bad") if token.expiry <= timezone.now() else show.when(token.expiry)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context["original"] = _named(obj)
        context.update(show_save_and_add_another=False, show_save_and_continue=False)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        token = self.get_object(request, object_id)
        return super().history_view(request, object_id, {"object": _named(token)} if token else None)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        data = form.cleaned_data
        created, plain = tokens.create_token(
            user=data.get("user") or request.user, name=data["name"], scopes=data["scopes"], expires_at=data["expiry"]
        )
        obj.pk = created.pk
        obj.refresh_from_db()
        obj.plain = plain  # for the one page that shows it

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": "New API token", "token": obj, "opts": self.opts}
        return TemplateResponse(request, "automation_lab/token_created.html", context)

    def destroy(self, instance: ApiToken) -> None:
        tokens.revoke_token(instance)

    def log_addition(self, request: HttpRequest, obj: ApiToken, message: Any) -> LogEntry:
        return audit.record(request.user, obj, audit.ADDITION, message, object_id=tokens.public_id(obj))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        return [
            audit.record(request.user, token, audit.DELETION, object_id=tokens.public_id(token)) for token in queryset
        ]


def _named(token: ApiToken) -> ApiToken:
    """A copy for the links of a page, which would else hold the whole digest."""
    named = copy(token)
    named.digest = tokens.public_id(token)
    return named


# --- people -----------------------------------------------------------------------------------------------------------


@admin.register(User)
class UserAdmin(DjangoUserAdmin, LabModelAdmin):  # type: ignore[misc]  # the stubs narrow attributes of both bases
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "is_active", "is_superuser", "show_last_login", "show_date_joined"]
    list_filter = [
        ("is_active", BooleanRadioFilter),
        ("is_superuser", BooleanRadioFilter),
        ("groups", RelatedDropdownFilter),
    ]
    date_hierarchy = "date_joined"

    show_last_login = when_column("last_login", ordering=True)
    show_date_joined = when_column("date_joined", "Added", ordering=True)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Who is not a superuser makes none and gives rights by groups only; nobody locks themselves out."""
        named = [*super().get_readonly_fields(request, obj), "last_login", "date_joined"]
        if obj == request.user:
            return [*named, "is_active", "is_staff", "is_superuser", "user_permissions"]
        return named if request.user.is_superuser else [*named, "is_superuser", "user_permissions"]

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Who is added here is to use the console; what they may do there comes from their groups."""
        obj.is_staff = obj.is_staff or not change
        super().save_model(request, obj, form, change)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_within_reach(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        reachable = obj != request.user and self._is_within_reach(request, obj)
        return reachable and super().has_delete_permission(request, obj)

    def _is_within_reach(self, request: HttpRequest, user: Any) -> bool:
        return request.user.is_superuser or not getattr(user, "is_superuser", False)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, LabModelAdmin):  # type: ignore[misc]  # as above
    list_display = ["name"]


# --- audit and machinery ----------------------------------------------------------------------------------------------


@admin.register(LogEntry)
class AuditAdmin(ReadOnlyAdmin):
    """Who did what, from console and API. Nobody can change or delete it here."""

    list_display = ["show_action_time", "user", "show_action", "content_type", "show_object", "show_message"]
    list_display_links = ["show_action_time"]
    list_filter = [
        ("action_flag", ChoicesDropdownFilter),
        ("user", RelatedDropdownFilter),
        ("action_time", TimeRangeFilter),
    ]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_id__exact", "object_repr"]
    date_hierarchy = "action_time"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [section(None, "show_action_time user show_action content_type show_object object_id show_message")]

    show_action_time = when_column("action_time", "When")

    @display(description="Action")
    def show_action(self, entry: LogEntry) -> Any:
        tone = {audit.ADDITION: "good", audit.DELETION: "bad"}.get(entry.action_flag, "calm")
        return show.label(entry.get_action_flag_display().lower(), tone)

    @display(description="Object")
    def show_object(self, entry: LogEntry) -> Any:
        url = None if entry.is_deletion() else entry.get_admin_url()
        return show.link(url, entry.object_repr) if url else entry.object_repr

    @display(description="What")
    def show_message(self, entry: LogEntry) -> Any:
        return show.shortened(entry.get_change_message(), 120)


@admin.register(ProcrastinateJob)
class JobAdmin(ReadOnlyAdmin):
    """Hints in the queue that say which execution to look at; the executions themselves are the record."""

    list_display = ["show_id", "show_status", "task_name", "queue_name", "priority", "attempts", "show_scheduled_at"]
    list_display_links = ["show_id"]
    list_filter = [("status", ChoicesDropdownFilter)]
    search_exact = ["id", "task_name"]
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [
        section(
            None,
            "show_status task_name show_args queue_name lock queueing_lock priority attempts show_scheduled_at worker",
        )
    ]

    show_id = id_column
    show_status = state_column()
    show_args = json_column("args", "Arguments")
    show_scheduled_at = when_column("scheduled_at")


@admin.register(ProcrastinateWorker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ["show_id", "show_health", "show_last_heartbeat"]
    list_display_links = ["show_id"]
    ordering = ["-last_heartbeat", "-id"]
    sortable_by: list[str] = []
    fieldsets = [section(None, "show_health show_last_heartbeat")]

    show_id = id_column
    show_last_heartbeat = when_column("last_heartbeat", "Last heartbeat")

    @display(description="Health")
    def show_health(self, worker: ProcrastinateWorker) -> Any:
        return show.label("alive", "good") if admin_site.is_alive(worker) else show.label("lost", "bad")


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ReadOnlyAdmin):
    """Failed sign-ins that count towards a lock. Deleting one lifts the lock. What was typed is not shown."""

    deletable = True
    list_display = ["username", "ip_address", "failures_since_start", "show_attempt_time", "user_agent"]
    list_defer = ["get_data", "post_data", "http_accept"]
    search_fields = ["username"]
    date_hierarchy = "attempt_time"
    actions = ["delete_selected"]
    fieldsets = [section(None, "username ip_address failures_since_start show_attempt_time user_agent path_info")]

    show_attempt_time = when_column("attempt_time", "Last attempt", ordering=True)


@admin.register(AccessFailureLog)
class AccessFailureAdmin(ReadOnlyAdmin):
    list_display = ["username", "ip_address", "locked_out", "show_attempt_time", "user_agent"]
    list_filter = [("locked_out", BooleanRadioFilter)]
    search_fields = ["username"]
    date_hierarchy = "attempt_time"
    fieldsets = [section(None, "username ip_address locked_out show_attempt_time user_agent path_info")]

    show_attempt_time = when_column("attempt_time", ordering=True)


@admin.register(AccessLog)
class AccessLogAdmin(ReadOnlyAdmin):
    list_display = ["username", "ip_address", "show_attempt_time", "show_logout_time", "user_agent"]
    search_fields = ["username"]
    date_hierarchy = "attempt_time"
    fieldsets = [section(None, "username ip_address show_attempt_time show_logout_time user_agent path_info")]

    show_attempt_time = when_column("attempt_time", "Signed in", ordering=True)
    show_logout_time = when_column("logout_time", "Signed out", ordering=True)

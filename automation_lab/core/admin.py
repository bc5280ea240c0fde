"""What every page of the console builds on: cheap lists, read-only histories, edits through services, related panels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import flatten_fieldsets, quote, unquote
from django.db import models, transaction
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import ModelAdmin
from unfold.dataclasses import ActionDialog
from unfold.decorators import action, display
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextareaWidget

from automation_lab.core.console import display as show
from automation_lab.core.console.forms import JSONTextarea, JSONTextField, refused_form
from automation_lab.core.console.lists import MAX_COUNT, CappedPaginator, LabChangeList
from automation_lab.core.exceptions import AutomationLabError

MAX_BULK = 1_000


@dataclass(frozen=True)
class Panel:
    """A table of related rows below an object. `more_url` leads to all of them when the rows are cut off.

    `body` stands in the place of the table.
    """

    title: str
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    more_url: str = ""
    empty: str = "Nothing yet."
    body: SafeString | str = ""


def panel_of(
    title: str,
    headers: Sequence[str],
    rows: Iterable[Any],
    cells: Callable[[Any], Sequence[Any]],
    *,
    limit: int,
    url: str,
) -> Panel:
    """The first `limit` of `rows` (a queryset or list) as a panel; one more is read to know whether there are more."""
    found = list(rows[: limit + 1])  # type: ignore[index]  # querysets and lists can be sliced
    return Panel(title, headers, [cells(row) for row in found[:limit]], url if len(found) > limit else "")


class LabModelAdmin(ModelAdmin):
    """Lists without exact counts, searches by index, actions that report what services say."""

    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    list_fullwidth = True
    formfield_overrides = {
        models.JSONField: {"form_class": JSONTextField, "widget": JSONTextarea},
        models.TextField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 2})},
    }
    list_defer: Sequence[str] = ()
    empty_template = ""
    """What an empty list says besides that it is empty."""
    search_exact: Sequence[str] = ()
    """Columns with an index that the search compares whole; big tables are never searched by substring."""
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    compressed_fields = True
    warn_unsaved_form = True
    panels_after = 1
    """After how many fieldsets the panels stand; 0 puts them above the form."""

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Values as the API has them: Django would title them."""
        kwargs.setdefault("choices", [(value, value.replace("_", " ")) for value, _ in db_field.flatchoices])
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LabChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        """Besides `readonly_fields`, everything of the fieldsets that is shown by a method: its name begins with show_."""
        named = super().get_readonly_fields(request, obj)
        if not self.fieldsets:
            return named
        shown = [name for name in flatten_fieldsets(self.get_fieldsets(request, obj)) if name.startswith("show_")]
        return [*named, *shown]

    def get_panels(self, request: HttpRequest, instance: Any) -> list[Panel]:
        """Tables shown below `instance`."""
        return []

    def complete_rows(self, rows: Iterable[Any]) -> None:
        """Add to the rows of one page of the list what its columns show of other tables."""

    def offers(self, instance: Any, name: str) -> bool:
        """Whether the action with the address part `name` makes sense for `instance` as it is."""
        return True

    def is_live(self, instance: Any) -> bool:
        """Whether the page of `instance` is to follow what goes on: it then refreshes itself."""
        return False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None and obj.pk:
            stored = self._as_stored(request, obj) if context.get("errors") else obj
            context["panels"] = self.get_panels(request, stored)
            offered = [entry for entry in context.get("actions_detail", []) if self.offers(stored, action_of(entry))]
            context["actions_detail"] = offered
            context["is_live"] = self.is_live(stored)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def _as_stored(self, request: HttpRequest, obj: Any) -> Any:
        """The row without what a faulty form has put into it."""
        return self.get_object(request, str(obj.pk)) or obj

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row also carries the address of this console, for commands that are ready to paste."""
        instance = super().get_object(request, object_id, from_field)
        if instance is not None:
            instance.console_origin = show.origin(request)
        return instance

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if any("\0" in text for pair in request.GET.items() for text in pair):
            return HttpResponseRedirect(request.path)  # the database refuses NUL, and Django would answer 500
        return super().changelist_view(request, extra_context)

    def counted_rows(self, request: HttpRequest) -> int:
        """How far the list is counted."""
        return MAX_COUNT

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> CappedPaginator:
        paginator: CappedPaginator = super().get_paginator(request, *args, **kwargs)
        paginator.counted_rows = self.counted_rows(request)
        return paginator

    def get_ordering(self, request: HttpRequest) -> Sequence[str]:
        """Within a range of time by that time, as over the API: see `filters.ordering_of`."""
        ordering = super().get_ordering(request) or self.opts.ordering
        column = self.date_hierarchy
        if column and [*ordering[:1]] == ["-id"]:
            stem = column.removesuffix("_at") + "_"  # created_at__year, created_at_from_0, received_after
            if any(name.startswith(stem) and value for name, value in request.GET.items()):
                return [f"-{column}", *ordering]
        return ordering

    def get_search_fields(self, request: HttpRequest) -> Sequence[str]:
        return self.search_exact or super().get_search_fields(request)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        term = search_term.strip()
        if not self.search_exact or not term:
            return super().get_search_results(request, queryset, search_term)
        query = models.Q()
        for name in self.search_exact:
            column_field = self.opts.get_field(name)
            if not isinstance(getattr(column_field, "target_field", column_field), models.IntegerField):
                query |= models.Q(**{name: term})
            elif term.isascii() and term.isdigit() and len(term) <= 18:
                query |= models.Q(**{name: int(term)})
        return (queryset.filter(query) if query else queryset.none()), False

    # --- deleting ---

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, Any], set[str], list[str]]:
        """Counts of what goes along. Django lists every row, and a busy workflow has millions."""
        chosen = list(objs[: MAX_BULK + 1])
        counts: dict[str, Any] = {capfirst(self.opts.verbose_name_plural): len(chosen)}
        for relation in self.opts.related_objects:
            if getattr(relation, "on_delete", None) is models.CASCADE:
                rows = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": chosen})
                number = rows.order_by()[: MAX_COUNT + 1].count()
                if number:
                    counts[capfirst(relation.related_model._meta.verbose_name_plural)] = (
                        number if number <= MAX_COUNT else f"more than {MAX_COUNT:,}"
                    )
        refused = {str(row) for row in chosen if not self.has_delete_permission(request, row)}
        return [str(instance) for instance in chosen[:100]], counts, refused, []

    @action(description="Delete selected rows", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> HttpResponse | None:
        if self.are_too_many(request, queryset):
            return None
        return delete_selected(self, request, queryset)

    def are_too_many(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> bool:
        if queryset.order_by()[: MAX_BULK + 1].count() <= MAX_BULK:
            return False
        self.message_user(
            request, f"At most {MAX_BULK:,} rows at a time: filter the list further and repeat.", messages.ERROR
        )
        return True

    # --- acting ---

    def act(self, request: HttpRequest, object_id: str, work: Callable[[Any], str]) -> HttpResponse:
        """Let a service work on one row, tell what it says, audit it, and go back to the row."""
        instance = self.get_object(request, unquote(str(object_id)))
        if instance is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id}.")
        try:
            with transaction.atomic():
                message = work(instance)
                self.log_change(request, instance, message)
        except AutomationLabError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, message, messages.SUCCESS)
        return self.go_to(request, self.page_of(instance))

    def act_on_all(
        self, request: HttpRequest, queryset: models.QuerySet[Any], work: Callable[[Any], Any], message: str
    ) -> None:
        """Let a service work on each row; what it refuses is told once for all of them."""
        if self.are_too_many(request, queryset):
            return
        done, refusals = 0, []
        for instance in queryset:
            try:
                with transaction.atomic():
                    work(instance)
                    self.log_change(request, instance, message)
            except AutomationLabError as error:
                refusals.append(error.message)
            else:
                done += 1
        if done:
            self.message_user(request, f"{message} {done} {self._noun(done)}.", messages.SUCCESS)
        if refusals:
            self.message_user(request, f"{len(refusals)} not changed: {refusals[0]}", messages.WARNING)

    def _noun(self, number: int) -> str:
        return str(self.opts.verbose_name if number == 1 else self.opts.verbose_name_plural)

    def page_of(self, instance: models.Model) -> str:
        name = f"{self.admin_site.name}:{instance._meta.app_label}_{instance._meta.model_name}_change"
        return reverse(name, args=[quote(instance.pk)])

    def go_to(self, request: HttpRequest, url: str) -> HttpResponse:
        """A redirect that also works for a dialog, which htmx posts."""
        if request.headers.get("HX-Request"):
            return HttpResponse(headers={"HX-Redirect": url})
        return HttpResponseRedirect(url)

    def allows(self, request: HttpRequest, permission: str) -> bool:
        return request.user.has_perm(permission)


class ReadOnlyAdmin(LabModelAdmin):
    """A history: shown, never added to or changed; deleted from only where `deletable`."""

    deletable = False

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.deletable and super().has_delete_permission(request, None)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return flatten_fieldsets(self.fieldsets) if self.fieldsets else super().get_readonly_fields(request, obj)


class ServiceAdmin(LabModelAdmin):
    """Every write goes through the app's services; what they refuse becomes form errors."""

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> Any:
        raise NotImplementedError

    def update(self, request: HttpRequest, instance: Any, changes: dict[str, Any]) -> Any:
        raise NotImplementedError

    def destroy(self, instance: Any) -> None:
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        changes = self.submitted(form, form.changed_data if change else list(form.cleaned_data))
        if not change:
            created = self.create(request, changes)
            obj.pk = created.pk
            obj.refresh_from_db()
        elif changes:
            self.update(
                request, type(obj)._default_manager.get(pk=obj.pk), changes
            )  # as stored: the form has changed `obj`

    def submitted(self, form: ModelForm, names: Iterable[str]) -> dict[str, Any]:
        return {name: form.cleaned_data[name] for name in names if name in form.cleaned_data}

    def save_related(self, request: HttpRequest, form: ModelForm, formsets: Any, change: bool) -> None:
        """Nothing: services write everything."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.destroy(obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        with transaction.atomic():
            for instance in queryset:
                self.destroy(instance)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """What a form could not foresee, such as a row that somebody else has changed, is said in the same form."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except AutomationLabError as error:
            request.refusal = error  # type: ignore[attr-defined]  # for `get_form`
            return super().changeform_view(request, *args, **kwargs)

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> type[ModelForm]:
        form_class = super().get_form(request, *args, **kwargs)
        refusal = getattr(request, "refusal", None)
        return form_class if refusal is None else refused_form(form_class, refusal)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().delete_view(request, *args, **kwargs)
        except AutomationLabError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def action_of(entry: dict[str, Any]) -> str:
    """The last part of the address of a detail action, such as `cancel`."""
    return str(entry["path"]).rstrip("/").rpartition("/")[2]


def section(title: str | None, names: str, *, collapsed: bool = False) -> tuple[str | None, dict[str, Any]]:
    """A fieldset of the fields named in `names`, separated by spaces; those joined with | stand side by side."""
    lines = [tuple(name.split("|")) if "|" in name else name for name in names.split()]
    return title, {"fields": lines, "classes": ["collapse"] if collapsed else []}


def origin_of(instance: Any) -> str:
    """The address of this console, such as https://lab.example.com, as `get_object` notes it."""
    return str(instance.console_origin)


def confirmation(title: str, description: str, submit: str, form_class: Any = None) -> ActionDialog:
    """The dialog of a detail action: shown by GET, run by POST only."""
    return ActionDialog(title=title, description=description, form_class=form_class, form_submit_text=submit)


# --- columns: one line per formatted field ----------------------------------------------------------------------------


def column(name: str, render: Callable[[Any], Any], description: str = "", *, ordering: bool = False) -> Any:
    """A column or read-only field that shows the attribute `name` through `render`."""

    @display(description=description or capfirst(name.replace("_", " ")), ordering=name if ordering else None)
    def show_column(admin: ModelAdmin, instance: Any) -> Any:
        return render(getattr(instance, name))

    return show_column


def when_column(name: str, description: str = "", *, ordering: bool = False) -> Any:
    return column(
        name, show.when, description or capfirst(name.removesuffix("_at").replace("_", " ")), ordering=ordering
    )


def state_column(name: str = "status", description: str = "") -> Any:
    return column(name, show.state, description)


def json_column(name: str, description: str = "") -> Any:
    return column(name, show.json_block, description)


def text_column(name: str, description: str = "") -> Any:
    return column(name, show.text_block, description)


def duration_column(name: str = "duration_ms", description: str = "Duration", *, ordering: bool = False) -> Any:
    return column(name, show.duration, description, ordering=ordering)


def size_column(name: str, description: str = "Size", *, ordering: bool = False) -> Any:
    return column(name, show.size, description, ordering=ordering)


id_column = column("pk", lambda pk: f"#{pk}", "Id")
trace_column = column("correlation_id", show.trace_link, "Correlation id")

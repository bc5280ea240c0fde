"""Adding a workflow from an exported file."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget

from automation_lab.core.console.forms import JSONTextarea
from automation_lab.core.console.pages import page
from automation_lab.core.exceptions import AutomationLabError, Conflict, Invalid
from automation_lab.core.safe_json import parse_api_body
from workflows.definitions import transfer

TEMPLATE = "workflows/import.html"
CHOICES = [
    (transfer.SKIP, "leave it alone"),
    (transfer.RENAME, "add this one under another name"),
    (transfer.UPDATE, "make this its next version, switched off"),
]


class ImportForm(forms.Form):
    file = forms.FileField(label="Exported file", required=False, widget=UnfoldAdminFileFieldWidget)
    text = forms.CharField(label="Or its text", required=False, strip=False, widget=JSONTextarea({"rows": 10}))
    on_conflict = forms.ChoiceField(
        label="If a workflow of that name exists", choices=CHOICES, widget=UnfoldAdminSelectWidget
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file and file.size > transfer.MAX_BYTES:
            raise forms.ValidationError(f"The file is larger than {transfer.MAX_BYTES:,} bytes.")
        return file

    def clean(self) -> dict[str, Any]:
        chosen = self.cleaned_data
        file, text = chosen.get("file"), chosen.get("text") or ""
        if self.errors:
            return chosen
        if bool(file) == bool(text.strip()):
            raise forms.ValidationError("Give either a file or its text.")
        try:
            raw = file.read() if file else text.encode("utf-8", "surrogatepass")
            return {**chosen, "document": parse_api_body(raw), "raw": raw.decode()}
        except (Invalid, UnicodeDecodeError) as error:
            raise forms.ValidationError(getattr(error, "message", "The file is no UTF-8 text.")) from error


def import_view(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """GET asks; POST checks or adds."""
    form = ImportForm(request.POST or None, request.FILES or None)
    checked = None
    if request.method == "POST" and form.is_valid():
        is_real = request.POST.get("do") == "import"
        checked = _import(model_admin, request, form, dry_run=not is_real)
        if checked and is_real:
            return _done(model_admin, request, checked)
    if checked:  # a browser does not send a file twice: its text stands in for it
        chosen = form.cleaned_data
        form = ImportForm(initial={"text": chosen["raw"], "on_conflict": chosen["on_conflict"]})
    buttons = [
        {"value": "check", "title": "Check", "variant": "default" if checked else "primary"},
        {"value": "import", "title": "Import", "variant": "primary" if checked else "default"},
    ]
    return page(model_admin, request, TEMPLATE, title="Import a workflow", form=form, checked=checked, buttons=buttons)


def _import(model_admin: Any, request: HttpRequest, form: ImportForm, *, dry_run: bool) -> dict[str, Any] | None:
    chosen = form.cleaned_data
    try:
        with transaction.atomic():
            result = transfer.import_workflow(
                document=chosen["document"],
                on_conflict=chosen["on_conflict"],
                author=request.user.get_username(),
                dry_run=dry_run,
            )
            if not dry_run:
                model_admin.log_addition(request, result["workflow"], f"Imported: {result['action']}.")
            return result
    except Conflict as error:
        form.add_error("on_conflict", error.message)
    except AutomationLabError as error:
        faults = error.errors if isinstance(error, Invalid) else [{"field": "", "detail": error.message}]
        for fault in faults:
            form.add_error(None, ": ".join(part for part in (fault["field"], fault["detail"]) if part))
    return None


def _done(model_admin: Any, request: HttpRequest, result: dict[str, Any]) -> HttpResponse:
    workflow = result["workflow"]
    model_admin.message_user(request, f"{workflow.name}: {result['action']}, switched off.", messages.SUCCESS)
    for warning in result["warnings"]:
        model_admin.message_user(request, warning, messages.WARNING)
    return HttpResponseRedirect(model_admin.page_of(workflow))

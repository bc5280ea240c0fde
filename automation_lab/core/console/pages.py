"""Pages of the console beside Django's own: what is asked first, shown as a preview, and done on a second click."""

from __future__ import annotations

import hashlib
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse


class PreviewedForm(forms.Form):
    """`previewed` holds the digest of the choices that have been shown with what they lead to."""

    previewed = forms.CharField(required=False, widget=forms.HiddenInput)

    @property
    def is_previewed(self) -> bool:
        return bool(self.cleaned_data["previewed"] == self._digest())

    def note_previewed(self) -> None:
        sent: Any = self.data
        self.data = {**sent.dict(), "previewed": self._digest()}

    def _digest(self) -> str:
        chosen = [(name, value) for name, value in self.cleaned_data.items() if name != "previewed"]
        shown = [(name, value.name if isinstance(value, UploadedFile) else value) for name, value in chosen]
        return hashlib.sha256(repr(sorted(shown)).encode("utf-8", "surrogatepass")).hexdigest()


def row_or_404(model_admin: ModelAdmin, request: HttpRequest, object_id: Any) -> Any:
    row = model_admin.get_object(request, str(object_id))
    if row is None:
        raise Http404(f"There is no {model_admin.opts.verbose_name} {object_id}.")
    return row


def page(
    model_admin: ModelAdmin, request: HttpRequest, template: str, *, title: str, row: Any = None, **context: Any
) -> HttpResponse:
    """A page in the frame of the console, below the list of the model and, where it is about one, its row."""
    request.current_app = model_admin.admin_site.name  # read by the url tag
    frame = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.opts,
        "original": row,
        "row": row,
        "media": context["form"].media if "form" in context else "",
    }
    return TemplateResponse(request, template, {**frame, **context})

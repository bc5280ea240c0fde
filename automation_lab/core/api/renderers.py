"""The API as HTML pages for people who are signed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.template import loader
from rest_framework.fields import HiddenField
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request


class BrowsableRenderer(BrowsableAPIRenderer):
    """DRF's browsable API with raw JSON forms. 401 and 5xx are plain pages: they must not need a user or a database."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> Any:
        context = renderer_context or {}
        status = context["response"].status_code
        if status == 401 or status >= 500:
            return render_problem_page(data, context["request"])
        return super().render(data, accepted_media_type, context)

    def get_raw_data_form(self, data: Any, view: Any, method: str, request: Request) -> Any:
        """DRF fills the form with the whole object; what may not be sent back is left out of it."""
        form = super().get_raw_data_form(data, view, method, request)
        content = form.fields["_content"].initial if form else None
        if form is None or not content or not hasattr(view, "get_serializer"):
            return form
        values = json.loads(content)
        fields = getattr(view.get_serializer(), "fields", {})
        if isinstance(values, dict):
            kept = {name: value for name, value in values.items() if name in fields and not fields[name].read_only}
            hidden = [name for name, field in fields.items() if isinstance(field, HiddenField)]
            kept = {name: value for name, value in kept.items() if name not in hidden}
            form.fields["_content"].initial = json.dumps(kept, indent=4, ensure_ascii=False)
        return form


def render_problem_page(problem: Mapping[str, Any], request: Any) -> str:
    """A small HTML page for a problem document; offers the sign-in page for a 401."""
    sign_in = f"{settings.LOGIN_URL}?{urlencode({'next': request.get_full_path()})}"
    context = {"problem": problem, "sign_in": sign_in if problem.get("status") == 401 else ""}
    return loader.render_to_string("problem.html", context)

"""How the API reads request bodies: strict JSON, bounded, never compressed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from automation_lab.core.request_body import has_body, read_body
from automation_lab.core.safe_json import parse_api_body

MAX_BODY_BYTES = 2 * 1024 * 1024


class StrictJSONParser(BaseParser):
    """JSON without duplicate keys, NaN, NUL, lone surrogates or endless nesting: see core/safe_json.py."""

    media_type = "application/json"
    renderer_class = JSONRenderer  # fills the browsable API's raw forms

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        raw = read_body(stream, MAX_BODY_BYTES) if isinstance(stream, HttpRequest) else stream.read()
        return parse_api_body(raw)


class LabRequest(Request):
    """A request whose body may be chunked. `has_content` tells an empty body from an empty object."""

    has_content = False

    def _parse(self) -> tuple[Any, MultiValueDict[str, Any]]:
        # Set first, so that an error page that asks for the data again does not meet the same error.
        self._data: Any = {}
        self._full_data: Any = {}
        self._files: MultiValueDict[str, Any] = MultiValueDict()
        if not has_body(self._request):
            return {}, MultiValueDict()
        encoding = self._request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise UnsupportedMediaType(
                encoding, detail=f'Content-Encoding "{encoding[:40]}" is not read here; send it plain.'
            )
        negotiator: Any = self.negotiator
        parser = negotiator.select_parser(self, self.parsers) if self.content_type else None
        if parser is None:
            raise UnsupportedMediaType(
                self.content_type or "", detail=f'Send Content-Type: application/json, not "{self.content_type or ""}".'
            )
        raw = read_body(self._request, MAX_BODY_BYTES)
        self.has_content = bool(raw)
        return (parser.parse(io.BytesIO(raw), self.content_type, self.parser_context) if raw else {}), MultiValueDict()

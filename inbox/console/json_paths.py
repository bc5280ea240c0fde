"""JSON whose keys, when clicked, copy the path by which filters and workflows name the value. Pure; everything is escaped."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from automation_lab.core import display as show

MOST_KEYS = 2_000
LONGEST_PATH = 300
_LINE = re.compile(r'( *)(?:("(?:[^"\\]|\\.)*"): )?(.*)', re.DOTALL)


@dataclass
class _Container:
    """An object or list that is being read; `position` counts the elements of a list."""

    path: str
    is_list: bool
    position: int = -1


def clickable_json(value: Any, root: str) -> SafeString:
    """`value`, indented; each key is a button that copies its path below `root`, such as body.repository.full_name."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except (TypeError, ValueError):  # integers beyond 64 bits, depth beyond 254
        return show.json_view(value)
    if len(text) > show.MAX_TEXT_CHARACTERS or not isinstance(value, dict | list) or not value:
        return show.text_block(text)
    return format_html(
        '<div class="lab-code"><button type="button" class="lab-copy" data-copy>Copy</button>'
        '<pre tabindex="0" class="lab-paths">{}</pre></div>',
        format_html_join("\n", "{}", ((line,) for line in _lines(text.split("\n"), root))),
    )


def _lines(lines: list[str], root: str) -> list[SafeString | str]:
    shown: list[SafeString | str] = []
    open_containers: list[_Container] = []
    keys = 0
    for line in lines:
        indent, key, rest = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]  # it matches every text
        if rest[:1] in ("]", "}") and key is None:
            open_containers.pop()
            shown.append(line)
            continue
        path = _path(open_containers, key, root)
        if rest in ("{", "["):
            open_containers.append(_Container(path, rest == "["))
        keys += key is not None
        shown.append(
            _line(indent, key, rest, path) if key and keys <= MOST_KEYS and len(path) <= LONGEST_PATH else line
        )
    return shown


def _path(open_containers: list[_Container], key: str | None, root: str) -> str:
    if not open_containers:
        return root
    parent = open_containers[-1]
    if parent.is_list:
        parent.position += 1
        return f"{parent.path}.{parent.position}"
    return f"{parent.path}.{_segment(json.loads(key or 'null') or '')}"


def _segment(key: str) -> str:
    """As the filters read it: a dot or backslash of the name has a backslash before it."""
    return re.sub(r"([.\\])", r"\\\1", key)


def _line(indent: str, key: str, rest: str, path: str) -> SafeString:
    return format_html(
        '{}<button type="button" tabindex="-1" class="lab-key" data-copy-text="{}" title="Copy {}">{}</button>: {}',
        indent,
        path,
        path,
        key,
        rest,
    )

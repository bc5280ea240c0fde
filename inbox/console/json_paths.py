"""JSON as it was sent, indented; its keys, when clicked, copy the path by which filters and workflows name the value.

Pure; everything is escaped. Neither jsonb nor a parsed value would do: both lose repeated keys and how a number was
written, and jsonb the order.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from automation_lab.core.console import display as show

MOST_KEYS = 2_000
LONGEST_PATH = 300
_OPENING, _CLOSING = frozenset("[{"), frozenset("]}")
_LEXEME = re.compile(r'"(?:[^"\\]++|\\.)*+"|[][{}:,]|[^][{}:,"\s]+')
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LINE = re.compile(r'( *)(?:("(?:[^"\\]|\\.)*"): )?(.*)', re.DOTALL)


@dataclass
class _Container:
    """An object or list that is being read; `position` counts the elements of a list."""

    path: str
    is_list: bool
    position: int = -1


def clickable_json(text: str, root: str) -> SafeString:
    """The JSON in `text`; each key is a button that copies its path below `root`, such as body.repository.full_name."""
    longest = show.MAX_TEXT_CHARACTERS
    shown = indented(text, longest=longest)
    lines = _lines(shown[:longest].split("\n"), root)
    notes = [f"The first {longest:,} characters; the download has all of it."] if len(shown) > longest else []
    if sum(isinstance(line, SafeString) for line in lines) >= MOST_KEYS:
        notes.append(f"The first {MOST_KEYS:,} keys copy their path.")
    return format_html(
        '<div class="lab-code"><button type="button" class="lab-copy" data-copy>Copy</button>'
        '<pre tabindex="0" class="lab-paths">{}</pre>{}</div>',
        format_html_join("\n", "{}", ((line,) for line in lines)),
        format_html('<p class="lab-note">{}</p>', " ".join(notes)) if notes else "",
    )


def indented(text: str, *, longest: int) -> str:
    """The JSON in `text` with two spaces a level; when it is longer than `longest`, at least so much of its start."""
    parts: list[str] = []
    length, depth, previous = 0, 0, ""
    for lexeme in (found[0] for found in _LEXEME.finditer(text)):
        depth -= lexeme in _CLOSING
        breaks = previous == "," or (previous in _OPENING) != (lexeme in _CLOSING)
        part = ("\n" + "  " * depth if breaks else "") + (": " if lexeme == ":" else _readable(lexeme))
        parts.append(part)
        length += len(part)
        if length > longest:
            break
        depth += lexeme in _OPENING
        previous = lexeme
    return "".join(parts)


def _readable(lexeme: str) -> str:
    """Escapes as the characters that they stand for, where there are such characters."""
    if "\\" not in lexeme:
        return lexeme
    text = json.dumps(json.loads(lexeme), ensure_ascii=False)
    return lexeme if _UNSTORABLE.search(text) else text


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
    """As the filters read it: what jsonb cannot hold was replaced, a dot or backslash has a backslash before it."""
    return re.sub(r"([.\\])", r"\\\1", _UNSTORABLE.sub("\ufffd", key))


def _line(indent: str, key: str, rest: str, path: str) -> SafeString:
    return format_html(
        '{}<button type="button" tabindex="-1" class="lab-key" data-copy-text="{}" title="Copy {}">{}</button>: {}',
        indent,
        path,
        path,
        key,
        rest,
    )

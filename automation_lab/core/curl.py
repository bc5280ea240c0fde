"""A request as a curl command. Pure.

What is in it may come from a stranger and is run by a shell: nothing of it is read as the name of a file, as a pattern or
as a key press.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from urllib.parse import quote as percent_encode

PATH_SAFE = "/~:@!$&'()*+,;=-._"
SET_BY_CURL = frozenset({"host", "content-length", "accept-encoding", "connection", "transfer-encoding"})

# Other names are no HTTP, and of `@name` curl would read the file.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_KEYS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_ESCAPED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\\'!]")


def command(
    method: str, url: str, headers: Iterable[Sequence[str]], *, text: str = "", file: str = "", user: str = ""
) -> str:
    """The command to be pasted into a terminal; its body is `text`, which holds no NUL, or comes from `file`.

    `user` is `name:password`, of which curl makes the header.
    """
    body = ["--data-binary", f"@{file}"] if file else ["--data-raw", text] if text else []
    kept = [(name, value) for name, value in headers if name.lower() not in SET_BY_CURL]
    start, *options = words(method, url, kept, has_body=bool(body))
    lines = [start, ["-u", user] if user else [], *options, body]
    return " \\\n  ".join(" ".join(quoted(word) for word in line) for line in lines if line)


def words(method: str, url: str, headers: Iterable[Sequence[str]], *, has_body: bool) -> list[list[str]]:
    """The words of the command, those of one line together; the body is still to be added."""
    kept = [(name, value) for name, value in headers if _NAME.fullmatch(name)]
    start = ["curl", "-I"] if method == "HEAD" and not has_body else ["curl", "-X", method]
    globbing = ["--globoff"] if set(url) & set("[]{}") else []
    lines = [[*start, *globbing, url], *(["-H", _header(name, value)] for name, value in kept)]
    if has_body and not any(name.lower() == "content-type" for name, _ in kept):
        lines.append(["-H", "Content-Type:"])  # or curl would say that it is a form
    return lines


def address(origin: str, path: str, query_string: str) -> str:
    """The URL of a request whose path was decoded and whose query was not."""
    return f"{origin}{percent_encode(path, safe=PATH_SAFE)}{f'?{query_string}' if query_string else ''}"


def quoted(text: str) -> str:
    """One word of bash, zsh or a shell of POSIX 2024, without a character on which a terminal acts."""
    if not _KEYS.search(text):
        return shlex.quote(text)
    return "$'" + _ESCAPED.sub(lambda found: f"\\{ord(found[0]):03o}", text) + "'"


def _header(name: str, value: str) -> str:
    """Of a name with a colon and nothing behind it curl would send nothing."""
    return f"{name}: {value}" if value.strip() else f"{name};"

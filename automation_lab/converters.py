"""Parts of addresses."""

from __future__ import annotations


class TokenIdConverter:
    """The public id of a token: 16 hexadecimal digits."""

    regex = "[0-9a-f]{16}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value

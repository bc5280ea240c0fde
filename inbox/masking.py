"""What of a sender's headers is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from automation_lab.core.redaction import redact_headers


def mask_credentials(headers: Iterable[Sequence[str]]) -> list[list[str]]:
    """Signatures are kept: they open nothing, and a refused one is what people come to look at."""
    return [
        [name, value] if "signature" in name.lower() else redact_headers([[name, value]])[0] for name, value in headers
    ]

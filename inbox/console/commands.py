"""A stored webhook as a shell command that sends it again: the real address, without what the sender proved itself by."""

from __future__ import annotations

from automation_lab.core import curl
from automation_lab.core.console import display as show
from automation_lab.core.redaction import redact_query
from inbox.masking import mask_credentials
from inbox.models import Webhook
from inbox.replaying.outgoing import kept_headers

MOST_BYTES = 32_768


def curl_command(webhook: Webhook, origin: str) -> str:
    """Long and binary bodies are named as a file, to be downloaded first."""
    url, headers = curl.address(origin, webhook.path, redact_query(webhook.query_string)), _headers(webhook)
    text = _body_text(webhook)
    if text is not None:
        return curl.command(webhook.method, url, headers, text=text)
    file = f"webhook-{webhook.pk}.bin"
    return f"# First download the body as {file}.\n{curl.command(webhook.method, url, headers, file=file)}"


def _headers(webhook: Webhook) -> list[tuple[str, str]]:
    """Without those that hold a credential: what is masked for display is left out."""
    pairs = show.as_pairs(webhook.headers)
    return kept_headers([pair for pair, masked in zip(pairs, mask_credentials(pairs), strict=True) if pair == masked])


def _body_text(webhook: Webhook) -> str | None:
    raw = bytes(webhook.raw_body)
    if len(raw) > MOST_BYTES or b"\x00" in raw:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None

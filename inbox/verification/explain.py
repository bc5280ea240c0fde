"""Why a signature was refused, for the operator: in words, and never with a secret.

Tries what people and proxies get wrong, one thing at a time: the secret's spelling and encoding, the signature's, the
address, the body on its way, an old secret, another provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from urllib.parse import urlsplit

from inbox.verification.context import Context, Secret
from inbox.verification.engine import Check, Scheme
from inbox.verification.keys import HASHES, WHPK
from inbox.verification.results import Verdict, Verification
from inbox.verification.schemes import SCHEMES, checks_of

MAX_FINDINGS = 5
_WORD_IN_FRONT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,19}(?:[=:] ?| )", re.ASCII)
MAX_BYTES_HASHED = 500_000_000  # about a second

REASONS = {
    Verification.MISMATCH: "The signature does not belong to this body and these secrets.",
    Verification.STALE: "The signature is right, but older than tolerance_seconds allowed when it arrived.",
    Verification.FUTURE: "The signature is right, but its time is ahead of this clock: compare the clocks.",
    Verification.MALFORMED_HEADER: "The signature or its time is not written as this scheme writes it.",
    Verification.MISSING_FIELD: "The body has not all of the fields that carry this scheme's signature.",
    Verification.NO_SECRET: "The source has no secret that is valid now and can be read as this scheme needs it.",
    Verification.NO_PUBLIC_URL: "The sender signs the address it called: set PUBLIC_URL, or url in scheme_settings.",
    Verification.UNKNOWN_SENDER: "It is signed by the provider, but for another account or topic than this source names.",
    Verification.UNTRUSTED_CERTIFICATE: "The certificate it names is not one of the provider's.",
    Verification.ADDRESS_NOT_ALLOWED: "It came from an address that allowed_addresses does not name.",
    Verification.UNSUPPORTED: "It is signed with an algorithm that is not accepted here.",
}


@dataclass(frozen=True)
class Variant:
    """One thing done differently, and the sentence that says so."""

    sentence: str
    checks: tuple[Check, ...]
    context: Context


def explain(scheme: str, verdict: Verdict, context: Context, secrets: Iterable[Secret], *, now: datetime) -> list[str]:
    """Findings, the reason first. `secrets` are all of the source's, whether they are valid `now` or not."""
    findings = [_reason(scheme, verdict, context)]
    if verdict.result in (Verification.STALE, Verification.FUTURE, Verification.ADDRESS_NOT_ALLOWED):
        return findings
    affordable = max(20, MAX_BYTES_HASHED // (1 + len(context.request.raw_body)))
    for variant in islice(_variants(scheme, context, tuple(secrets), now), affordable):
        if variant.sentence not in findings and _verifies(variant):
            findings.append(variant.sentence)
        if len(findings) > MAX_FINDINGS:
            break
    if len(findings) == 1:
        findings += _foreign_headers(scheme, context)
    return findings


def _reason(scheme: str, verdict: Verdict, context: Context) -> str:
    if verdict.result != Verification.MISSING_HEADER:
        return REASONS.get(verdict.result, "It is accepted.")
    names = dict.fromkeys(check.header for check in checks_of(scheme, context.options))
    where = " or ".join(name for name in names if name)
    return f"A header that this scheme needs is missing{f'; the signature stands in {where}' if where else ''}."


def _verifies(variant: Variant) -> bool:
    signed = (Verification.VERIFIED, Verification.STALE, Verification.FUTURE)
    return any(check.verify(variant.context).result in signed for check in variant.checks)


def _variants(scheme: str, context: Context, secrets: tuple[Secret, ...], now: datetime) -> Iterator[Variant]:
    checks = checks_of(scheme, context.options)
    yield from _other_secrets(checks, context, secrets, now)
    yield from _spellings(checks, context)
    yield from _other_descriptions(checks, context)
    yield from _other_addresses(checks, context)
    yield from _other_bodies(checks, context)
    yield from _other_schemes(scheme, context)


def _other_secrets(
    checks: tuple[Check, ...], context: Context, secrets: tuple[Secret, ...], now: datetime
) -> Iterator[Variant]:
    for secret in secrets:
        if secret not in context.secrets:
            sentence = f"The secret {secret.id} matches, but it {_when(secret, now)}."
            yield Variant(sentence, checks, replace(context, secrets=(secret,)))


def _when(secret: Secret, now: datetime) -> str:
    if secret.starts_at and secret.starts_at > now:
        return f"is not valid yet, only from {secret.starts_at:%Y-%m-%d %H:%M %Z}"
    return "has expired"


def _spellings(checks: tuple[Check, ...], context: Context) -> Iterator[Variant]:
    for secret in context.secrets:
        for what, value in _spelled_differently(secret.value):
            if value and value != secret.value:
                sentence = f"It matches when the secret {secret.id} is taken {what}."
                yield Variant(sentence, checks, replace(context, secrets=(replace(secret, value=value),)))


def _spelled_differently(value: str) -> Iterator[tuple[str, str]]:
    bare = value.strip()
    yield "without the space around it", bare
    yield "with a line break at its end, which the sender's secret seems to have", f"{value}\n"
    for what, spelled in (
        ("without the quotation marks around it", bare.strip("\"'`")),
        ("without its name in front (NAME=)", bare.partition("=")[2]),
        ("without the whsec_ in front", bare.removeprefix("whsec_")),
    ):
        if spelled != bare:
            yield what, spelled
    yield "with whsec_ in front", f"whsec_{bare}"
    yield "in lower case", value.lower()


def _other_descriptions(checks: tuple[Check, ...], context: Context) -> Iterator[Variant]:
    for check in checks:
        if not isinstance(check, Scheme):
            continue
        described = _described_differently(check) if check.algorithm in HASHES else _placed_differently(check, context)
        for sentence, changes in described:
            yield Variant(sentence, (replace(check, **changes),), context)  # type: ignore[arg-type]


def _placed_differently(check: Scheme, context: Context) -> Iterator[tuple[str, dict[str, str]]]:
    """A token or password in any of the headers, perhaps after a word such as Bearer."""
    if check.algorithm != "equal":
        return
    for name, value in context.request.headers:
        word = _WORD_IN_FRONT.match(value.strip())
        for prefix in ("", word[0] if word else ""):
            after = f"after {prefix.strip()}" if prefix else "alone"
            instead = f"after {check.prefix.strip()}" if check.prefix else "alone"
            sentence = f"The secret stands in the header {name} {after}, not in {check.header} {instead}."
            yield sentence, {"header": name, "prefix": prefix}


def _described_differently(check: Scheme) -> Iterator[tuple[str, dict[str, str]]]:
    for key, name in (("utf-8", "plain text"), ("hex", "hexadecimal"), ("base64", "base64")):
        if key != check.key:
            yield f"It matches when the secret is read as {name}.", {"key": key}
    for algorithm in HASHES:
        if algorithm != check.algorithm:
            prefix = check.prefix.replace(check.algorithm, algorithm)
            yield f"It is signed with {algorithm}, not {check.algorithm}.", {"algorithm": algorithm, "prefix": prefix}
    other = {"hex": "base64", "base64": "hex"}.get(check.encoding)
    if other:
        yield f"The signature is written in {other}, not {check.encoding}.", {"encoding": other}
    if check.prefix:
        yield f"The signature comes without {check.prefix} in front.", {"prefix": ""}
    for prefix in dict.fromkeys((check.prefix.upper(), check.prefix.lower(), check.prefix.capitalize())):
        if prefix != check.prefix:
            yield f"The signature comes with {prefix} in front, not {check.prefix}.", {"prefix": prefix}
    for prefix in ("sha256=", "v0=", "v1=", "Bearer "):
        if prefix != check.prefix:
            yield f"The signature comes with {prefix.strip()} in front.", {"prefix": prefix}
    if check.timestamp and "timestamp" in check.parts and not check.field:
        yield "The body alone is signed, without the time.", {"content": "{body}"}


def _other_addresses(checks: tuple[Check, ...], context: Context) -> Iterator[Variant]:
    if not any(check.signs_url for check in checks):
        return
    for url in _address_variants(context):
        sentence = f"The sender signed the address {url}; here it is {context.url or 'not known'}."
        yield Variant(sentence, checks, replace(context, url=url))


def _address_variants(context: Context) -> Iterator[str]:
    host = context.request.header("Host")
    path = context.request.path + (f"?{context.request.query_string}" if context.request.query_string else "")
    bases = [context.url] if context.url else []
    bases += [f"https://{host}{path}"] if host else []
    for base in bases:
        try:
            parts = urlsplit(base)
            port = parts.port
        except ValueError:
            continue
        name = parts.netloc.removesuffix(f":{port}")
        for scheme in ("https", "http"):
            for netloc in dict.fromkeys((parts.netloc, name, f"{name}:443", f"{name}:80")):
                for found in (parts.path, parts.path.rstrip("/"), f"{parts.path.rstrip('/')}/"):
                    for query in dict.fromkeys((parts.query, "")):
                        url = parts._replace(scheme=scheme, netloc=netloc, path=found, query=query).geturl()
                        if url != context.url:
                            yield url


def _other_bodies(checks: tuple[Check, ...], context: Context) -> Iterator[Variant]:
    body = context.request.raw_body
    for what, altered in _altered(body, context):
        if altered != body:
            sentence = f"The body was altered on its way: the signature belongs to it {what}."
            yield Variant(sentence, checks, replace(context, request=replace(context.request, raw_body=altered)))


def _altered(body: bytes, context: Context) -> Iterator[tuple[str, bytes]]:
    yield "without the line break at its end", body.rstrip(b"\r\n")
    yield "with a line break at its end", body + b"\n"
    yield "with CR LF at its end", body + b"\r\n"
    yield "with line ends LF instead of CR LF", body.replace(b"\r\n", b"\n")
    yield "with line ends CR LF instead of LF", body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "without the byte order mark", body.removeprefix(b"\xef\xbb\xbf")
    value = context.request.parsed.value
    if isinstance(value, dict | list):
        for separators in ((",", ":"), (", ", ": ")):
            for is_ascii in (False, True):
                text = json.dumps(value, separators=separators, ensure_ascii=is_ascii)
                yield "as JSON written with other spaces or escapes", text.encode("utf-8", "replace")
        yield "as indented JSON", json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace")
    yield "when it is empty", b""


def _other_schemes(scheme: str, context: Context) -> Iterator[Variant]:
    for other, checks in SCHEMES.items():
        if other == scheme or other in ("paypal", "sns"):  # whose certificates would have to be fetched
            continue
        if present := tuple(check for check in checks if check.is_carried_by(context.request)):
            yield Variant(f"It is signed as the scheme {other} signs.", present, context)


def _foreign_headers(scheme: str, context: Context) -> Iterator[str]:
    """Providers whose signatures came along, although nothing verifies."""
    own = {check.header.lower() for check in checks_of(scheme, context.options)}
    for other, checks in SCHEMES.items():
        for check in checks:
            if (
                other != scheme
                and (not check.header or check.header.lower() not in own)
                and check.is_carried_by(context.request)
            ):
                where = f"{check.header}, the header" if check.header else "the fields"
                yield f"It carries {where} of the scheme {other}."
                return
    if any(secret.value.strip().startswith(WHPK) for secret in context.secrets):
        yield "A whpk_ key verifies v1a signatures only."

"""What a credential looks like: the names it goes by, and the shapes of well-known ones in free text.

Every pattern is linear in the text: it starts at a literal or a word, and no two of its repetitions can match the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from automation_lab.core.redaction.masks import MASK


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SENSITIVE_HEADERS = frozenset(
    _words("""
    authorization proxy-authorization cookie set-cookie x-api-key api-key x-auth-token x-access-token x-csrftoken
    x-xsrf-token x-amz-security-token x-goog-api-key x-vault-token x-gitlab-token x-shopify-access-token x-functions-key
    ocp-apim-subscription-key x-hub-signature x-hub-signature-256 stripe-signature webhook-signature svix-signature
    x-hookdeck-signature x-slack-signature x-twilio-signature x-telegram-bot-api-secret-token dpop php-auth-pw
    x-forwarded-client-cert
    """)
)
SENSITIVE_HEADER_ENDINGS = ("-token", "-secret", "-password", "-signature", "-credential", "-credentials")
# "secrets" is not in the study's list: it is how our own API spells the signing secrets of a source.
SENSITIVE_KEY_ENDINGS = _words("""
    password passwd pwd passphrase secret secrets clientsecret token accesstoken refreshtoken idtoken apikey privatekey
    secretkey accesskey signingkey authorization auth credential credentials sessionid csrftoken otp pin cvv cvc cardnumber
    iban ssn
""")
KEPT_SCHEMES = frozenset(
    _words("""
    apikey aws4-hmac-sha256 basic bearer digest dpop geniekey hawk jwt key mutual negotiate ntlm oauth sharedkey token vapid
    """)
)
_LONGEST_KEY = 128
_SEPARATORS = str.maketrans("", "", "-_ .[]")


def is_sensitive_header(name: str) -> bool:
    return _is_sensitive_header(name[-_LONGEST_KEY:])


def is_sensitive_key(key: str) -> bool:
    """Whether `key` names a secret: as a whole or at its end, so `db_password` does and `secretary` does not."""
    return _is_sensitive_key(key[-_LONGEST_KEY:])


def plain_header(name: str) -> str:
    return name.strip().lower().replace("_", "-").removeprefix("http-")


@lru_cache(maxsize=4096)
def _is_sensitive_header(name: str) -> bool:
    return plain_header(name).endswith(SENSITIVE_HEADER_ENDINGS) or _is_sensitive_key(name)


@lru_cache(maxsize=4096)
def _is_sensitive_key(key: str) -> bool:
    plain = key.lower().translate(_SEPARATORS)
    return plain.endswith(SENSITIVE_KEY_ENDINGS) or plain_header(key) in SENSITIVE_HEADERS


@dataclass(frozen=True)
class Shape:
    """One kind of credential; `gates` are literals without which `replace` cannot find anything."""

    gates: tuple[str, ...]
    replace: Callable[[str], str]

    def may_be_in(self, text: str) -> bool:
        return any(gate in text for gate in self.gates)


def _substitution(pattern: str, replacement: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda text: compiled.sub(replacement, text)


_PREFIXED = {
    "sk_live_": r"\w{8,}",
    "rk_live_": r"\w{8,}",
    "whsec_": r"[\w+/=-]{8,}",
    "ghp_": r"[A-Za-z0-9]{8,}",
    "gho_": r"[A-Za-z0-9]{8,}",
    "ghs_": r"[A-Za-z0-9]{8,}",
    "github_pat_": r"\w{8,}",
    "xoxb-": r"[\w-]{8,}",
    "xoxp-": r"[\w-]{8,}",
    "AKIA": r"[A-Z0-9]{12,}",
    "ASIA": r"[A-Z0-9]{12,}",
    "AIza": r"[\w-]{20,}",
    "glpat-": r"[\w-]{8,}",
    "npm_": r"[A-Za-z0-9]{20,}",
    "pypi-": r"[\w-]{20,}",
    "SG.": r"[\w-]{8,}\.[\w-]{8,}",
    "shpat_": r"\w{8,}",
    "lab_": r"[A-Za-z0-9]{20,}",
}
_QUOTED_KEY = re.compile(r"""(["'])(?P<key>[^"'\\]{1,64})\1\s{0,8}:\s{0,8}""")
_KEY_EQUALS = re.compile(r"(?<![\w.\[\]-])(?P<key>[\w.\[\]-]{1,64})=")
_QUOTED_VALUE = r"""[bu]?(?:"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?)"""
_JSON_VALUE = re.compile(rf"{_QUOTED_VALUE}|-?\d[\d.eE+-]*", re.DOTALL)
_FORM_VALUE = re.compile(rf"""{_QUOTED_VALUE}|[^\s&"'<>;,]+""", re.DOTALL)
_XML_TAG = re.compile(r"<(?P<key>[\w.:-]{1,64})(?:\s[^<>]{0,200})?>")
_XML_VALUE = re.compile(r"[^<]+")
_LONG_NUMBER = re.compile(r"(?<![\w.])[2-9](?:[ -]?\d){12,18}(?!\w)")


def _mask_after(keys: re.Pattern[str], values: re.Pattern[str], bare_mask: str, text: str) -> str:
    """`text` with every value that follows a sensitive key masked; `bare_mask` replaces one without quotes."""
    pieces: list[str] = []
    done = position = 0
    while key := keys.search(text, position):
        position = key.end()
        if is_sensitive_key(key["key"]) and (value := values.match(text, position)):
            pieces += [text[done:position], _masked_literal(value[0], bare_mask)]
            done = position = value.end()
    return "".join([*pieces, text[done:]])


def _masked_literal(literal: str, bare_mask: str) -> str:
    quoted = literal.lstrip("bu")
    if quoted[:1] not in ('"', "'"):
        return bare_mask
    return literal if len(quoted) == 2 else f"{quoted[0]}{MASK}{quoted[0]}"


def _passes_luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _mask_card_number(match: re.Match[str]) -> str:
    digits = match[0].replace(" ", "").replace("-", "")
    return MASK if _passes_luhn(digits) else match[0]


def is_card_number(number: int) -> bool:
    # No card begins with 0 or 1, but every instant in milliseconds does until 2033, and a tenth of them pass Luhn.
    return 10**12 <= number < 10**19 and (digits := str(number))[0] != "1" and _passes_luhn(digits)


SHAPES = (
    # An encrypted key has lines with single dashes, so only five of them end it. The end may have been cut off.
    Shape(
        ("PRIVATE KEY",),
        _substitution(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]|-(?!----))*+(?:-----END [A-Z ]{0,40}-----)?", MASK
        ),
    ),
    Shape(("://", r":\/\/"), _substitution(r"""(:(?:\\?/){2})[^\s/?#"'<>\\]+@""", rf"\1{MASK}@")),
    Shape(("earer", "EARER"), _substitution(r"""(?i)\b(bearer)\s{1,8}[^\s"'<>,;\\]{8,}""", rf"\1 {MASK}")),
    Shape(("eyJ",), _substitution(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", MASK)),
    Shape(
        tuple(_PREFIXED),
        _substitution(
            rf"(?<![A-Za-z0-9])(?:{'|'.join(re.escape(start) + rest for start, rest in _PREFIXED.items())})", MASK
        ),
    ),
    Shape(('"', "'"), lambda text: _mask_after(_QUOTED_KEY, _JSON_VALUE, "0", text)),
    Shape(("=",), lambda text: _mask_after(_KEY_EQUALS, _FORM_VALUE, MASK, text)),
    Shape(("</",), lambda text: _mask_after(_XML_TAG, _XML_VALUE, MASK, text)),
    Shape(tuple("23456789"), lambda text: _LONG_NUMBER.sub(_mask_card_number, text)),
)

"""Which secrets a definition names, however it is written: for showing what would break without one."""

from __future__ import annotations

import re
from typing import Any

from automation_lab.core.registry import SecretUser, secret_users
from automation_lab.core.safe_json import dump

# In JSON text, so quotes may be escaped. Text that only looks like a use does no harm: it is shown.
_USE = re.compile(r"""\bsecrets\s*(?:\.\s*([A-Za-z][A-Za-z0-9_]*)|\[\s*\\?["']([A-Za-z][A-Za-z0-9_]*)\\?["']\s*\])""")


def names_in(*definitions: Any) -> set[str]:
    """Names of the secrets that occur in `definitions`, which are JSON values."""
    return {first or second for value in definitions for first, second in _USE.findall(dump(value))}


def users_of(name: str) -> list[SecretUser]:
    """Everything that names the secret `name`."""
    return [user for users in secret_users.values() for named, user in users() if named == name]

"""What services raise. Interfaces translate: the API into problem bodies, the console into messages, commands into exit codes."""

from __future__ import annotations

from typing import Any


class AutomationLabError(Exception):
    """Root of every error this product raises on purpose. Its text may be shown to the user who caused it."""

    code = "error"

    def __init__(self, message: str, *, field: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        if code:
            self.code = code


class Invalid(AutomationLabError):
    """The input cannot be accepted as it is. `errors` lists every fault as `{field, code, detail}`."""

    code = "invalid"

    def __init__(
        self, message: str, *, field: str = "", code: str = "", errors: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message, field=field, code=code)
        self.errors = errors or [{"field": field, "code": self.code, "detail": message}]


class NotFound(AutomationLabError):
    """The object that was named does not exist."""

    code = "not_found"


class Gone(AutomationLabError):
    """The object that was named was there: it has been used up or removed for good, or its time is over."""

    code = "gone"


class Conflict(AutomationLabError):
    """The object is in a state in which this cannot be done."""

    code = "conflict"


class Unavailable(AutomationLabError):
    """Something outside that is needed does not answer at the moment; the same request may succeed later."""

    code = "unavailable"


class Refused(AutomationLabError):
    """Not allowed by a rule of this installation, whoever asks."""

    code = "refused"

"""What can be wrong with a request, and the one table from errors to statuses."""

from __future__ import annotations

from settlement_core.values.errors import (
    AttemptConflict,
    IdempotencyConflict,
    JournalEnded,
    LocalError,
    MessageNotHandled,
    NoBackup,
    SettlementError,
    ShuttingDown,
    StoreUnavailable,
    SuspenseConflict,
    TooLate,
    UnknownAccount,
    UnknownAttempt,
    UnknownSuspense,
)

__all__ = [
    "STATUSES",
    "BadJson",
    "BadUrl",
    "BodyTooLarge",
    "BodyTooSlow",
    "MethodNotAllowed",
    "MissingKey",
    "NeedsConfirmation",
    "NothingTried",
    "UnsupportedMediaType",
    "status_of",
]


class BadJson(LocalError):
    """The body is not the JSON we need."""


class BadUrl(LocalError):
    """The request's URL is none."""

    def __init__(self) -> None:
        super().__init__("the request's target is no URL of ASCII; nothing was recorded")


class MissingKey(LocalError):
    """A settlement request carries no Idempotency-Key, or several."""

    def __init__(self, found: int) -> None:
        super().__init__(f"exactly one Idempotency-Key header is needed, found {found}; nothing was recorded")
        self.found = found


class NothingTried(LocalError):
    """An account was told to try again now, and would not."""

    def __init__(self, why: str) -> None:
        super().__init__(f"nothing is tried: {why}")


class UnsupportedMediaType(LocalError):
    """The Content-Type is not the one this endpoint takes."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"Content-Type must be {expected}; nothing was recorded")
        self.expected = expected


class MethodNotAllowed(LocalError):
    """The path is one of RFC 38's, the method is not."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"this path takes {allowed}, not {method[:20]}")
        self.allowed = allowed


class BodyTooLarge(LocalError):
    """The body is longer than this endpoint takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is longer than {limit} bytes; nothing was recorded")
        self.limit = limit


class BodyTooSlow(LocalError):
    """The body did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the body did not arrive within {limit_s:g} s; nothing was recorded")
        self.limit_s = limit_s


class NeedsConfirmation(LocalError):
    """A decision is proposed, and another token has to confirm it."""

    def __init__(self, *, token: str, decision: str, about: str, amount: str, limit: str, others: str) -> None:
        super().__init__(
            f"proposed by token {token}, and not decided: {decision} of {about} is about {amount}, and above {limit} a "
            f"second token has to send the same decision within 24 h{others}"
        )
        self.token = token


# the most particular class counts; what is not listed is the server's fault
_STATUS: dict[type[SettlementError], int] = {
    LocalError: 400,
    UnknownAccount: 404,
    UnknownAttempt: 404,
    UnknownSuspense: 404,
    NoBackup: 404,
    MethodNotAllowed: 405,
    BodyTooSlow: 408,
    IdempotencyConflict: 409,
    AttemptConflict: 409,
    SuspenseConflict: 409,
    NeedsConfirmation: 409,
    NothingTried: 409,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    MessageNotHandled: 500,
    StoreUnavailable: 503,
    TooLate: 503,
    JournalEnded: 503,
    ShuttingDown: 503,
    SettlementError: 500,
}

STATUSES = sorted(set(_STATUS.values()))
"""Every status an error may have."""


def status_of(error: SettlementError) -> int:
    """Return the HTTP status for an error."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)

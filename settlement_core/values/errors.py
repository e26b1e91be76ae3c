"""Every error says what was tried, on what, what state we are left in and, if there is one, the remedy.

Errors are split by who must act: a `LocalError` asks the caller to change something, a `RemoteError` may
pass by itself, an `InvariantError` means that something we rely on is broken.
"""

from __future__ import annotations

from decimal import Decimal

__all__ = [
    "AskerLeft",
    "AttemptConflict",
    "ConnectorError",
    "EngineError",
    "IdempotencyConflict",
    "InvalidAmount",
    "InvalidEngine",
    "InvalidIdentifier",
    "InvalidQuantity",
    "InvariantError",
    "JournalEnded",
    "LeadershipLost",
    "LeaseLost",
    "LocalError",
    "MessageNotHandled",
    "MessageRejected",
    "NoBackup",
    "RemoteError",
    "SettlementError",
    "SettlementFailed",
    "ShuttingDown",
    "StoreBroken",
    "StoreLocked",
    "StoreUnavailable",
    "SuspenseConflict",
    "TooLate",
    "UnknownAccount",
    "UnknownAttempt",
    "UnknownSuspense",
]


class SettlementError(Exception):
    """Anything this package raises on purpose."""


class LocalError(SettlementError):
    """The caller must change something; nothing was recorded."""


class RemoteError(SettlementError):
    """Somebody else failed and may recover; the same thing may be tried again."""


class InvariantError(SettlementError):
    """Something we rely on is broken; what it concerns halts, loudly."""


class InvalidQuantity(LocalError):
    """A quantity is not what RFC 38, "Units and quantities", describes."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"invalid quantity: {problem}")
        self.problem = problem


class InvalidAmount(LocalError):
    """An amount is not an exact, finite, non-negative Decimal of bounded size."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"invalid {what}: {problem}; nothing was recorded")
        self.what = what
        self.problem = problem


class InvalidIdentifier(LocalError):
    """An account id, idempotency key or settlement id has a forbidden form."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"invalid {what}: {problem}")
        self.what = what
        self.problem = problem


class UnknownAccount(LocalError):
    """The account was never opened here, or was deleted."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id!r} does not exist; nothing was recorded")
        self.account_id = account_id


class IdempotencyConflict(LocalError):
    """An idempotency key or settlement id came again with another amount.

    `first` is None for a settlement id whose credit has left the history.
    """

    def __init__(self, account_id: str, entry_id: str, *, first: Decimal | None, now: Decimal) -> None:
        used = "another amount, long ago" if first is None else f"{first:f}"
        super().__init__(
            f"provided idempotency key is tied to other input: {entry_id!r} of account {account_id!r} "
            f"was first used with {used}, now with {now:f}; nothing was recorded",
        )
        self.account_id = account_id
        self.entry_id = entry_id
        self.first = first
        self.now = now


class TooLate(LocalError):
    """A request reached the store after the time within which it was to be recorded."""

    def __init__(self, account_id: str, entry_id: str) -> None:
        super().__init__(
            f"the store took request {entry_id!r} of account {account_id!r} too late; nothing was recorded, repeating "
            "it is safe"
        )
        self.account_id = account_id
        self.entry_id = entry_id


class UnknownAttempt(LocalError):
    """No attempt has this id."""

    def __init__(self, account_id: str, attempt_id: str) -> None:
        super().__init__(f"account {account_id!r} has no attempt {attempt_id!r}; nothing was recorded")
        self.account_id = account_id
        self.attempt_id = attempt_id


class AttemptConflict(LocalError):
    """The attempt is not in a state, or of an amount, that allows what was asked."""

    def __init__(self, attempt_id: str, *, tried: str, problem: str) -> None:
        super().__init__(f"cannot {tried} attempt {attempt_id!r}: {problem}; nothing was recorded")
        self.attempt_id = attempt_id
        self.tried = tried
        self.problem = problem


class LeaseLost(LocalError):
    """Another worker looks after the account by now; what this one was doing there is dropped."""

    def __init__(self, account_id: str) -> None:
        super().__init__(
            f"account {account_id!r} is another worker's by now; nothing was recorded, that worker finds out what "
            "became of the attempt"
        )
        self.account_id = account_id


class LeadershipLost(RemoteError):
    """This engine may run in one worker at a time, and another one runs it by now."""

    def __init__(self, worker: str) -> None:
        super().__init__(
            f"worker {worker!r} was silent for longer than its lease, and another one runs the engine by now; what was "
            "under way here stays open in the store and is looked at there; start again to stand by"
        )


class UnknownSuspense(LocalError):
    """No unattributed settlement has this id."""

    def __init__(self, settlement_id: str) -> None:
        super().__init__(f"no unattributed settlement {settlement_id!r}; nothing was recorded")
        self.settlement_id = settlement_id


class SuspenseConflict(LocalError):
    """An unattributed settlement is already recorded, or assigned, otherwise."""

    def __init__(self, settlement_id: str, problem: str) -> None:
        super().__init__(f"unattributed settlement {settlement_id!r} {problem}; nothing was recorded")
        self.settlement_id = settlement_id
        self.problem = problem


class MessageRejected(LocalError):
    """The engine cannot take this message: it handles none, or the message is not JSON."""


class MessageNotHandled(RemoteError):
    """The engine failed on a message, or took too long."""

    def __init__(self, account_id: str, problem: str) -> None:
        super().__init__(f"message for account {account_id!r} was not handled: {problem}")
        self.account_id = account_id
        self.problem = problem


class InvalidEngine(LocalError):
    """The object given as an engine fulfils neither contract."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} is no settlement engine: {problem}")
        self.name = name
        self.problem = problem


class EngineError(InvariantError):
    """The engine broke its contract; the account it concerns halts with its attempt open."""


class SettlementFailed(RemoteError):
    """Raised by an engine that *knows* nothing moved: the whole amount is queued again."""


class ConnectorError(RemoteError):
    """The connector gave no usable answer to a message."""


class StoreUnavailable(RemoteError):
    """The store does not answer now; the same batch is applied again until it does."""


class AskerLeft(RemoteError):
    """Whoever made a request does not wait for its answer any more."""

    def __init__(self) -> None:
        super().__init__("the client left before its request was answered; unless it was recorded before, it is not")


class ShuttingDown(RemoteError):
    """The core takes no new work; nothing was recorded."""

    def __init__(self) -> None:
        super().__init__("shutting down; nothing was recorded, try again later")


class JournalEnded(RemoteError):
    """The command came too late, or the store broke before it; it may not have been recorded."""

    def __init__(self, command: str) -> None:
        super().__init__(f"the journal has ended: {command} may not have been recorded, try again later")
        self.command = command


class StoreLocked(LocalError):
    """Another process has this store open."""


class NoBackup(LocalError):
    """This store is not backed up through its server; the error says how it is."""


class StoreBroken(InvariantError):
    """The store can never answer again as it is: damaged, or of another version."""

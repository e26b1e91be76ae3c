"""Short words for the commands that store tests are made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from settlement_core.abc import Store
from settlement_core.values import commands as c
from settlement_core.values.records import AccountOverview, Attempt, Direction, Totals

OUTGOING, INCOMING = Direction.OUTGOING, Direction.INCOMING
HOUR = 3600.0

R = TypeVar("R")


def ask(store: Store, command: c.Command[R]) -> R:
    """Apply one command and return its result, or raise its refusal."""
    result: Any = store.apply([command])[0]
    if isinstance(result, Exception):
        raise result
    answer: R = result
    return answer


def opened(account_id: str = "alice") -> c.OpenAccount:
    """Open an account."""
    return c.OpenAccount(account_id=account_id, at=0.0)


def entered(
    entry_id: str, amount: str, *, direction: Direction = OUTGOING, account_id: str = "alice", at: float = 0.0
) -> c.Enqueue:
    """Enqueue an amount."""
    return c.Enqueue(account_id=account_id, direction=direction, entry_id=entry_id, amount=Decimal(amount), at=at)


def claimed(
    attempt_id: str,
    *,
    direction: Direction = OUTGOING,
    account_id: str = "alice",
    at: float = 0.0,
    scale: int | None = None,
) -> c.Claim:
    """Claim what is queued."""
    return c.Claim(account_id=account_id, direction=direction, attempt_id=attempt_id, at=at, scale=scale)


def closed(attempt_id: str, settled: str, *, account_id: str = "alice", at: float = 0.0) -> c.Close:
    """Close an attempt."""
    return c.Close(account_id=account_id, attempt_id=attempt_id, settled=Decimal(settled), at=at)


def overview(store: Store, account_id: str = "alice") -> AccountOverview:
    """Return the account as the store knows it."""
    (found,) = ask(store, c.Overview(account_id=account_id))
    return found


def outgoing(store: Store, account_id: str = "alice") -> Totals:
    """Return what we owe."""
    return overview(store, account_id).outgoing


def attempts(store: Store, account_id: str = "alice") -> list[Attempt]:
    """Return all attempts of the account."""
    return ask(store, c.History(account_id=account_id, limit=100_000))


def entry_ids(store: Store, account_id: str = "alice") -> list[str]:
    """Return the ids of the account's outgoing entries that are not forgotten."""
    query = c.Entries(account_id=account_id, direction=Direction.OUTGOING, limit=100_000)
    return [entry.entry_id for entry in ask(store, query)]

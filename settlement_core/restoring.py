"""Restored books, which may be older than the ledger: nothing of them is paid or credited until an operator decides.

Whatever was unsettled in them may have moved since, under attempts that they know nothing of. So it is parked, and each
account is paused. Only a payment that the engine noted stays open: its ledger is asked what became of it, as ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from settlement_core.abc import RestorableStore, Store
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, SettlementError
from settlement_core.values.records import AccountOverview, Attempt, Direction
from settlement_core.values.sealing import SEAL, refuse_sealed

__all__ = ["RESTORED_BY", "SetAside", "set_aside_restored"]

RESTORED_BY = "settlement-core"
"""Who paused the accounts of restored books; an operator resumes them."""

_ALL = 1_000_000_000
"""More entries than any queue has: all of it becomes one attempt, about which one decision is taken."""

_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """What was set aside: how many accounts were paused, and how many attempts parked in them."""

    accounts: int
    attempts: int


def set_aside_restored(store: Store, why: str) -> SetAside:
    """Park what is unsettled in a store that no server has open, pause its accounts, and take it for the latest.

    May be repeated after it was cut off. Raises `LocalError` if workers have the store open, or it was migrated away.
    """
    refuse_sealed(_ask(store, SEAL))
    workers = [worker.worker_id for worker in _ask(store, c.Workers()) if worker.expires_in_s > 0]
    if workers:
        raise LocalError(f"the store is in use by {', '.join(workers)}: stop them first; nothing was set aside")
    # one that was silent for longer than its lease may come back
    _ask(store, c.Fence())
    reason = f"the books may be older than the ledger: {why}"
    accounts = attempts = 0
    for account in _accounts(store):
        attempts += _set_aside(store, account, reason)
        accounts += 1
    if isinstance(store, RestorableStore):
        store.adopt()
    return SetAside(accounts=accounts, attempts=attempts)


def _accounts(store: Store) -> Iterator[AccountOverview]:
    after = ""
    while page := _ask(store, c.Overview(after=after, limit=_PAGE)):
        yield from page
        after = page[-1].account_id


def _set_aside(store: Store, account: AccountOverview, reason: str) -> int:
    """Park all that can be parked of one account; return how many attempts that is."""
    parked = 0
    while found := list(_claim(store, account.account_id, reason)):
        holds = [c.Hold(account_id=account.account_id, attempt_id=a.attempt_id, reason=reason) for a in found]
        for hold in holds:
            _ask(store, hold)
        parked += len(holds)
    return parked


def _claim(store: Store, account_id: str, reason: str) -> Iterator[Attempt]:
    """Pause the account, having claimed what it owes and was paid, in one batch; yield what is to be parked."""
    at = time.time()
    about = {"account_id": account_id, "by": RESTORED_BY, "reason": reason, "at": at}
    claims = [
        c.Claim(account_id=account_id, direction=way, attempt_id=str(uuid4()), at=at, max_entries=_ALL)
        for way in Direction
    ]
    _, *answers, _ = store.apply([c.Pause(paused=False, **about), *claims, c.Pause(paused=True, **about)])  # type: ignore[arg-type]
    for answer in answers:
        if isinstance(answer, SettlementError):
            raise answer
        # what is noted of a payment the engine can look up; a credit has no note
        if isinstance(answer, c.Claimed) and answer.attempt.payment is None:
            yield answer.attempt


def _ask(store: Store, command: c.Command[Any]) -> Any:
    (result,) = store.apply([command])
    if isinstance(result, SettlementError):
        raise result
    return result

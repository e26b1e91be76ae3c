"""The store that forgets: the reference interpreter itself, for tests, demonstrations and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from settlement_core.stores._json import checked, freeze, thaw
from settlement_core.values import commands as c
from settlement_core.values.books import AccountBooks
from settlement_core.values.errors import LocalError
from settlement_core.values.known import KnownSettlement
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    EngineValue,
    Entry,
    EntryKind,
    Payment,
    Step,
    SuspenseItem,
)
from settlement_core.values.reference import Books

__all__ = ["MemoryStore", "create_memory_store"]

T = TypeVar("T")


class MemoryStore:
    """Everything in this process, and gone with it. JSON values are copied on their way in and out."""

    threaded = False
    name = "memory:"

    def __init__(self) -> None:
        self._books = Books()

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def apply(self, commands: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Apply a batch in order; see `settlement_core.abc.Store`."""
        return [self._answer(command) for command in commands]

    def import_account(self, account: AccountOverview, entries: Iterable[Entry], attempts: Iterable[Attempt]) -> None:
        """Take one account over from another store; see `settlement_core.abc.ImportingStore`."""
        if account.account_id in self._books.accounts:
            raise LocalError(f"account {account.account_id!r} is there already; nothing was recorded")
        books = AccountBooks(account.account_id, account.state)
        books.pausing = account.pausing
        books.set_up, books.tear_down = Step.SET_UP in account.steps, Step.TEAR_DOWN in account.steps
        for lane, totals in zip(books.lanes.values(), (account.outgoing, account.incoming), strict=True):
            for name in fields(totals):
                setattr(lane, name.name, getattr(totals, name.name))
        for attempt in attempts:
            books.attempts[attempt.attempt_id] = _give_attempt(attempt)
            self._books.order[account.account_id, attempt.attempt_id] = None
            if attempt.state is AttemptState.OPEN:
                books.lanes[attempt.direction].open_id = attempt.attempt_id
        books.lanes[Direction.INCOMING].released = list(account.released)
        for entry in entries:
            seq = self._books.last_seq = self._books.last_seq + 1
            lane = books.lanes[entry.direction]
            books.entries[seq] = replace(entry, seq=seq)
            if entry.kind is EntryKind.REQUEST:
                lane.keys[entry.entry_id] = seq
            if entry.attempt_id is None:
                lane.queue[seq] = None
            else:
                books.claimed.setdefault(entry.attempt_id, []).append(seq)
        self._books.accounts[account.account_id] = books

    def import_known(self, known: Iterable[KnownSettlement]) -> None:
        """Take over settlement ids; see `settlement_core.abc.ImportingStore`."""
        for one in known:
            self._books.accounts[one.account_id].known[one.digest] = one.mark

    def export_known(self) -> Iterator[KnownSettlement]:
        """Yield all settlement ids whose credits have left the history; see `settlement_core.abc.ImportingStore`."""
        for account in self._books.accounts.values():
            for digest, mark in account.known.items():
                yield KnownSettlement(account.account_id, digest, mark)

    def close(self) -> None:
        """Do nothing: what is only in memory needs no giving back."""

    def _answer(self, command: c.Command[Any]) -> c.Result:
        kind = type(command)
        try:
            copied = checked(command)
        except LocalError as refusal:
            return refusal.with_traceback(None)
        result = self._books.apply([copied])[0]
        return _WAYS_OUT.get(kind, _unchanged)(result)


def create_memory_store() -> MemoryStore:
    """Return an empty store."""
    return MemoryStore()


def _unchanged(value: T) -> T:
    return value


def _copy(value: object) -> Any:
    return thaw(freeze(value, "the value"))


def _give_claim(result: c.Result) -> c.Result:
    return replace(result, attempt=_give_attempt(result.attempt)) if isinstance(result, c.Claimed) else result


def _give_attempts(attempts: list[Attempt]) -> list[Attempt]:
    return [_give_attempt(attempt) for attempt in attempts]


def _give_attempt(attempt: Attempt) -> Attempt:
    if attempt.payment is None:
        return attempt
    return replace(attempt, payment=Payment(attempt.payment.amount, _copy(attempt.payment.reference)))


def _give_suspense(items: list[SuspenseItem]) -> list[SuspenseItem]:
    return [replace(item, details=_copy(item.details)) for item in items]


def _give_values(values: list[EngineValue]) -> list[EngineValue]:
    return [replace(value, value=_copy(value.value)) for value in values]


_WAYS_OUT: dict[type, Callable[[Any], c.Result]] = {
    c.Claim: _give_claim,
    c.Get: _copy,
    c.History: _give_attempts,
    c.Suspense: _give_suspense,
    c.Values: _give_values,
}

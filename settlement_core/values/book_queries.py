"""What the reference interpreter answers to queries: they change nothing."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.books import AccountBooks
from settlement_core.values.records import AccountOverview, Attempt, Direction, EngineValue, Entry, SuspenseItem

if TYPE_CHECKING:
    from settlement_core.values.reference import Books

__all__ = ["due", "entries", "history", "knows_settlement", "overview", "suspense", "values"]


def values(books: Books, command: c.Values) -> list[EngineValue]:
    """Return one page of the engine's values."""
    keys = (key for key in books.notes if command.after is None or key > command.after)
    chosen = heapq.nsmallest(command.limit, keys)
    return [EngineValue(account_id=key[0], key=key[1], value=books.notes[key]) for key in chosen]


def overview(books: Books, command: c.Overview) -> list[AccountOverview]:
    """Return one page of accounts, or one account."""
    if command.account_id is not None:
        found = books.accounts.get(command.account_id)
        return [] if found is None else [_overview(found)]
    ids = heapq.nsmallest(command.limit, (a for a in books.accounts if a > command.after))
    return [_overview(books.accounts[account_id]) for account_id in ids]


def due(books: Books, command: c.Due) -> list[str]:
    """Return one page of accounts with something to do."""
    waiting = (a for a, account in books.accounts.items() if a > command.after and account.is_due(command.direction))
    return heapq.nsmallest(command.limit, waiting)


def history(books: Books, command: c.History) -> list[Attempt]:
    """Return one page of attempts."""
    found: list[Attempt] = []
    waiting = command.after is not None
    for account_id, attempt_id in reversed(books.order) if command.newest else books.order:
        if len(found) == command.limit:
            break
        if waiting:
            waiting = attempt_id != command.after
            continue
        attempt = books.accounts[account_id].attempts[attempt_id]
        if command.account_id not in {None, account_id}:
            continue
        if command.states and attempt.state not in command.states:
            continue
        found.append(attempt)
    return found


def entries(books: Books, command: c.Entries) -> list[Entry]:
    """Return one page of the entries of one direction of an account."""
    account = books.accounts.get(command.account_id)
    if account is None:
        return []
    wanted = (e for e in account.entries.values() if e.direction is command.direction and e.seq > command.after)
    return heapq.nsmallest(command.limit, wanted, key=lambda entry: entry.seq)


def suspense(books: Books, command: c.Suspense) -> list[SuspenseItem]:
    """Return one page of money whose owner is, or was, unknown."""
    items = (
        item
        for item in books.suspense.values()
        if item.settlement_id > command.after and (command.assigned or item.waiting)
    )
    return heapq.nsmallest(command.limit, items, key=lambda item: item.settlement_id)


def knows_settlement(books: Books, command: c.KnowsSettlement) -> bool:
    """Tell whether the account was ever credited under this id."""
    account = books.accounts.get(command.account_id)
    if account is None:
        return False
    keys = account.lanes[Direction.INCOMING].keys
    return command.settlement_id in keys or account.knows(command.settlement_id)


def _overview(account: AccountBooks) -> AccountOverview:
    return AccountOverview(
        account_id=account.account_id,
        state=account.state,
        steps=decisions.pending_steps(set_up=account.set_up, tear_down=account.tear_down),
        released=tuple(account.lanes[Direction.INCOMING].released),
        pausing=account.pausing,
        outgoing=account.lanes[Direction.OUTGOING].totals,
        incoming=account.lanes[Direction.INCOMING].totals,
    )

"""What waits in the store, counted within bounds: a look at it costs about the same however much waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias, TypeVar

from settlement_core.auditing.troubles import troubles_of_account, troubles_of_attempt, troubles_of_item
from settlement_core.auditing.verdict import Trouble
from settlement_core.core.core import Core
from settlement_core.values.amounts import ZERO, add
from settlement_core.values.commands import Command, Due, History, Overview, Suspense
from settlement_core.values.records import AccountOverview, Attempt, AttemptState, Direction, SuspenseItem

__all__ = ["MAX_COUNTED", "Lot", "StoreFigures", "look_at_store", "look_at_waiting"]

T = TypeVar("T")
Kind: TypeAlias = tuple[Direction, AttemptState]

MAX_COUNTED: Final = 5000
"""Of attempts, of accounts and of unattributed settlements each. Oldest attempts come first, so what is left out is
younger than all that is counted."""

_PAGE: Final = 100
"""Records asked for at once: requests wait for the store beside us."""

_KINDS: Final[tuple[Kind, ...]] = (
    (Direction.OUTGOING, AttemptState.OPEN),
    (Direction.OUTGOING, AttemptState.IN_DOUBT),
    (Direction.INCOMING, AttemptState.OPEN),
    (Direction.INCOMING, AttemptState.HELD),
    (Direction.INCOMING, AttemptState.RELEASED),
)


@dataclass(slots=True)
class Lot:
    """How many there are, how much they are about, and since when the oldest waits (seconds since 1970)."""

    count: int = 0
    amount: Decimal = ZERO
    since: float | None = None

    def include(self, amount: Decimal, since: float) -> None:
        """Count one more."""
        self.count += 1
        self.amount = add(self.amount, amount)
        self.since = since if self.since is None else min(self.since, since)


@dataclass(slots=True, kw_only=True)
class StoreFigures:
    """What waits, of everything in the store, whichever workers share it.

    Attributes:
        taken_at: when counting began, in seconds since 1970.
        complete: False if there may be more than is counted.
        unclosed: attempts that are not closed.
        queued: not claimed yet, of accounts with something to do.
        suspense: money whose owner nobody can tell.
        troubles: what of all this waits for an operator.
    """

    taken_at: float
    complete: bool = True
    unclosed: Mapping[Kind, Lot] = field(default_factory=lambda: {kind: Lot() for kind in _KINDS})
    due_accounts: int = 0
    queued: dict[Direction, Decimal] = field(default_factory=lambda: dict.fromkeys(Direction, ZERO))
    suspense: Lot = field(default_factory=Lot)
    troubles: list[Trouble] = field(default_factory=list)

    def add_queued(self, account: AccountOverview) -> None:
        """Add what an account has queued."""
        for direction, totals in ((Direction.OUTGOING, account.outgoing), (Direction.INCOMING, account.incoming)):
            self.queued[direction] = add(self.queued[direction], totals.queued)
        self.troubles += troubles_of_account(account)


async def look_at_store(core: Core, now: float) -> StoreFigures:
    """Return what waits. Raises as `Core.ask`: no figures at all are better than half of them."""
    figures, due = await look_at_waiting(core, now, Due(limit=_PAGE))
    await _look_at_queues(core, figures, due)
    return figures


async def look_at_waiting(core: Core, now: float, beside: Command[T]) -> tuple[StoreFigures, T]:
    """Return what waits for its end or for a person, without what is queued, and the answer to another query.

    The first page of each is read in one moment, so that figures that are put side by side agree unless there are more.
    Raises as `Core.ask`.
    """
    figures = StoreFigures(taken_at=now)
    attempts, items, answer = await core.ask_together([_attempts_after(None), _items_after(None), beside])
    for attempt in await _first(attempts, lambda last: core.ask(_attempts_after(last)), figures):
        figures.unclosed[attempt.direction, attempt.state].include(attempt.amount, attempt.claimed_at)
        figures.troubles += troubles_of_attempt(attempt)
    for item in await _first(items, lambda last: core.ask(_items_after(last)), figures):
        figures.suspense.include(item.amount, item.reported_at)
        figures.troubles += troubles_of_item(item)
    return figures, answer


def _attempts_after(last: Attempt | None) -> History:
    # all states at once: a store finds those of one state by looking at all that are not closed
    states = frozenset(state for _, state in _KINDS)
    after, owner = (None, None) if last is None else (last.attempt_id, last.account_id)
    return History(states=states, after=after, after_account=owner, limit=_PAGE)


def _items_after(last: SuspenseItem | None) -> Suspense:
    return Suspense(after="" if last is None else last.settlement_id, limit=_PAGE)


async def _look_at_queues(core: Core, figures: StoreFigures, page: list[str]) -> None:
    due = await _first(page, lambda last: core.ask(Due(after=last, limit=_PAGE)), figures)
    figures.due_accounts = len(due)
    for start in range(0, len(due), _PAGE):
        page = due[start : start + _PAGE]
        for found in await core.ask_together([Overview(account_id=account_id) for account_id in page]):
            for account in found:
                figures.add_queued(account)


async def _first(page: list[T], ask: Callable[[T], Awaitable[list[T]]], figures: StoreFigures) -> list[T]:
    """Return the records of the first pages, `MAX_COUNTED` at most; if there are more, say so in the figures."""
    found = list(page)
    while len(page) == _PAGE and len(found) < MAX_COUNTED:
        page = await ask(found[-1])
        found += page
    if len(page) == _PAGE:
        figures.complete = False
    return found

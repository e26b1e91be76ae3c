"""Is my money all right? What the operator's first look needs, of everything in the store, exactly and in one answer.

The sums are those of the audit. Each account is looked at in one instant, so that what is entered is accounted for in
every sum, while money moves. So are what waits and the sums of all accounts, unless there are more than a page of them,
and what is at work is told of the same look.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

import anyio

from settlement_core.core.core import Core
from settlement_core.core.lane import LaneStatus
from settlement_core.http import views
from settlement_core.http._figures import Lot, StoreFigures, look_at_waiting
from settlement_core.values.amounts import add, total
from settlement_core.values.commands import Overview
from settlement_core.values.records import AccountOverview, AttemptState, Direction, Totals

__all__ = ["Summaries"]

_PAGE: Final = 500
"""Accounts asked for at once: requests wait for the store beside us."""

_NAMED: Final = 50
"""Accounts that are named where all are counted."""

_REST: Final = 4
"""How many times as long as a look took, what it found counts: then looking is never most of what a store does."""


class Summaries:
    """Looks once for all who ask at the same time. `now` is the wall clock that durable times come from."""

    def __init__(self, core: Core, *, now: Callable[[], float] = time.time) -> None:
        self._core = core
        self._now = now
        self._lock = anyio.Lock()
        self._found: dict[str, Any] = {}
        self._good_until = -math.inf

    async def look(self) -> dict[str, Any]:
        """Return the figures of the store as JSON values. Raises as `Core.ask`."""
        async with self._lock:
            if anyio.current_time() >= self._good_until:
                began = anyio.current_time()
                at = self._now()
                figures, page = await look_at_waiting(self._core, at, Overview(limit=_PAGE))
                accounts = await _sum_up(self._core, page)
                self._found = {"at": at, **accounts.to_json(), **_waiting_view(figures), **_work_view(self._core)}
                self._good_until = began + (1 + _REST) * (anyio.current_time() - began)
            return self._found


class _Accounts:
    """Sums over all accounts, and those of which something is to be said."""

    def __init__(self) -> None:
        self.count = 0
        self.deleted = 0
        self.paused: list[str] = []
        self.unbalanced: list[str] = []
        self.sums = {direction: Totals() for direction in Direction}

    def include(self, account: AccountOverview) -> None:
        self.count += 1
        self.deleted += account.state.value == "deleted"
        if account.paused:
            self.paused.append(account.account_id)
        balanced = True
        for direction, totals in ((Direction.OUTGOING, account.outgoing), (Direction.INCOMING, account.incoming)):
            balanced &= totals.entered == total([totals.queued, totals.open, totals.settled, totals.parked])
            self.sums[direction] = _added(self.sums[direction], totals)
        if not balanced:
            self.unbalanced.append(account.account_id)

    def to_json(self) -> dict[str, Any]:
        return {
            "accounts": self.count,
            "deleted": self.deleted,
            "paused": {"count": len(self.paused), "accounts": self.paused[:_NAMED]},
            "unbalanced": {"count": len(self.unbalanced), "accounts": self.unbalanced[:_NAMED]},
            "outgoing": views.totals_view(self.sums[Direction.OUTGOING], parked="in_doubt"),
            "incoming": views.totals_view(self.sums[Direction.INCOMING], parked="held"),
        }


def _added(sums: Totals, totals: Totals) -> Totals:
    return Totals(**{part.name: add(getattr(sums, part.name), getattr(totals, part.name)) for part in fields(Totals)})


async def _sum_up(core: Core, page: list[AccountOverview]) -> _Accounts:
    """Return the sums over all accounts, of which this is the first page."""
    accounts = _Accounts()
    while page:
        for account in page:
            accounts.include(account)
        page = await core.ask(Overview(after=page[-1].account_id, limit=_PAGE)) if len(page) == _PAGE else []
    return accounts


def _waiting_view(figures: StoreFigures) -> dict[str, Any]:
    unclosed = figures.unclosed
    return {
        "waiting": {
            "in_doubt": _lot_view(unclosed[Direction.OUTGOING, AttemptState.IN_DOUBT]),
            "held": _lot_view(unclosed[Direction.INCOMING, AttemptState.HELD]),
            "unattributed": _lot_view(figures.suspense),
        },
        "under_way": {
            "outgoing": _lot_view(unclosed[Direction.OUTGOING, AttemptState.OPEN]),
            "incoming": _lot_view(unclosed[Direction.INCOMING, AttemptState.OPEN]),
            "released": _lot_view(unclosed[Direction.INCOMING, AttemptState.RELEASED]),
        },
        "complete": figures.complete,
    }


def _lot_view(lot: Lot) -> dict[str, Any]:
    return {"count": lot.count, "amount": f"{lot.amount:f}", "since": lot.since}


def _work_view(core: Core) -> dict[str, Any]:
    """Return what this process is at, which costs nothing to tell."""
    known = core.statistics()
    retrying = sorted((lane for lane in core.lanes() if lane.failures), key=_when_next)
    halted = [[*name.rsplit(" ", 1), reason] for name, reason in known.halted.items()]
    return {
        "halted": [
            {"account": account, "direction": direction, "reason": reason}
            for account, direction, reason in halted[:_NAMED]
        ],
        "retrying": {"count": len(retrying), "lanes": [views.lane_view(lane) for lane in retrying[:_NAMED]]},
        "server": {
            "engine": known.engine,
            "asset": known.asset,
            "verifiable": known.verifiable,
            "recovered": known.recovered,
            "stopping": known.stopping,
            "worker": known.worker,
            "partitions": known.partitions,
            "partitions_held": known.partitions_held,
            "clock_jumped_s": known.clock_jumped_s,
            "active_lanes": known.active_lanes,
            "halted": len(halted),
            "store_failures": known.journal.failures,
        },
    }


def _when_next(lane: LaneStatus) -> float:
    return math.inf if lane.next_try_in_s is None else lane.next_try_in_s

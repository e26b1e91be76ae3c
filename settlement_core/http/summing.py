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
from itertools import chain
from typing import Any, Final

import anyio

from settlement_core.auditing.audit import AuditReport
from settlement_core.auditing.troubles import is_balanced, troubles_of_account, troubles_of_problems
from settlement_core.auditing.verdict import Grade, Kind, Trouble, Verdict, judge
from settlement_core.core.core import Core
from settlement_core.core.lane import LaneStatus
from settlement_core.http import views
from settlement_core.http._figures import Lot, StoreFigures, look_at_waiting
from settlement_core.http.judging import troubles_of_core, troubles_of_engine
from settlement_core.values.amounts import add
from settlement_core.values.commands import Overview
from settlement_core.values.errors import SettlementError
from settlement_core.values.records import AccountOverview, AttemptState, Direction, Totals

__all__ = ["Summaries"]

_PAGE: Final = 500
"""Accounts asked for at once: requests wait for the store beside us."""

_NAMED: Final = 50
"""Accounts that are named where all are counted."""

_REST: Final = 4
"""How many times as long as a look took, what it found counts: then looking is never most of what a store does."""


class Summaries:
    """Looks once for all who ask at the same time. `now` is the wall clock that durable times come from.

    A server's verdict is made here, and nowhere else.
    """

    def __init__(self, core: Core, *, now: Callable[[], float] = time.time) -> None:
        self._core = core
        self._now = now
        self._lock = anyio.Lock()
        self._found: dict[str, Any] = {}
        self._accounts = 0
        self._troubles: list[Trouble] | None = None
        self._unbalanced: list[Trouble] = []
        self._audited: list[Trouble] = []
        self._status: dict[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._good_until = -math.inf

    async def look(self) -> dict[str, Any]:
        """Return the figures of the store and the verdict as JSON values.

        While the store does not answer, the figures are those of the latest look, and the verdict says so. Raises as
        `Core.ask` if there was none.
        """
        async with self._lock:
            if anyio.current_time() >= self._good_until:
                began = anyio.current_time()
                took_s = await self._look_anew()
                judging = anyio.current_time()
                self._told = {**self._found, **_work_view(self._core), "verdict": self._judge().to_json()}
                # of many thousands of accounts that fail, judging takes its time, too
                took_s += anyio.current_time() - judging
                self._good_until = began + (1 + _REST) * took_s
            return self._told

    def take(self, figures: StoreFigures, status: dict[str, Any]) -> None:
        """Take note of a look at what waits, and at the accounts with something to do, that somebody else had."""
        self._troubles = figures.troubles
        self._status = status

    def verdict(self) -> Verdict | None:
        """Return the verdict on the latest look and on what the core knows now; None if nobody can know."""
        verdict = self._judge()
        return None if self._troubles is None and verdict.grade is Grade.GOOD else verdict

    def audited(self, report: AuditReport) -> None:
        """Take note of an audit: what it found counts until the next one."""
        self._audited = list(troubles_of_problems(report.problems))
        self._good_until = -math.inf

    async def _look_anew(self) -> float:
        """Ask store and engine together; return how long the store took, in seconds."""
        problem: SettlementError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._ask_engine, name="status of the engine")
            began = anyio.current_time()
            try:
                await self._look_at_store()
            except SettlementError as error:
                problem = error
            took_s = anyio.current_time() - began
        if problem is not None and not self._found:
            raise problem
        return took_s

    async def _look_at_store(self) -> None:
        if self._found and self._core.condition().store_error:
            return  # which would have us wait in vain
        at = self._now()
        figures, page = await look_at_waiting(self._core, at, Overview(limit=_PAGE))
        accounts = await _sum_up(self._core, page)
        self._found = {"at": at, **accounts.to_json(), **_waiting_view(figures)}
        self._accounts = accounts.count
        self._troubles = [*accounts.troubles, *figures.troubles]
        self._unbalanced = [Trouble(kind=Kind.BOOKS, account_id=name) for name in accounts.unbalanced]

    async def _ask_engine(self) -> None:
        self._status = await self._core.engine_status()

    def _judge(self) -> Verdict:
        now = self._now()
        known = chain(
            self._troubles or (),
            self._unbalanced,
            self._audited,
            troubles_of_core(self._core.condition(), now=now),
            troubles_of_engine(self._status),
        )
        return judge(known, at=now, accounts=self._accounts)


class _Accounts:
    """Sums over all accounts, and those of which something is to be said."""

    def __init__(self) -> None:
        self.count = 0
        self.deleted = 0
        self.paused: list[str] = []
        self.unbalanced: list[str] = []
        self.troubles: list[Trouble] = []
        self.sums = {direction: Totals() for direction in Direction}

    def include(self, account: AccountOverview) -> None:
        self.count += 1
        self.deleted += account.state.value == "deleted"
        if account.paused:
            self.paused.append(account.account_id)
        for direction, totals in ((Direction.OUTGOING, account.outgoing), (Direction.INCOMING, account.incoming)):
            self.sums[direction] = _added(self.sums[direction], totals)
        if not (is_balanced(account.outgoing) and is_balanced(account.incoming)):
            self.unbalanced.append(account.account_id)
        self.troubles += troubles_of_account(account)

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
    halted = core.condition().halted
    return {
        "halted": [
            {
                "account": halt.account_id,
                "direction": halt.direction.value,
                "reason": halt.reason,
                "attempt": halt.attempt_id,
            }
            for halt in halted[:_NAMED]
        ],
        "retrying": {"count": len(retrying), "lanes": [views.lane_view(lane) for lane in retrying[:_NAMED]]},
        "server": {
            "engine": known.engine,
            "asset": known.asset,
            "store": core.store_name,
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

"""What is long over leaves the store: idempotency keys that nobody used for days, then the attempts they went into.

What must be known for ever stays: the sums, and the settlement ids.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NoReturn

import anyio
import anyio.to_thread

from settlement_core.core.clock import TICK_S
from settlement_core.core.context import Context
from settlement_core.values.commands import History, Prune, Retire
from settlement_core.values.errors import LeaseLost
from settlement_core.values.events import ArchiveFailed, HistoryRetired
from settlement_core.values.records import Attempt, AttemptState, Direction

__all__ = ["run_upkeep"]

PAGE = 200
"""Attempts that leave together: the store's other work goes on between two pages."""


async def run_upkeep(context: Context) -> NoReturn:
    """Tick, and have the store forget what is old enough, for ever."""
    while True:
        await anyio.sleep(TICK_S)
        ticked = await context.clock.tick()
        if ticked.unused_before is not None:
            # RFC 38, "Handling idempotent requests"
            while await context.journal.ask(Prune(before=ticked.unused_before)):
                pass
        if ticked.ended_before is not None:
            await _retire_history(context, ticked.ended_before)


async def _retire_history(context: Context, before: float) -> None:
    """Have the attempts of our accounts that ended before then leave the history."""
    retired = 0
    try:
        for partition, lease in dict(context.sharing.held).items():
            retired += await _retire_partition(context, partition, lease, before)
    except OSError as problem:
        context.observe(ArchiveFailed(problem=str(problem)))
    if retired:
        context.observe(HistoryRetired(attempts=retired))


async def _retire_partition(context: Context, partition: int, lease: str, before: float) -> int:
    retired = 0
    after: Attempt | None = None
    while True:
        page = await context.journal.ask(
            History(
                partition=partition,
                after=None if after is None else after.attempt_id,
                after_account=None if after is None else after.account_id,
                limit=PAGE,
            )
        )
        over = [attempt for attempt in page if _is_over(attempt, before)]
        try:
            gone = await _retire(context, lease, over, before)
        except LeaseLost:
            # another worker looks after these accounts now
            return retired
        retired += len(gone)
        stayed = [attempt for attempt in page if attempt.attempt_id not in gone]
        after = stayed[-1] if stayed else after
        # nothing ends before it is claimed
        if len(page) < PAGE or page[-1].claimed_at >= before:
            return retired


def _is_over(attempt: Attempt, before: float) -> bool:
    # what cannot leave yet is not archived, every hour anew
    may_leave = attempt.pruned or attempt.direction is Direction.INCOMING
    closed = attempt.state is AttemptState.CLOSED and attempt.closed_at is not None
    return may_leave and closed and (attempt.closed_at or 0.0) < before


async def _retire(context: Context, lease: str, attempts: list[Attempt], before: float) -> set[str]:
    """Have attempts leave the history; return the ids of those that left."""
    archive = context.config.archive
    if archive is not None and attempts:
        await anyio.to_thread.run_sync(archive, attempts)
    by_account: defaultdict[str, list[str]] = defaultdict(list)
    for attempt in attempts:
        by_account[attempt.account_id].append(attempt.attempt_id)
    gone: set[str] = set()
    for account_id, ids in by_account.items():
        command = Retire(account_id=account_id, attempt_ids=tuple(ids), before=before, lease=lease)
        gone.update(await context.journal.ask(command))
    return gone

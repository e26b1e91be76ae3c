"""Owns the lanes' tasks: starts them on demand, lets them end when idle, and keeps one's failure its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio
from anyio.abc import TaskGroup

from settlement_core.core.context import Context
from settlement_core.core.effects import describe
from settlement_core.core.incoming import IncomingLane
from settlement_core.core.lane import Lane, LaneStatus
from settlement_core.core.outgoing import OutgoingLane
from settlement_core.values.commands import Due, Entered, Prune
from settlement_core.values.errors import InvariantError, JournalEnded, UnknownAccount
from settlement_core.values.events import AccountHalted, CoreStopped, RecoveryFinished
from settlement_core.values.records import Direction

__all__ = ["Supervisor"]

logger = logging.getLogger("settlement_core")

_LANES: dict[Direction, type[Lane]] = {Direction.OUTGOING: OutgoingLane, Direction.INCOMING: IncomingLane}

RECOVERING_AT_ONCE = 500
"""Accounts looked at together after a start: enough to fill the journal's batches, few enough that requests get in."""

PRUNE_EVERY_S = 3600.0
"""Keys are kept at least a day, so an hour more does not matter."""


class Supervisor:
    """All lanes at work. Rings before `start` and after `stop` do nothing: the store has what they announce."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._tasks: TaskGroup | None = None
        self._lanes: dict[tuple[str, Direction], Lane] = {}
        self._halted: dict[tuple[str, Direction], str] = {}
        self._recovering: set[object] = set()
        self._admission = anyio.Semaphore(RECOVERING_AT_ONCE)
        self._ended = anyio.Event()
        self.recovered = False

    def start(self, tasks: TaskGroup, context: Context) -> None:
        """Take up work in this task group, first of all what an earlier run left."""
        self._context, self._tasks = context, tasks
        context.at_rest = self._admit_next
        tasks.start_soon(self._recover, context, name="recovery")
        tasks.start_soon(self._prune, context, name="pruning")

    async def stop(self, deadline_s: float) -> None:
        """Claim nothing more, let effects in flight end until the deadline, then cut them.

        What is cut stays open in the store, and is looked at, at the next start.
        """
        assert self._context is not None
        assert self._tasks is not None
        self._context.stopping = True
        for lane in self._lanes.values():
            lane.nudge()
        if self._lanes:
            with anyio.move_on_after(deadline_s):
                await self._ended.wait()
        self._context.observe(CoreStopped(unfinished=len(self._lanes)))
        self._tasks.cancel_scope.cancel()

    def end(self) -> None:
        """Start nothing more: the journal, which outlives us, may still ring while it drains."""
        self._tasks = None

    def ring(self, account_id: str, direction: Direction, entered: Entered, number: int) -> None:
        """An amount was entered for this direction of the account, by the journal's command of this number.

        A replay rings too: the first time may have been a batch whose answer was lost.
        """
        lane = self._lanes.get((account_id, direction))
        if lane is not None:
            lane.ring(number, wake=not entered.replay)
        else:
            self._start_lane(account_id, direction)

    def nudge(self, account_id: str, directions: Iterable[Direction] = Direction) -> None:
        """Have the account try again now, whatever it waits for."""
        for direction in directions:
            lane = self._lanes.get((account_id, direction))
            if lane is not None:
                lane.nudge()
            else:
                self._start_lane(account_id, direction)

    def lanes(self) -> list[LaneStatus]:
        """Return a snapshot of every lane at work."""
        return [lane.status() for lane in self._lanes.values()]

    def active(self) -> int:
        """Return how many lanes have a task."""
        return len(self._lanes)

    def halted(self) -> dict[tuple[str, Direction], str]:
        """Return the lanes that stopped because an invariant broke, and why."""
        return dict(self._halted)

    def _start_lane(self, account_id: str, direction: Direction) -> Lane | None:
        key = (account_id, direction)
        if self._tasks is None or self._context is None or self._context.stopping or key in self._halted:
            return None
        lane = self._lanes[key] = _LANES[direction](account_id, self._context)
        self._tasks.start_soon(self._run_lane, lane, name=f"{account_id} {direction}")
        return lane

    async def _run_lane(self, lane: Lane) -> None:
        key = (lane.account_id, lane.direction)
        assert self._context is not None
        try:
            await lane.run()
        except JournalEnded:
            pass  # the journal says itself why; what was under way stays open in the store
        except UnknownAccount:
            pass  # rung for an account that was never opened: there is nothing to do, and nothing is wrong
        except Exception as error:
            self._halted[key] = describe(error)
            if not isinstance(error, InvariantError):
                logger.exception("lane %r ended in a way we did not foresee", lane)
            self._context.observe(
                AccountHalted(account_id=lane.account_id, direction=lane.direction, reason=describe(error))
            )
        finally:
            # no await since the lane last looked for work, so no ring is lost
            del self._lanes[key]
            self._admit_next(lane)
            if self._context.stopping and not self._lanes:
                self._ended.set()

    # background work

    async def _recover(self, context: Context) -> None:
        """Start a task for every account with unfinished work, a bounded number at a time, while we already serve."""
        found, after = 0, ""
        while not context.stopping:
            page = await context.journal.ask(Due(after=after))
            for account_id in page:
                for direction in Direction:
                    await self._admission.acquire()
                    lane = None
                    if (account_id, direction) not in self._lanes:
                        lane = self._start_lane(account_id, direction)
                    if lane is None:
                        self._admission.release()
                    else:
                        self._recovering.add(lane)
            found += len(page)
            if not page:
                break
            after = page[-1]
        self.recovered = True
        context.observe(RecoveryFinished(accounts=found))

    def _admit_next(self, lane: object) -> None:
        """Let recovery start another lane in place of one that has ended, or waits."""
        if lane in self._recovering:
            self._recovering.discard(lane)
            self._admission.release()

    async def _prune(self, context: Context) -> None:
        """Forget idempotency keys that nobody has used for long enough (RFC 38, "Handling idempotent requests")."""
        while True:
            await anyio.sleep(PRUNE_EVERY_S)
            before = context.now() - context.config.key_retention_s
            while await context.journal.ask(Prune(before=before)):
                pass

"""Owns the lanes' tasks: starts them on demand, lets them end when idle, and keeps one's failure its own.

Lanes work only on accounts that this worker holds a lease on, each under the lease it was started with.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from settlement_core.abc import Store
from settlement_core.core.admission import Admission
from settlement_core.core.condition import Condition, HaltedLane
from settlement_core.core.context import Context
from settlement_core.core.effects import describe
from settlement_core.core.incoming import IncomingLane
from settlement_core.core.lane import Lane, LaneStatus
from settlement_core.core.outgoing import OutgoingLane
from settlement_core.core.sharing import Change
from settlement_core.core.status import watch_alarm
from settlement_core.core.upkeep import run_upkeep
from settlement_core.values.assets import keep_label
from settlement_core.values.commands import Due, Entered, Nudge, Ring
from settlement_core.values.errors import InvariantError, JournalEnded, LeaseLost, UnknownAccount
from settlement_core.values.events import AccountHalted, CoreStopped, LeaseGone, PartitionsChanged, RecoveryFinished
from settlement_core.values.records import Direction

__all__ = ["Supervisor"]

logger = logging.getLogger("settlement_core")

_LANES: dict[Direction, type[Lane]] = {Direction.OUTGOING: OutgoingLane, Direction.INCOMING: IncomingLane}

LOOK_S = 30.0
"""How often a worker looks for what is due in a store that it shares: a failover may lose any wake-up."""


@dataclass(frozen=True, slots=True)
class _Halt:
    reason: str
    attempt_id: str
    at: float


class Supervisor:
    """All lanes at work. Rings before `start` and after `stop` do nothing: the store has what they announce."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._tasks: TaskGroup | None = None
        self._lanes: dict[tuple[str, Direction], Lane] = {}
        self._halted: dict[tuple[str, Direction], _Halt] = {}
        self._admissions = {direction: Admission() for direction in Direction}
        self._ended = anyio.Event()
        self._began = False
        self.recovered = False

    def start(self, tasks: TaskGroup, context: Context, store: Store) -> None:
        """Take up work in this task group, first of all what an earlier run, or another worker, left."""
        self._context, self._tasks = context, tasks
        if context.engine.asset:
            context.journal.submit(keep_label(context.engine.asset))
        context.at_rest = self._admit_next
        for direction, outage in context.outages.items():
            tasks.start_soon(outage.run, name=f"early tries of {direction}")
        # asked right here: what is rung for by later commands is ours, or not, by the time it is rung for
        first = context.sharing.ask(self._change)
        tasks.start_soon(context.sharing.run, first, self._change, store, name="sharing")
        tasks.start_soon(run_upkeep, context, name="upkeep")
        if context.engine.status is not None:
            tasks.start_soon(watch_alarm, context, name="alarm of the engine")
        tasks.start_soon(self._look_for_due, context, name="looking for what is due")

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
        self._wake(account_id, direction, number, hurry=not entered.replay)

    def nudge(self, account_id: str, directions: Iterable[Direction] = Direction) -> None:
        """Have the account try again now, whatever it waits for, and whichever worker looks after it."""
        if self._tasks is None or self._context is None:
            return
        if self._context.sharing.token(account_id) is None:
            self._context.journal.submit(Nudge(account_id=account_id))
            return
        for direction in directions:
            lane = self._lanes.get((account_id, direction))
            if lane is not None:
                lane.nudge()
            else:
                self._start_lane(account_id, direction)

    def wake_due(self) -> None:
        """Start whatever is due: what kept it from being begun is over."""
        if self._tasks is not None and self._context is not None:
            self._tasks.start_soon(self._recover, self._context, dict(self._context.sharing.held), name="recovery")

    def lanes(self) -> list[LaneStatus]:
        """Return a snapshot of every lane at work."""
        return [lane.status() for lane in self._lanes.values()]

    def active(self) -> int:
        """Return how many lanes have a task."""
        return len(self._lanes)

    def halted(self) -> dict[tuple[str, Direction], str]:
        """Return the lanes that stopped because an invariant broke, and why."""
        return {key: halt.reason for key, halt in self._halted.items()}

    def resume(self, account_id: str) -> list[Direction]:
        """Take up what halted in the account, as the next start would; return which directions that were.

        An attempt that is open there is looked up, or in doubt where the engine cannot look it up.
        """
        resumed = [direction for direction in Direction if (account_id, direction) in self._halted]
        for direction in resumed:
            halt = self._halted.pop((account_id, direction))
            lane = self._start_lane(account_id, direction)
            if lane is not None:
                lane.halted_before = halt.reason
        return resumed

    def condition(self) -> Condition:
        """Return whether money gets on."""
        assert self._context is not None
        context, now = self._context, anyio.current_time()
        return Condition(
            lanes=[lane.condition() for lane in self._lanes.values()],
            halted=[
                HaltedLane(
                    account_id=account_id,
                    direction=direction,
                    reason=halt.reason,
                    attempt_id=halt.attempt_id,
                    halted_for_s=now - halt.at,
                )
                for (account_id, direction), halt in self._halted.items()
            ],
            connector_silent=context.connector_silent,
            store_error=context.journal.error,
            clock_jumped_s=context.clock.jumped_s,
            clock_jumped_ago_s=context.clock.jumped_ago_s,
            excesses=list(context.excesses),
        )

    def _wake(self, account_id: str, direction: Direction, number: int, *, hurry: bool) -> None:
        lane = self._lanes.get((account_id, direction))
        if lane is not None:
            lane.ring(number, wake=hurry)
        else:
            self._start_lane(account_id, direction)

    def _start_lane(self, account_id: str, direction: Direction) -> Lane | None:
        """Start it unless the account is not ours, or will not be: whoever gets it looks at all that is due."""
        key = (account_id, direction)
        if self._tasks is None or self._context is None or self._context.stopping or key in self._halted:
            return None
        sharing = self._context.sharing
        lease = sharing.token(account_id)
        if lease is None or sharing.is_yielding(sharing.partition(account_id)):
            return None
        lane = self._lanes[key] = _LANES[direction](account_id, self._context, lease=lease)
        sharing.enter(lane.partition)
        lane.task = self._tasks.start_soon(self._run_lane, lane, name=f"{account_id} {direction}")
        return lane

    async def _run_lane(self, lane: Lane) -> None:
        key = (lane.account_id, lane.direction)
        assert self._context is not None
        try:
            await self._run_while_held(lane)
        except JournalEnded:
            pass  # the journal says itself why; what was under way stays open in the store
        except UnknownAccount:
            pass  # rung for an account that was never opened: there is nothing to do, and nothing is wrong
        except Exception as error:
            if not lane.was_cut:
                self._halted[key] = _Halt(describe(error), lane.attempt_id, anyio.current_time())
            if not isinstance(error, InvariantError):
                logger.exception("lane %r ended in a way we did not foresee", lane)
            self._context.observe(
                AccountHalted(
                    account_id=lane.account_id,
                    direction=lane.direction,
                    reason=describe(error),
                    attempt_id=lane.attempt_id,
                )
            )
        finally:
            # no await since the lane last looked for work, so no ring is lost
            del self._lanes[key]
            self._context.sharing.leave(lane.partition)
            self._admit_next(lane)
            self._context.outages[lane.direction].leave(lane)
            if lane.was_cut:
                # the account may be ours again meanwhile, under another lease, and was rung for in vain
                self._start_lane(*key)
            if self._context.stopping and not self._lanes:
                self._ended.set()

    async def _run_while_held(self, lane: Lane) -> None:
        assert self._context is not None
        try:
            await lane.run()
        except LeaseLost:
            # not only this lane's: the others of the partition need not find out one by one
            if self._context.sharing.drop(lane.partition, lane.lease):
                self._observe_partitions(self._context, gained=0, lost=1)
                self._lose({lane.partition})

    # what sharing the store brings

    def _change(self, change: Change) -> None:
        """Do what follows from a round of sharing."""
        if self._tasks is None or self._context is None:
            return
        context, sharing = self._context, self._context.sharing
        if sharing.shared and (change.gained or change.lost):
            self._observe_partitions(context, gained=len(change.gained), lost=len(change.lost))
        self._lose(change.lost)
        for lane in self._lanes.values():
            if lane.partition in change.yielding:
                lane.nudge()
        # an engine that leads held some before we began
        partitions = sorted(change.gained | change.kept if self._began else sharing.held)
        if partitions or not self._began:
            self._began = True
            leases = {p: sharing.held[p] for p in partitions}
            self._tasks.start_soon(self._recover, context, leases, name="recovery")
        for ring in change.rings:
            self._answer(ring, change.number)

    def _answer(self, ring: Ring, number: int) -> None:
        if ring.nudge:
            self.nudge(ring.account_id)
        else:
            for direction in Direction:
                self._wake(ring.account_id, direction, number, hurry=True)

    def _lose(self, partitions: Collection[int]) -> None:
        """Cut what is under way in these partitions: from now on another worker finds out what became of it."""
        assert self._context is not None
        if not partitions:
            return
        lost = [lane for lane in self._lanes.values() if lane.partition in partitions and not lane.was_cut]
        for lane in lost:
            lane.cut()
        for account_id in sorted({lane.account_id for lane in lost}):
            self._context.observe(LeaseGone(account_id=account_id))
        sharing = self._context.sharing
        self._halted = {key: halt for key, halt in self._halted.items() if sharing.partition(key[0]) not in partitions}

    def _observe_partitions(self, context: Context, *, gained: int, lost: int) -> None:
        sharing = context.sharing
        context.observe(
            PartitionsChanged(held=len(sharing.held), partitions=sharing.partitions, gained=gained, lost=lost)
        )

    # background work

    async def _recover(self, context: Context, leases: Mapping[int, str]) -> None:
        """Start a task for every account with unfinished work, a bounded number at a time, while we already serve."""
        found = 0
        for partition, lease in leases.items():
            found += await self._recover_partition(context, partition, lease)
        self.recovered = True
        context.observe(RecoveryFinished(accounts=found))

    async def _recover_partition(self, context: Context, partition: int, lease: str) -> int:
        found: set[str] = set()
        after = dict.fromkeys(Direction, "")
        while after and not context.stopping and context.sharing.held.get(partition) == lease:
            for direction in list(after):
                query = Due(after=after[direction], partition=partition, direction=direction)
                page = await context.journal.ask(query)
                for account_id in page:
                    await self._admit(account_id, direction)
                found.update(page)
                if page:
                    after[direction] = page[-1]
                else:
                    del after[direction]
        return len(found)

    async def _admit(self, account_id: str, direction: Direction) -> None:
        """Start a lane, unless it is at work already, as soon as there is room."""
        if (account_id, direction) in self._lanes:
            return
        admission = self._admissions[direction]
        await admission.wait()
        if (account_id, direction) not in self._lanes:
            lane = self._start_lane(account_id, direction)
            if lane is not None:
                admission.enter(lane)

    def _admit_next(self, lane: Lane) -> None:
        """Let recovery start another lane in place of one that has ended, or waits."""
        self._admissions[lane.direction].leave(lane)

    async def _look_for_due(self, context: Context) -> None:
        """Start what is due and has no lane, now and then: what other workers recorded for us may have been in vain."""
        await anyio.sleep(LOOK_S)
        while context.sharing.shared:
            await context.doubts.look()
            for partition, lease in dict(context.sharing.held).items():
                await self._recover_partition(context, partition, lease)
            await anyio.sleep(LOOK_S)

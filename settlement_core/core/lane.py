"""One direction of one account: claim durably, perform the effect, close durably, again and again.

A lane has a task only while there is something to do or to wait for. Whatever it knows can be rebuilt from the
store, so it may be cut anywhere: between an effect's answer and the `submit` of its record there is no await.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import anyio

from settlement_core.core.condition import LaneCondition
from settlement_core.core.recording import Ending
from settlement_core.values.commands import Claim, Claimed, Close, Hold, NothingToClaim, StepDue
from settlement_core.values.events import AttemptClaimed, AttemptWaiting
from settlement_core.values.records import Attempt, Direction, Step

if TYPE_CHECKING:
    from anyio import TaskHandle

    from settlement_core.core.context import Context
    from settlement_core.core.journal import Handle
    from settlement_core.values.backoff import Backoff

__all__ = ["Lane", "LaneStatus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """A snapshot of a lane at work."""

    account_id: str
    direction: Direction
    doing: str
    attempt_id: str
    failures: int
    last_error: str
    next_try_in_s: float | None


def _tell_nothing() -> None:
    """An attempt was handed back before it was begun."""


class Lane(ABC):
    """A direction at work, under one lease. `ring` and `nudge` wake it; the supervisor owns its task, and `cut`s it."""

    __slots__ = (
        "_deaf",
        "_ended",
        "_expected",
        "_failing_since",
        "_failures",
        "_latest_claim",
        "_moved_at",
        "_nudged",
        "_on_step",
        "_rung",
        "_wake",
        "account_id",
        "attempt_id",
        "context",
        "doing",
        "error",
        "halted_before",
        "lease",
        "next_try",
        "partition",
        "reopened",
        "task",
        "was_cut",
    )

    direction: ClassVar[Direction]

    def __init__(self, account_id: str, context: Context, *, lease: str) -> None:
        self.account_id = account_id
        self.context = context
        self.lease = lease
        self.partition = context.sharing.partition(account_id)
        self.task: TaskHandle[None] | None = None
        self.was_cut = False
        self.doing = "starting"
        self.attempt_id = ""
        self.reopened = False
        """Whether the attempt was released by an operator, and not begun since."""
        self.error = ""
        self.halted_before = ""
        """Why this direction halted before an operator resumed it; "" otherwise."""
        self.next_try: float | None = None
        self._failures = 0
        self._failing_since = self._moved_at = anyio.current_time()
        self._expected = False
        self._on_step = False
        self._rung = False
        self._nudged = False
        self._deaf = False
        self._ended = False
        self._latest_claim: Handle[Any] | None = None
        self._wake: anyio.Event | None = None

    def __repr__(self) -> str:
        state = self.status()
        waiting = "" if state.next_try_in_s is None else f", next in {state.next_try_in_s:.1f} s"
        return f"<{type(self).__name__} {self.account_id!r} {self.doing}, {self._failures} failures{waiting}>"

    def ring(self, number: int, *, wake: bool) -> None:
        """There is money, recorded by the journal's command of this number: look at it, unless a claim does.

        Without `wake` it may well be money we know, so a back-off is not cut short for it.
        """
        claim = self._latest_claim
        # a claim that is yet to be applied will see it; one that was applied before it did not
        if claim is None or 0 < claim.number < number:
            self._rung = True
            if wake and self._wake is not None and not self._deaf:
                self._wake.set()

    def nudge(self) -> None:
        """Try now, whatever we are waiting for."""
        self._rung = self._nudged = True
        if self._wake is not None:
            self._wake.set()

    def cut(self) -> None:
        """End the task wherever it is: what is under way is another worker's to look at."""
        assert self.task is not None
        self.was_cut = True
        self.task.cancel()

    def status(self) -> LaneStatus:
        """Return a snapshot."""
        left = None if self.next_try is None else max(0.0, self.next_try - anyio.current_time())
        return LaneStatus(
            account_id=self.account_id,
            direction=self.direction,
            doing=self.doing,
            attempt_id=self.attempt_id,
            failures=self._failures,
            last_error=self.error,
            next_try_in_s=left,
        )

    def condition(self) -> LaneCondition:
        """Return whether the lane gets on."""
        now, counts = anyio.current_time(), not self._expected
        return LaneCondition(
            account_id=self.account_id,
            direction=self.direction,
            on_step=self._on_step,
            error=self.error,
            failing_for_s=now - self._failing_since if self._failures and counts else None,
            unmoved_for_s=now - self._moved_at if counts else None,
        )

    @property
    def stopping(self) -> bool:
        """Tell whether nothing new is to be begun: the core stops, or gives the account to another worker."""
        return self.context.stopping or self.context.sharing.is_yielding(self.partition)

    async def run(self) -> None:
        """Work until there is nothing left to do, or nothing new is to be begun. Raises `LeaseLost`."""
        while not self.stopping:
            self.doing = "claiming"
            answer = await self._claim()
            if isinstance(answer, Claimed):
                self._ended = False
                await self._work_on(answer)
                if self._ended and not answer.more and not self._rung:
                    return
            elif isinstance(answer, StepDue):
                self._on_step = True
                await self.take_step(answer.step)
                self._on_step = False
            elif not self._rung and not answer.summed_up:
                return

    @abstractmethod
    async def perform(self, attempt: Attempt, *, fresh: bool) -> None:
        """Bring the claimed attempt forward; return when it is closed or parked, or when it should be claimed again."""

    @abstractmethod
    async def take_step(self, step: Step) -> None:
        """Set the account up, or tear it down."""

    @abstractmethod
    def bound(self, claim: Claim) -> Claim:
        """Return the claim with the bounds on an attempt of this direction: how fine it may be, and how large."""

    @property
    def halted_by_doubts(self) -> bool:
        """Tell whether nothing new is begun since too many payments in a row are in doubt."""
        return False

    def gated(self, claim: Claim) -> Claim:
        """Return the claim; one that takes no new money, but finds what is open, while nothing new is begun."""
        return replace(claim, cap=Decimal(0)) if self.halted_by_doubts else claim

    @property
    @abstractmethod
    def backoff(self) -> Backoff:
        """The delays between tries."""

    # what the directions share

    async def _claim(self) -> Claimed | NothingToClaim | StepDue:
        attempt_id = str(uuid.uuid4())  # secure randomness: it becomes an idempotency key (RFC 38)
        self._rung = False
        handle = self.context.journal.submit(self.gated(self._claiming(attempt_id)))
        self._latest_claim = handle
        try:
            return await handle.wait()
        except BaseException:
            # cut before any effect: hand the money back, so that nobody has to wonder what became of it
            self.context.journal.submit(self._closing(attempt_id, Decimal(0)))
            raise

    async def _work_on(self, answer: Claimed) -> None:
        attempt = answer.attempt
        self.attempt_id = attempt.attempt_id
        self.reopened = answer.reopened
        self.context.observe(
            AttemptClaimed(
                account_id=self.account_id,
                direction=self.direction,
                attempt_id=attempt.attempt_id,
                amount=attempt.amount,
                fresh=answer.fresh,
            )
        )
        await self.confirm()
        if (self.stopping or self.halted_by_doubts) and answer.fresh:
            await self.close(attempt, Decimal(0))
        else:
            await self.perform(attempt, fresh=answer.fresh)
        # which stays if that raised: whoever tells of it names the attempt
        self.attempt_id = ""

    async def confirm(self) -> None:
        """Call before anything is handed to the ledger or the connector: the account must still be ours.

        Returns at once if it certainly is, else once the store has said so. Raises `LeaseLost`.
        """
        sharing = self.context.sharing
        if not sharing.is_certain(self.partition, self.lease):
            self.doing = "making sure of the lease"
            await sharing.confirm(self.account_id, self.lease)

    async def close(
        self, attempt: Attempt, settled: Decimal, tell: Callable[[], None] = _tell_nothing, *, reason: str = ""
    ) -> None:
        """Record how much of the attempt moved, and why not all; wait until that is durable.

        Then `tell` is called, in any case.
        """
        await self._end(attempt, self._closing(attempt.attempt_id, settled, reason), tell)
        # what did not move is queued again
        self._ended = self._ended and settled == attempt.amount

    async def park(self, attempt: Attempt, reason: str, tell: Callable[[], None] = _tell_nothing) -> None:
        """Record that a person must decide about the attempt, and wait until that is durable; `tell` as for `close`."""
        await self._end(
            attempt,
            Hold(account_id=self.account_id, attempt_id=attempt.attempt_id, reason=reason, lease=self.lease),
            tell,
        )

    async def _end(self, attempt: Attempt, command: Close | Hold, tell: Callable[[], None]) -> None:
        ending = Ending(self.context, attempt, command, claiming=self._claiming, tell=tell)
        self.doing = "recording"
        await ending.wait()
        self._ended = not ending.repeated

    def _claiming(self, attempt_id: str) -> Claim:
        claim = Claim(
            account_id=self.account_id,
            direction=self.direction,
            attempt_id=attempt_id,
            at=self.context.now(),
            max_entries=self.context.config.max_entries,
            lease=self.lease,
        )
        return self.bound(claim)

    def _closing(self, attempt_id: str, settled: Decimal, reason: str = "") -> Close:
        return Close(
            account_id=self.account_id,
            attempt_id=attempt_id,
            settled=settled,
            at=self.context.now(),
            reason=reason,
            lease=self.lease,
        )

    def succeeded(self) -> None:
        """Forget earlier failures."""
        self._failures = 0
        self._expected = False
        self._moved_at = anyio.current_time()
        self.error = ""
        self.context.outages[self.direction].succeeded(self)

    def failed(self, reason: str, *, expected: bool = False) -> float:
        """Count a failure and return how long to wait, in seconds; an `expected` one needs no operator."""
        if not self._failures or self._expected:
            self._failing_since = anyio.current_time()
        self._expected = expected
        self._failures += 1
        self.error = reason
        self.context.outages[self.direction].failed(self)
        return self.backoff.delay_s(self._failures, self.context.chance())

    async def rest(self, delay_s: float, reason: str, *, deaf: bool = True) -> None:
        """Tell why, and wait before the next try."""
        self.context.observe(
            AttemptWaiting(
                account_id=self.account_id,
                direction=self.direction,
                attempt_id=self.attempt_id,
                reason=reason,
                failures=self._failures,
                delay_s=delay_s,
            )
        )
        await self.wait(delay_s, doing="backing off", deaf=deaf)

    async def wait(self, delay_s: float, *, doing: str, deaf: bool = True) -> None:
        """Wait until `delay_s` has passed, a nudge comes or we are stopping; unless `deaf`, a ring also ends it.

        While an attempt is open we are deaf: new money is no reason to hurry an old payment.
        """
        self.doing = doing
        called = self._nudged or (self._rung and not deaf)
        if not called and not self.stopping:
            self._deaf = deaf
            self._wake = anyio.Event()
            self.next_try = anyio.current_time() + delay_s
            self.context.at_rest(self)
            with anyio.move_on_after(delay_s):
                await self._wake.wait()
            self._wake = self.next_try = None
        self._nudged = False

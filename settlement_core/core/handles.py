"""What waits for the journal: the answer to one command, and the turn in which requests from outside wait together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar, cast

import anyio

from settlement_core.values.commands import Applied, Command, Enqueue, Entered, Result
from settlement_core.values.errors import AskerLeft, StoreUnavailable

__all__ = ["SLOW_S", "Handle", "Turn"]

T = TypeVar("T")

SLOW_S = 0.05
"""Once a request has waited for that long, its asker is watched: a healthy store takes a tenth of it."""


class Withdraws(Protocol):
    """The journal, as a handle sees it."""

    def withdraw(self, handle: Handle[Any]) -> None:
        """Take back a request that no batch has taken."""
        ...


class Turn:
    """Requests that came together while a batch was applied: they wait for the same event, and share a deadline.

    Attributes:
        waiting: how many of them have no answer yet.
        slow: they have waited for `SLOW_S`.
        overdue: they have waited for as long as requests may.
        watches: scopes in which some of them wait for their askers to leave.
    """

    __slots__ = ("begun", "deadline", "event", "journal", "overdue", "slow", "waiting", "watches", "within_s")

    def __init__(self, journal: Withdraws, within_s: float) -> None:
        self.journal = journal
        self.begun = monotonic()
        self.within_s = within_s
        self.deadline = anyio.current_time() + within_s
        self.event = anyio.Event()
        self.waiting = 0
        self.slow = False
        self.overdue = False
        self.watches: set[anyio.CancelScope] = set()

    @property
    def slow_at(self) -> float:
        """Return from when on askers are watched, by the loop's clock."""
        return self.deadline - self.within_s + min(SLOW_S, self.within_s)

    def wake(self) -> None:
        """Have all who wait look at what has changed."""
        self.event.set()
        for watch in self.watches:
            watch.cancel()


class Handle(Generic[T]):
    """The answer to come for one submitted command.

    Cancelling `wait` takes nothing back of what was submitted; an offered request it withdraws if no batch has it yet.
    `number` is the command's place in the order in which commands are applied, 0 until it is to be applied. `then` is
    called with the result and the number once it is durable, `refused` with the error if it is not, even if its waiter
    was cancelled.
    """

    __slots__ = ("_event", "_refused", "_then", "command", "done", "given_up", "number", "result", "turn")

    def __init__(
        self,
        command: Command[T],
        then: Callable[[T, int], None] | None = None,
        refused: Callable[[Exception], None] | None = None,
    ) -> None:
        self.command = command
        self.number = 0
        self._then = then
        self._refused = refused
        self.done = False
        self.given_up = False
        self.result: Result = None
        self._event: anyio.Event | None = None
        self.turn: Turn | None = None

    def settle(self, result: Result, *, again: bool = False) -> None:
        """Give the answer and wake who waits for it; the journal alone calls this.

        Applied `again`, the command may have been recorded by the batch whose answer was lost: `then` is told as of
        the first time, so that what follows from it is done once at least.
        """
        self.result = result
        self.done = True
        if self.turn is not None:
            self.turn.waiting -= 1
            self.turn.wake()
        elif self._event is not None:
            self._event.set()
        then, refused = self._then, self._refused
        # what they belong to may refer to this handle: without them it goes as soon as it is not needed
        self._then = self._refused = None
        if isinstance(result, Exception):
            if refused is not None:
                refused(result)
        elif then is not None:
            then(_as_first(result) if again else result, self.number)

    async def wait(self, left: Callable[[], Awaitable[None]] | None = None) -> T:
        """Return the command's result once it is durable; raise the store's `LocalError` if it was refused.

        For a request from outside, raise `StoreUnavailable` once it has waited for as long as requests may. `left`
        returns when its asker has left; it is awaited only if the store is slow, and may be cut. Then, `AskerLeft`.
        """
        if self.turn is not None:
            try:
                await self._wait_for(self.turn, left)
            except BaseException:
                self._give_up(self.turn)
                raise
        elif not self.done:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return cast("T", self.result)

    async def _wait_for(self, turn: Turn, left: Callable[[], Awaitable[None]] | None) -> None:
        while not self.done:
            if turn.overdue:
                raise StoreUnavailable(
                    f"the store did not answer within {turn.within_s:g} s; whether the request was recorded is not "
                    "known yet, repeating it with the same key is safe"
                )
            if turn.slow and left is not None:
                await self._watch(turn, left)
                continue
            if turn.event.is_set():
                # the batch had no room for all of this turn
                turn.event = anyio.Event()
            await turn.event.wait()

    async def _watch(self, turn: Turn, left: Callable[[], Awaitable[None]]) -> None:
        """Wait until something changes; raise `AskerLeft` if it is that the asker has left."""
        with anyio.CancelScope() as watch:
            turn.watches.add(watch)
            try:
                await left()
            finally:
                turn.watches.discard(watch)
            raise AskerLeft

    def _give_up(self, turn: Turn) -> None:
        """Take the request back if no batch has it; in a batch it is not recorded any more unless it was already."""
        self.given_up = True
        if not self.done and not self.number:
            turn.journal.withdraw(self)

    def timed(self) -> Command[T]:
        """Return the command; a request with the time within which it may be recorded, which is while it is awaited."""
        turn = self.turn
        if turn is None or type(self.command) is not Enqueue:
            return self.command
        gone = self.given_up or turn.overdue
        within_s = 0.0 if gone else max(0.0, turn.deadline - anyio.current_time())
        return cast("Command[T]", replace(self.command, within_s=within_s))


def _as_first(result: Any) -> Any:
    """Return what the first application of a command answers, if this may be its answer to a second one."""
    if isinstance(result, Entered):
        return replace(result, replay=False)
    return Applied(changed=True) if isinstance(result, Applied) else result

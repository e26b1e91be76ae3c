"""Group commit: one task applies every command submitted since the last batch, in one call of the store.

A submitted command is carried out whatever becomes of who waits for it: `submit` does not wait, and a handle only
waits for the answer. That is why nobody above needs a shield between an effect and its record.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel

from settlement_core.abc import Observer, Store
from settlement_core.core.applying import Applier
from settlement_core.core.batching import MANY_REQUESTS, Shares
from settlement_core.values.backoff import STORE_BACKOFF, Backoff
from settlement_core.values.commands import Command, Result
from settlement_core.values.errors import JournalEnded, StoreUnavailable
from settlement_core.values.events import StoreFailed, StoreRecovered

__all__ = ["COMMIT_BOUNDS_S", "Handle", "Journal", "JournalStatistics", "open_journal"]

T = TypeVar("T")

MAX_PENDING = 20_000
"""Commands waiting at most: a few seconds of a slow disk; more would only hide that it is too slow."""

LINGER_S = 0.005
"""How long many who were answered together are given to ask again before the next batch begins, at most; else half as
long as the store took for the last one.

They would be late for it, and a batch of few costs the store as much as one of many.
"""

REQUEST_DEADLINE_S = 4.0
"""How long a request from outside waits for the store before it is given up, unless said otherwise."""

TOGETHER_S = 0.1
"""Requests whose deadlines are that close are given up together, at the first one: a timer for each costs too much."""


COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the classes into which commits are counted by how long they took."""


class _Turn:
    """Requests that came together while a batch was applied: they wait for the same event, and share a deadline."""

    __slots__ = ("begun", "deadline", "event", "overdue", "within_s")

    def __init__(self, within_s: float) -> None:
        self.begun = monotonic()
        self.within_s = within_s
        self.deadline = anyio.current_time() + within_s
        self.event = anyio.Event()
        self.overdue = False


class Handle(Generic[T]):
    """The answer to come for one submitted command. Cancelling `wait` takes nothing back.

    `number` is the command's place in the order in which commands are applied, 0 until it is to be applied. `then` is
    called with the result and the number once it is durable, `refused` with the error if it is not, whoever waits for
    it or no longer does.
    """

    __slots__ = ("_event", "_refused", "_then", "command", "done", "number", "result", "turn")

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
        self.result: Result = None
        self._event: anyio.Event | None = None
        self.turn: _Turn | None = None

    def settle(self, result: Result) -> None:
        """Give the answer and wake who waits for it; the journal alone calls this."""
        self.result = result
        self.done = True
        if self.turn is not None:
            self.turn.event.set()
        elif self._event is not None:
            self._event.set()
        if isinstance(result, Exception):
            if self._refused is not None:
                self._refused(result)
        elif self._then is not None:
            self._then(result, self.number)

    async def wait(self) -> T:
        """Return the command's result once it is durable; raise the store's `LocalError` if it was refused.

        For a request from outside, raise `StoreUnavailable` once it has waited for as long as requests may.
        """
        if self.turn is not None:
            await self._wait_for(self.turn)
        elif not self.done:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return cast("T", self.result)

    async def _wait_for(self, turn: _Turn) -> None:
        while not self.done:
            if turn.overdue:
                raise StoreUnavailable(
                    f"the store did not answer within {turn.within_s:g} s; whether the request was recorded is not "
                    "known yet, repeating it with the same key is safe"
                )
            if turn.event.is_set():
                # the batch had no room for all of this turn
                turn.event = anyio.Event()
            await turn.event.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatistics:
    """A snapshot of the journal. `failures` counts the store's failures in a row now.

    `commits_within` counts batches by how long the store took: for each of `COMMIT_BOUNDS_S` those above the bound
    before it, and at the end those above all; `commits_s` is how long all of them took together.
    """

    pending: int
    batches: int
    commands: int
    failures: int
    commits_within: tuple[int, ...]
    commits_s: float


class Journal:
    """The one way to the store. Opened first, closed last, by `open_journal`."""

    def __init__(
        self,
        store: Store,
        *,
        observer: Observer,
        backoff: Backoff = STORE_BACKOFF,
        chance: Callable[[], float] = random.random,
        max_pending: int = MAX_PENDING,
        request_deadline_s: float = REQUEST_DEADLINE_S,
    ) -> None:
        self._applier = Applier(store)
        self._observer = observer
        self._backoff = backoff
        self._chance = chance
        self._max_pending = max_pending
        self._offered: deque[Handle[Any]] = deque()
        self._submitted: deque[Handle[Any]] = deque()
        self._batch: list[Handle[Any]] = []
        self._request_deadline_s = request_deadline_s
        self._turn: _Turn | None = None
        self._turns: deque[_Turn] = deque()
        self._turn_begun = anyio.Event()
        self._wake = anyio.Event()
        self._closing = False
        self._ended = False
        self._applied = 0
        self._requests = 0
        self._enough = 0
        """Requests that wait once half of those who were answered last have asked again."""
        self._took_s = 0.0
        self._shares = Shares()
        self.lost = 0
        self._failures = 0
        self._batches = 0
        self._commands = 0
        self._commits_within = [0] * (len(COMMIT_BOUNDS_S) + 1)
        self._commits_s = 0.0

    def submit(
        self,
        command: Command[T],
        then: Callable[[T, int], None] | None = None,
        refused: Callable[[Exception], None] | None = None,
    ) -> Handle[T]:
        """Take a command to be made durable with the next batch, and return its handle at once.

        What must follow from it belongs into `then` or `refused`, not behind a `wait` that may be cancelled.

        Never refused for lack of room, so that the record of what happened always goes in; an active account
        has only a few of these under way.
        """
        return self._take(Handle(command, then, refused), self._submitted)

    def offer(self, command: Command[T], then: Callable[[T, int], None] | None = None) -> Handle[T]:
        """Take a request from outside, before what the core submits itself.

        Raises `StoreUnavailable` if too many commands wait already.
        """
        waiting = self._waiting()
        if waiting >= self._max_pending:
            raise StoreUnavailable(
                f"{waiting} commands already wait for the store; nothing was recorded, try again later"
            )
        handle = Handle(command, then)
        # the loop's own clock is asked once for many requests: asking costs more than all else here
        if self._turn is None or monotonic() > self._turn.begun + TOGETHER_S:
            self._turn = _Turn(self._request_deadline_s)
            self._turns.append(self._turn)
            self._turn_begun.set()
        handle.turn = self._turn
        return self._take(handle, self._offered)

    async def ask(self, command: Command[T]) -> T:
        """Submit a command and wait for its answer."""
        return await self.submit(command).wait()

    def statistics(self) -> JournalStatistics:
        """Return a snapshot."""
        return JournalStatistics(
            pending=self._waiting(),
            batches=self._batches,
            commands=self._commands,
            failures=self._failures,
            commits_within=tuple(self._commits_within),
            commits_s=self._commits_s,
        )

    async def run(self) -> None:
        """Apply batches until closed and drained; raises what broke the store for good."""
        try:
            while self._waiting() or not self._closing:
                if self._waiting():
                    if self._requests >= MANY_REQUESTS:
                        await self._linger()
                    await self._apply_next()
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                    # let every task that is ready now add to the batch
                    await anyio.lowlevel.checkpoint()
        finally:
            self._ended = True
            self.lost = self._waiting()
            for handle in (*self._batch, *self._offered, *self._submitted):
                handle.settle(JournalEnded(type(handle.command).__name__))
            self._batch = []
            self._offered.clear()
            self._submitted.clear()

    async def watch(self) -> None:
        """Give up requests that have waited too long; never returns."""
        while True:
            while self._turns:
                await anyio.sleep_until(self._turns[0].deadline)
                while self._turns and self._turns[0].deadline <= anyio.current_time():
                    turn = self._turns.popleft()
                    if turn is self._turn:
                        self._turn = None
                    turn.overdue = True
                    turn.event.set()
            self._turn_begun = anyio.Event()
            await self._turn_begun.wait()

    def close(self) -> None:
        """Have `run` end once everything submitted until then, and while draining, is durable."""
        self._closing = True
        self._wake.set()

    def _take(self, handle: Handle[T], queue: deque[Handle[Any]]) -> Handle[T]:
        if self._ended:
            handle.settle(JournalEnded(type(handle.command).__name__))
        else:
            queue.append(handle)
            self._wake.set()
        return handle

    def _waiting(self) -> int:
        return len(self._batch) + len(self._offered) + len(self._submitted)

    def _compose(self) -> list[Handle[Any]]:
        """Return the next batch, in the order in which it is applied."""
        self._turn = None
        self._requests, others = self._shares.next(len(self._offered), len(self._submitted))
        batch = [self._offered.popleft() for _ in range(self._requests)]
        batch += [self._submitted.popleft() for _ in range(others)]
        for handle in batch:
            self._applied += 1
            handle.number = self._applied
        return batch

    async def _linger(self) -> None:
        """Let most of those who were just answered ask again."""
        # who asks from within this loop needs two of its rounds: one to wake, one to ask
        for _ in range(2):
            await anyio.lowlevel.checkpoint()
        if self._applier.threaded and len(self._offered) < self._enough:
            await anyio.sleep(min(LINGER_S, self._took_s / 2))

    async def _apply_next(self) -> None:
        # a batch that failed is applied again, as it was
        batch = self._batch = self._batch or self._compose()
        commands = [handle.command for handle in batch]
        began = monotonic()
        try:
            results = await self._applier.apply(commands)
        except StoreUnavailable as problem:
            await self._wait_for_store(problem)
            return
        assert len(results) == len(batch), "a store answers every command"
        if self._failures:
            self._observer.observe(StoreRecovered(failures=self._failures))
            self._failures = 0
        self._took_s = monotonic() - began
        self._commits_within[bisect_left(COMMIT_BOUNDS_S, self._took_s)] += 1
        self._commits_s += self._took_s
        self._batches += 1
        self._commands += len(batch)
        self._batch = []
        self._enough = len(self._offered) + self._requests // 2
        for handle, result in zip(batch, results, strict=True):
            handle.settle(result)

    async def _wait_for_store(self, problem: StoreUnavailable) -> None:
        """Keep the batch where it is and wait; commands are idempotent, so all of it is applied again."""
        self._failures += 1
        delay_s = self._backoff.delay_s(self._failures, self._chance())
        self._observer.observe(StoreFailed(failures=self._failures, reason=str(problem), delay_s=delay_s))
        await anyio.sleep(delay_s)


@asynccontextmanager
async def open_journal(
    store: Store,
    *,
    observer: Observer,
    drain_s: float = 10.0,
    max_pending: int = MAX_PENDING,
    request_deadline_s: float = REQUEST_DEADLINE_S,
) -> AsyncIterator[Journal]:
    """Run a journal for the block; on leaving it, whatever the reason, drain it.

    If the store does not take the rest within `drain_s` seconds, raise `StoreUnavailable` that says how much was
    not recorded: those attempts are open in the store and are looked at, at the next start.
    """
    journal = Journal(store, observer=observer, max_pending=max_pending, request_deadline_s=request_deadline_s)
    # the owner's cancellation must not cut off the record of what has already happened; the deadline below may
    scope = anyio.CancelScope(shield=True)
    ended = anyio.Event()

    async def run() -> None:
        try:
            with scope:
                await journal.run()
        finally:
            ended.set()
        if scope.cancelled_caught:
            raise StoreUnavailable(
                f"the store took nothing for {drain_s:g} s while closing: {journal.lost} commands were not recorded; "
                "what they concern is open in the store and is looked at, at the next start"
            )

    async def watch() -> None:
        with watching:
            await journal.watch()

    watching = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, name="journal")
        tasks.start_soon(watch, name="journal watch")
        try:
            yield journal
        finally:
            journal.close()
            with anyio.move_on_after(drain_s, shield=True):
                await ended.wait()
            scope.cancel()
            watching.cancel()

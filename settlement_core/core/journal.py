"""Group commit: one task applies every command submitted since the last batch, in one call of the store.

A submitted command is applied even if its waiter is cancelled: `submit` does not wait, and a handle only waits for the
answer. That is why no caller needs a shield between an effect and its record.

An offered command, a request from outside, is applied only for an asker who can still be answered: connectors repeat
under new keys what was not answered, so each request that is recorded but not answered multiplies a debt. While it
waits for a batch, its deadline or its waiter's cancellation withdraws it; in a batch that failed it is only looked for.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from settlement_core.abc import Observer, Store
from settlement_core.core.applying import Applier
from settlement_core.core.batching import MANY_REQUESTS, Shares
from settlement_core.core.handles import Handle, Turn
from settlement_core.values.backoff import STORE_BACKOFF, Backoff
from settlement_core.values.commands import Command
from settlement_core.values.errors import AskerLeft, JournalEnded, StoreUnavailable
from settlement_core.values.events import StoreFailed, StoreRecovered
from settlement_core.values.texts import whole_text

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
        self._turn: Turn | None = None
        self._turns: deque[Turn] = deque()
        self._turn_begun = anyio.Event()
        self._look_at = math.inf
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
        self._error = ""
        self._batches = 0
        self._commands = 0
        self._commits_within = [0] * (len(COMMIT_BOUNDS_S) + 1)
        self._commits_s = 0.0

    @property
    def error(self) -> str:
        """How the store failed last, as long as it does not answer; else ""."""
        return self._error

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
            self._turn = Turn(self, self._request_deadline_s)
            self._turns.append(self._turn)
            if self._turn.slow_at < self._look_at:
                self._turn_begun.set()
        handle.turn = self._turn
        self._turn.waiting += 1
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

    def withdraw(self, handle: Handle[Any]) -> None:
        """Take back a request that no batch has taken: it will not be recorded."""
        self._offered.remove(handle)
        handle.settle(AskerLeft())

    async def watch(self) -> None:
        """Have askers watched whose requests wait for long, and give up those that wait for too long; never returns."""
        while True:
            self._look_at = self._next_look()
            self._turn_begun = anyio.Event()
            with anyio.CancelScope(deadline=self._look_at):
                await self._turn_begun.wait()
            now = anyio.current_time()
            for turn in [turn for turn in self._turns if turn.slow_at <= now]:
                if turn.deadline <= now:
                    self._give_up(turn)
                elif not turn.slow:
                    turn.slow = True
                    turn.wake()

    def _next_look(self) -> float:
        """Forget turns that have all their answers; return when the next of the others is slow, or overdue."""
        while self._turns and (self._turns[0].overdue or not self._turns[0].waiting):
            turn = self._turns.popleft()
            if turn is self._turn:
                self._turn = None
        if not self._turns:
            return math.inf
        quick = next((turn.slow_at for turn in self._turns if not turn.slow), math.inf)
        return min(self._turns[0].deadline, quick)

    def _give_up(self, turn: Turn) -> None:
        """Withdraw the requests of a turn that no batch has taken; what became of the others is not known yet."""
        waiting = [handle for handle in self._offered if handle.turn is turn]
        if waiting:
            self._offered = deque(handle for handle in self._offered if handle.turn is not turn)
        turn.overdue = True
        for handle in waiting:
            handle.settle(
                StoreUnavailable(
                    f"the store took nothing for {turn.within_s:g} s; the request was withdrawn and nothing was "
                    "recorded, try again later"
                )
            )
        turn.wake()

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
        commands = [handle.timed() for handle in batch]
        began = monotonic()
        try:
            results = await self._applier.apply(commands)
        except StoreUnavailable as problem:
            await self._wait_for_store(problem)
            return
        assert len(results) == len(batch), "a store answers every command"
        again = self._failures > 0
        if again:
            self._observer.observe(StoreRecovered(failures=self._failures))
            self._failures, self._error = 0, ""
        self._took_s = monotonic() - began
        self._commits_within[bisect_left(COMMIT_BOUNDS_S, self._took_s)] += 1
        self._commits_s += self._took_s
        self._batches += 1
        self._commands += len(batch)
        self._batch = []
        self._enough = len(self._offered) + self._requests // 2
        for handle, result in zip(batch, results, strict=True):
            handle.settle(result, again=again)

    async def _wait_for_store(self, problem: StoreUnavailable) -> None:
        """Keep the batch where it is and wait; commands are idempotent, so all of it is applied again."""
        self._failures += 1
        self._error = whole_text(problem)
        delay_s = self._backoff.delay_s(self._failures, self._chance())
        self._observer.observe(StoreFailed(failures=self._failures, reason=self._error, delay_s=delay_s))
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

"""Limits how many credits are offered to the connector at a time, so that accounts at which it hangs delay no others.

Offers that take long give their place back, and are counted apart. Accounts whose last offer failed wait among
themselves.
"""

from __future__ import annotations

import anyio

__all__ = ["Turn", "Turns"]

AT_ONCE = 8
"""Quick offers at the same time. A connector can do no more for a hundred, and keeping many connections costs us more
than the credits do; what comes up for an account that waits for its turn leaves in one credit."""

PACE_S = 0.005
"""A connector that answers within this is offered one credit after the other: more at a time would not be quicker, and
would keep what comes in, which could leave in the same credits, from being recorded."""

SLOW_S = 0.25
SLOW_TIMES = 4.0
"""An offer gives its place to another account once it has taken so long, and so many times what offers usually take."""

USUAL_S = 0.5
"""What offers usually take, as long as none was answered."""

SLOW_AT_ONCE = 180
"""Slow offers at the same time, each of which keeps a connection."""

RETRIES_AT_ONCE = 100
"""Offers at the same time to accounts whose last offer failed."""

CUT_S = 5.0
"""Once no place is left, an offer that takes longer is given up for now, as after a timeout."""


class Turn:
    """One offer. It must take place within `scope`, which is cancelled to give it up."""

    __slots__ = ("began", "scope")

    def __init__(self) -> None:
        self.began = anyio.current_time()
        self.scope = anyio.CancelScope()


class Turns:
    """First come, first served, in each of both queues: retries, and others. `begin` and `end` surround each offer."""

    def __init__(self) -> None:
        self._door = anyio.Lock(fast_acquire=True)
        self._retry_door = anyio.Lock(fast_acquire=True)
        # oldest first
        self._quick: dict[Turn, None] = {}
        self._slow: dict[Turn, None] = {}
        self._retries: dict[Turn, None] = {}
        self._ended = anyio.Event()
        self._usual_s = USUAL_S

    async def begin(self, *, retry: bool) -> Turn:
        """Wait until there is room for one more offer; `retry` says that the account's last offer failed."""
        if retry:
            async with self._retry_door:
                while len(self._retries) >= RETRIES_AT_ONCE:
                    oldest = next(iter(self._retries))
                    with anyio.CancelScope(deadline=oldest.began + CUT_S):
                        await self._wait_for_end()
                    if anyio.current_time() >= oldest.began + CUT_S:
                        self._give_up(oldest, self._retries)
                return self._enter(self._retries)
        async with self._door:
            if self._quick:
                with anyio.move_on_after(PACE_S):
                    await self._wait_for_fewer_than(1)
                await self._wait_for_fewer_than(AT_ONCE)
            return self._enter(self._quick)

    def end(self, turn: Turn, *, answered: bool) -> None:
        """Give the turn back; `answered` says that the connector was quick or slow, and did not hang."""
        if answered:
            self._usual_s += (anyio.current_time() - turn.began - self._usual_s) / 8
        for group in (self._quick, self._slow, self._retries):
            group.pop(turn, None)
        self._ended.set()

    def _enter(self, group: dict[Turn, None]) -> Turn:
        turn = Turn()
        group[turn] = None
        return turn

    async def _wait_for_end(self) -> None:
        self._ended = anyio.Event()
        await self._ended.wait()

    async def _wait_for_fewer_than(self, number: int) -> None:
        while len(self._quick) >= number:
            with anyio.CancelScope(deadline=self._next_change()):
                await self._wait_for_end()
            self._move_slow()

    def _give_up(self, turn: Turn, group: dict[Turn, None]) -> None:
        turn.scope.cancel()
        group.pop(turn, None)

    @property
    def _slow_s(self) -> float:
        return max(SLOW_S, SLOW_TIMES * self._usual_s)

    def _next_change(self) -> float:
        """Return when a place gets free even if no offer ends."""
        slow_at = next(iter(self._quick)).began + self._slow_s
        if len(self._slow) < SLOW_AT_ONCE:
            return slow_at
        return max(slow_at, next(iter(self._slow)).began + CUT_S)

    def _move_slow(self) -> None:
        """Count offers that take long apart; give up the oldest of those if there are too many."""
        now = anyio.current_time()
        for turn in [turn for turn in self._quick if turn.began + self._slow_s <= now]:
            if len(self._slow) >= SLOW_AT_ONCE:
                oldest = next(iter(self._slow))
                if oldest.began + CUT_S > now:
                    return
                self._give_up(oldest, self._slow)
            del self._quick[turn]
            self._slow[turn] = None

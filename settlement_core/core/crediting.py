"""Whose turn it is to offer a credit to the connector."""

from __future__ import annotations

import anyio

__all__ = ["Turns"]

AT_ONCE = 8
"""Credits offered at the same time, at most. A connector can do no more for a hundred, and keeping many connections
costs us more than the credits do; what comes up for an account that waits for its turn leaves in one credit."""

PACE_S = 0.005
"""A connector that answers within this is offered one credit after the other: more at a time would not be quicker, and
would keep what comes in, which could leave in the same credits, from being recorded."""


class Turns:
    """First come, first served. `begin` and `end` belong around each offer."""

    def __init__(self) -> None:
        self._door = anyio.Lock(fast_acquire=True)
        self._under_way = 0
        self._ended = anyio.Event()

    async def begin(self) -> None:
        """Wait until no credit is under way, or for those that are to take long while there is room for one more."""
        async with self._door:
            if self._under_way:
                with anyio.move_on_after(PACE_S):
                    await self._wait_for_fewer_than(1)
                await self._wait_for_fewer_than(AT_ONCE)
            self._under_way += 1

    def end(self) -> None:
        """Give the turn back."""
        self._under_way -= 1
        self._ended.set()

    async def _wait_for_fewer_than(self, number: int) -> None:
        while self._under_way >= number:
            self._ended = anyio.Event()
            await self._ended.wait()

"""The wall clock as durable rows see it: read at ticks, which are recorded before their readings stamp anything.

Between two ticks the loop's clock counts on. So each stamp lies at or above a reading that the store knows, and
whatever was used within the retention of keys, in seconds of use, is recognised, whatever wall clocks do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio

from settlement_core.values.commands import Get, Tick, Ticked
from settlement_core.values.events import ClockJumped

if TYPE_CHECKING:
    from settlement_core.abc import Observer
    from settlement_core.core.config import CoreConfig
    from settlement_core.core.journal import Journal

__all__ = ["TICK_S", "Clock"]

TICK_S = 3600.0
"""Seconds between two ticks: a crash forgets no more of the time in use."""

JUMP_S = 5.0
"""A wall clock that is further from the loop's than this did not drift, or was slewed: it was set."""


class Clock:
    """Durable times. `begin` before anything is recorded, then `tick` every `TICK_S` seconds."""

    def __init__(self, wall: Callable[[], float], *, journal: Journal, observer: Observer, config: CoreConfig) -> None:
        self._wall = wall
        self._journal = journal
        self._observer = observer
        self._config = config
        self._reading, self._read_at = wall(), anyio.current_time()
        self._latest: Ticked | None = None
        self.jumped_s: float | None = None
        """How far the wall clock jumped, the latest time that it did; None if it never did in this life."""
        self._jumped_at = 0.0

    def now(self) -> float:
        """Return the time in seconds since 1970, for stamps."""
        return self._reading + (anyio.current_time() - self._read_at)

    @property
    def jumped_ago_s(self) -> float | None:
        """How long ago the latest jump was noticed; None if there was none."""
        return None if self.jumped_s is None else anyio.current_time() - self._jumped_at

    async def begin(self) -> None:
        """Record the first reading; tell of a clock that is behind what the store saw last."""
        known = await self._journal.ask(Get(account_id=Tick.account_id, key=Tick.key))
        if isinstance(known, dict):
            self._tell(self._wall() - known["wall"], since="the latest run", backward_only=True)
        await self.tick()

    async def tick(self) -> Ticked:
        """Record a reading, stamp by it from then on, and return what the store says of the time in use."""
        reading, at = self._wall(), anyio.current_time()
        latest = self._latest
        if latest is not None:
            self._tell(reading - self.now(), since="the latest tick")
        tick = Tick(
            wall=reading,
            keep_s=self._config.key_retention_s,
            history_s=self._config.history_retention_s or 0.0,
            seen=None if latest is None else latest.lived_s,
            # a process that stood still did not serve meanwhile
            elapsed_s=0.0 if latest is None else min(at - self._read_at, 2 * TICK_S),
        )
        return await self._journal.submit(tick, partial(self._adopt, reading, at)).wait()

    def _adopt(self, reading: float, at: float, ticked: Ticked, _: int) -> None:
        self._reading, self._read_at, self._latest = reading, at, ticked

    def _tell(self, jumped_s: float, *, since: str, backward_only: bool = False) -> None:
        if jumped_s < -JUMP_S or (jumped_s > JUMP_S and not backward_only):
            self.jumped_s, self._jumped_at = jumped_s, anyio.current_time()
            self._observer.observe(ClockJumped(jumped_s=jumped_s, since=since))

"""Has a store apply batches, without holding up the loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from settlement_core.abc import Arrival, SteppedStore, Store
from settlement_core.values.commands import Command, Result

__all__ = ["Applier"]


class Applier:
    """Makes in a thread whatever the store waits for, one thing at a time, unless it is an `Arrival`; all else here."""

    def __init__(self, store: Store) -> None:
        self.threaded = store.threaded
        self._store = store
        # asked once: it takes longer than a small batch
        self._stepped = store if isinstance(store, SteppedStore) else None
        self._limiter = anyio.CapacityLimiter(1)

    async def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Return what the store answers; raise what it raises."""
        if self._stepped is not None:
            with closing(self._stepped.apply_in_steps(commands)) as steps:
                return await self._make_waits(steps)
        if self.threaded:
            return await anyio.to_thread.run_sync(self._store.apply, commands, limiter=self._limiter)
        results = self._store.apply(commands)
        await anyio.lowlevel.checkpoint()
        return results

    async def _make_waits(self, steps: Generator[Callable[[], Any], Any, list[Result]]) -> list[Result]:
        try:
            wait = next(steps)
            while True:
                try:
                    answer = await self._make(wait)
                except Exception as problem:  # noqa: BLE001 - it is the store's to make sense of
                    wait = steps.throw(problem)
                else:
                    wait = steps.send(answer)
        except StopIteration as finished:
            results: list[Result] = finished.value
            return results

    async def _make(self, wait: Callable[[], Any]) -> Any:
        if isinstance(wait, Arrival):
            with anyio.move_on_after(wait.within_s):
                await anyio.wait_readable(wait.file_no)
                return True
            return False
        return await anyio.to_thread.run_sync(wait, limiter=self._limiter)

"""Virtual time on both loops: hours of back-off pass in milliseconds, and tests can assert exact times.

Time jumps whenever every task waits. A task waiting for a worker thread counts as waiting too, so keep threads (the
SQLite store, …) out of tests under virtual time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

import trio.abc
import trio.testing

__all__ = ["AutojumpLoop", "virtual_backend"]


class AutojumpLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock jumps to the next timer as soon as nothing is ready.

    `on_pass`, if set, is called after every pass of the loop.
    """

    def __init__(self, on_pass: Callable[[], None] | None = None) -> None:
        self._virtual_time = 0.0
        super().__init__(_JumpingSelector(self))
        self.on_pass = on_pass

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual_time

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual_time += seconds


class _JumpingSelector(selectors.SelectSelector):
    """Does not sleep: if nothing is ready, it jumps the clock instead."""

    def __init__(self, loop: AutojumpLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; jump if nothing is and a timer is set."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self._loop.jump(timeout)
        if self._loop.on_pass is not None:
            self._loop.on_pass()
        return ready


class _PassCounter(trio.abc.Instrument):
    def __init__(self, on_pass: Callable[[], None]) -> None:
        self._on_pass = on_pass

    def after_io_wait(self, timeout: float) -> None:
        del timeout
        self._on_pass()


def virtual_backend(name: str, *, on_pass: Callable[[], None] | None = None) -> tuple[str, dict[str, Any]]:
    """Return a fresh anyio backend, "trio" or "asyncio", whose clock jumps.

    Use it as `anyio.run(main, backend=name, backend_options=options)`, or as the value of pytest's
    `anyio_backend` fixture. `on_pass` is called after every pass of the scheduler.
    """
    if name == "asyncio":
        return name, {"loop_factory": lambda: AutojumpLoop(on_pass)}
    if name != "trio":
        raise ValueError(f"backend is 'trio' or 'asyncio', not {name!r}")
    clock = trio.testing.MockClock(autojump_threshold=0)
    return name, {"clock": clock, "instruments": [] if on_pass is None else [_PassCounter(on_pass)]}

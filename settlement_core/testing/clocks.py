"""Virtual time on both loops: hours of back-off pass in milliseconds, and tests can assert exact times.

Time jumps whenever every task waits. A task waiting for a worker thread counts as waiting too, so keep threads (the
SQLite store, …) out of tests under virtual time.

With a seed, the order in which ready tasks take their steps is shuffled, the same way each time. On trio that is what
its scheduler does anyway, only seeded. asyncio promises that callbacks run in the order of `call_soon`, and nothing
about tasks; so only steps of tasks that follow each other directly change places, and never across a plain callback.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, groupby
from typing import Any
from weakref import WeakKeyDictionary

import trio.abc
import trio.testing
from trio._core import _run as trio_scheduler  # as Hypothesis' plugin in trio does

__all__ = ["AutojumpLoop", "virtual_backend"]

_STEPS = frozenset({"TaskStepMethWrapper", "task_wakeup", "__step", "__wakeup"})
"""How asyncio's own callbacks that run a step of a task are called, in C and in Python."""


class AutojumpLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock jumps to the next timer as soon as nothing is ready.

    Args:
        on_step: called before the first callback and after each. Callbacks then have a pass of the loop each, which
            only timers that are due share.
        seed: shuffles the steps of ready tasks; None leaves them in order.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _clock_resolution: float

    def __init__(self, *, on_step: Callable[[], None] | None = None, seed: int | None = None) -> None:
        self._virtual_time = 0.0
        self._on_step = on_step
        self._shuffled = None if seed is None else random.Random(seed)
        self._held: deque[asyncio.Handle] = deque()
        self._arranged = 0
        """How many of those that are ready were put in order together and have not run yet."""
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._numbers = count()
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual_time

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual_time += seconds
        # asyncio adds it to the time, where a nanosecond is lost after half a year: no timer would ever be due
        self._clock_resolution = max(self._clock_resolution, math.ulp(self._virtual_time))

    def catch_up(self) -> None:
        """Let it be the time of the next timer, if asyncio takes that for due already.

        It fires timers a nanosecond early. A clock that stood still there would have whoever waits for the very time
        set the same timer again, for ever.
        """
        if self._scheduled and self._scheduled[0].when() < self._virtual_time + self._clock_resolution:
            self._virtual_time = max(self._virtual_time, self._scheduled[0].when())

    def create_task(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """Create a task, and remember in which order: sets of tasks are cancelled in any."""
        task = super().create_task(*args, **kwargs)
        self._tasks[task] = next(self._numbers)
        return task

    def give_back(self) -> bool:
        """Put back what was kept from the last pass; tell whether there was anything."""
        self._ready.extendleft(reversed(self._held))
        some = bool(self._held)
        self._held.clear()
        return some

    def arrange(self) -> None:
        """Settle what the next pass runs."""
        if self._on_step is not None:
            # first: what it cancels becomes ready in the order of a set
            self._on_step()
        if self._shuffled is not None and not self._arranged:
            arranged = list(_in_any_order(self._ready, self._tasks, self._shuffled))
            self._ready.clear()
            self._ready.extend(arranged)
            self._arranged = len(arranged) if self._on_step is not None else 0
        if self._on_step is not None:
            while len(self._ready) > 1:
                self._held.appendleft(self._ready.pop())
            self._arranged = max(0, self._arranged - 1)


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    callback: Any = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    name = getattr(callback, "__name__", type(callback).__name__)
    return owner if isinstance(owner, asyncio.Task) and name in _STEPS else None


def _in_any_order(
    handles: deque[asyncio.Handle], numbers: WeakKeyDictionary[asyncio.Task[Any], int], chance: random.Random
) -> Iterator[asyncio.Handle]:
    for is_step, group in groupby(handles, lambda handle: _task_of(handle) is not None):
        run = list(group)
        if is_step and len(run) > 1:
            run.sort(key=lambda handle: numbers.get(_task_of(handle), -1))  # type: ignore[arg-type]
            chance.shuffle(run)
        yield from run


class _JumpingSelector(selectors.SelectSelector):
    """Does not sleep: if nothing is ready, it jumps the clock instead."""

    def __init__(self, loop: AutojumpLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; jump if nothing is and a timer is set."""
        if self._loop.give_back():
            timeout = 0
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self._loop.jump(timeout)
        self._loop.catch_up()
        self._loop.arrange()
        return ready


class _StepCounter(trio.abc.Instrument):
    def __init__(self, on_step: Callable[[], None]) -> None:
        self._on_step = on_step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self._on_step()


class _Seeding(trio.abc.Instrument):
    """Makes one run's scheduling a matter of the seed alone, and leaves no trace of that."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_run(self) -> None:
        scheduler: Any = trio_scheduler
        self._before = (scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate())  # noqa: SLF001
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
        scheduler._r.seed(self._seed)  # noqa: SLF001

    def after_run(self) -> None:
        scheduler: Any = trio_scheduler
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, state = self._before  # noqa: SLF001
        scheduler._r.setstate(state)  # noqa: SLF001


def virtual_backend(
    name: str, *, on_step: Callable[[], None] | None = None, seed: int | None = None
) -> tuple[str, dict[str, Any]]:
    """Return a fresh anyio backend, "trio" or "asyncio", whose clock jumps.

    Use it as `anyio.run(main, backend=name, backend_options=options)`, or as the value of pytest's
    `anyio_backend` fixture.

    Args:
        name: of the loop.
        on_step: called after every step of a task, on asyncio after every callback. It must not raise.
        seed: of the order in which tasks that are ready take their steps; None leaves that to the loop.
    """
    if name == "asyncio":
        return name, {"loop_factory": lambda: AutojumpLoop(on_step=on_step, seed=seed)}
    if name != "trio":
        raise ValueError(f"backend is 'trio' or 'asyncio', not {name!r}")
    instruments: list[trio.abc.Instrument] = []
    if on_step is not None:
        instruments.append(_StepCounter(on_step))
    if seed is not None:
        instruments.append(_Seeding(seed))
    return name, {"clock": trio.testing.MockClock(autojump_threshold=0), "instruments": instruments}

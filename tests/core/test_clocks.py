"""Wall clocks jump; what a key was used for is known all the same, and paid once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.values.backoff import DAY_S
from settlement_core.values.commands import Entries, Tick
from settlement_core.values.events import ClockJumped
from settlement_core.values.lived import BUCKET_S, advance
from settlement_core.values.records import Direction
from tests.core.shared_books import SharedBooks, WorkerStore
from tests.core.worlds import D, MinimalEngine, World, until

pytestmark = pytest.mark.anyio

START = 1_764_000_000.0
"""A day in 2025."""

WEEK_S = 7 * DAY_S


class Wall:
    """A wall clock that somebody sets; it goes on with the loop's."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s

    def __call__(self) -> float:
        """Read it."""
        return START + self.ahead_s + anyio.current_time()


@asynccontextmanager
async def core_on(world: World, wall: Callable[[], float]) -> AsyncIterator[Core]:
    """Run one life of a core that reads this wall clock."""
    async with open_core(
        world.connect, store=world.store, connector=world.connector, observer=world.ears, now=wall, chance=lambda: 0.0
    ) as core:
        yield core


async def pay(core: Core, world: World, times: int = 1) -> None:
    """Have invoice 7 paid, and check how often it was."""
    await core.request_settlement("alice", D(5), "invoice-7")
    await until(lambda: len(world.engine.paid) >= 1)
    await anyio.sleep(1)
    assert world.engine.paid == [D(5)] * times


@pytest.mark.parametrize(
    "steps_s",
    [
        [8 * DAY_S],
        [10 * DAY_S],
        [30 * DAY_S, -30 * DAY_S],
        [365 * DAY_S, -365 * DAY_S],
        [-START, START],
        [-8 * DAY_S, 16 * DAY_S],
    ],
)
async def test_key_is_known_within_its_retention_whatever_the_wall_clock_does(steps_s: list[float]) -> None:
    """The clock is set, keys are pruned, and the same request comes again, in one life and in the next."""
    world, wall = World(MinimalEngine()), Wall()
    async with core_on(world, wall) as core:
        await core.create_account("alice")
        await pay(core, world)
        for step_s in steps_s:
            await anyio.sleep(60)
            wall.ahead_s += step_s
            await anyio.sleep(7200)
            await pay(core, world)
    for step_s in steps_s:
        wall.ahead_s -= step_s
        async with core_on(world, wall) as core:
            await anyio.sleep(7200)
            await pay(core, world)


async def test_host_that_boots_slow_forgets_nothing_once_its_clock_is_set() -> None:
    """Started eight days slow, used, set right: two hours later the key is known. Restarts change nothing."""
    world, wall = World(MinimalEngine()), Wall(-8 * DAY_S)
    async with core_on(world, wall) as core:
        await core.create_account("alice")
        await pay(core, world)
        wall.ahead_s = 0.0
        await anyio.sleep(7200)
        await pay(core, world)
    async with core_on(world, wall) as core:
        await anyio.sleep(7200)
        await pay(core, world)


async def test_key_is_forgotten_after_its_retention_of_use_though_the_wall_clock_stands_back() -> None:
    """Time in use alone counts: the clock was set back by a year meanwhile."""
    world, wall = World(MinimalEngine()), Wall()
    async with core_on(world, wall) as core:
        await core.create_account("alice")
        await pay(core, world)
        wall.ahead_s = -365 * DAY_S
        await anyio.sleep(WEEK_S - 60)
        await pay(core, world)
        # used just now by a clock that is a year slow; forgotten when that reading has passed as well
        await anyio.sleep(WEEK_S + 4 * 3600)
        wall.ahead_s = 0.0
        await anyio.sleep(WEEK_S + 4 * 3600)
        assert await core.ask(Entries(account_id="alice", direction=Direction.OUTGOING)) == []


async def test_downtime_is_no_time_in_use() -> None:
    """A server that was off for a month knows its keys for the rest of their week."""
    world, wall = World(MinimalEngine()), Wall()
    async with core_on(world, wall) as core:
        await core.create_account("alice")
        await pay(core, world)
        await anyio.sleep(DAY_S)
    wall.ahead_s = 30 * DAY_S
    async with core_on(world, wall) as core:
        await anyio.sleep(DAY_S)
        await pay(core, world)


async def test_worker_whose_clock_is_off_makes_others_forget_nothing() -> None:
    """One of two workers is ten days slow, or ahead; whichever takes a request, both know its key."""
    for ahead_s in (-10 * DAY_S, 10 * DAY_S):
        books = SharedBooks()
        world = World(MinimalEngine())
        async with AsyncExitStack() as stack:
            cores = []
            for name, wall in (("right", Wall()), ("off", Wall(ahead_s))):
                store = WorkerStore(books, name)
                cores.append(
                    await stack.enter_async_context(
                        open_core(
                            world.connect,
                            store=store,
                            connector=world.connector,
                            now=wall,
                            config=CoreConfig(lease_s=600, poll_s=200),
                            worker=name,
                            chance=lambda: 0.0,
                        )
                    )
                )
            await cores[0].create_account("alice")
            for core in cores:
                await core.request_settlement("alice", D(5), "invoice-7")
                await anyio.sleep(3 * 3600)
                for asked in cores:
                    await asked.request_settlement("alice", D(5), "invoice-7")
            assert world.engine.paid == [D(5)]


async def test_jump_of_the_wall_clock_is_told_once() -> None:
    """By an event, and in the statistics; drift is none."""
    world, wall = World(MinimalEngine()), Wall()
    async with core_on(world, wall) as core:
        await anyio.sleep(2.5 * 3600)
        wall.ahead_s = 1.0
        await anyio.sleep(3600)
        assert core.statistics().clock_jumped_s is None
        wall.ahead_s = 86401.0
        await anyio.sleep(3 * 3600)
        assert [event.jumped_s for event in world.ears.of(ClockJumped)] == [pytest.approx(86400)]
        assert core.statistics().clock_jumped_s == pytest.approx(86400)
    wall.ahead_s = 0.0
    async with core_on(world, wall) as core:
        assert core.statistics().clock_jumped_s == pytest.approx(-86401, abs=3 * 3600 + 1)
    assert len(world.ears.of(ClockJumped)) == 2


def ticks(*readings: tuple[float, float]) -> list[float | None]:
    """Return what ticks answer, an hour of use apart unless said otherwise: pairs of elapsed time and wall clock."""
    known: Any = None
    answers: list[float | None] = []
    seen: float | None = None
    for elapsed_s, wall in readings:
        known, ticked = advance(
            known, Tick(wall=wall, keep_s=2 * BUCKET_S, seen=seen, elapsed_s=0.0 if seen is None else elapsed_s)
        )
        seen = ticked.lived_s
        answers.append(ticked.unused_before)
    return answers


async def test_nothing_is_unused_before_readings_cover_the_retention() -> None:
    """The first answer comes a bucket after the retention; it is the lowest reading since then."""
    hour = BUCKET_S
    assert ticks((0, 100.0), (hour, 90.0), (hour, 80.0), (hour, 70.0), (hour, 500.0)) == [None, None, None, 70.0, 70.0]
    assert ticks((0, 10.0), (hour, 20.0), (hour, 30.0), (hour, 40.0), (hour, 50.0)) == [None, None, None, 10.0, 20.0]


async def test_readings_within_a_bucket_count_by_the_lowest() -> None:
    """However often workers tick, as many readings are kept as there are hours in the retention."""
    known: Any = None
    for minute in range(600):
        known, ticked = advance(
            known, Tick(wall=1000.0 - minute % 7, keep_s=2 * BUCKET_S, seen=60.0 * max(0, minute - 1), elapsed_s=60.0)
        )
    assert ticked.unused_before == 994.0
    assert len(known["marks"]) == 4


async def test_workers_count_the_same_seconds() -> None:
    """Two that tick by turns do not make time in use pass twice as fast."""
    known: Any = None
    for hour in range(10):
        for seen in (3600.0 * hour, 3600.0 * hour):
            known, ticked = advance(known, Tick(wall=1.0, keep_s=DAY_S, seen=seen, elapsed_s=3600.0))
    assert ticked.lived_s == 36_000

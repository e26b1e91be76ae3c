"""The virtual loops: time is exact and always moves on, and a seed decides the order, the same one each time."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest
import trio
from trio._core import _run as trio_scheduler

from settlement_core.testing.clocks import virtual_backend


def order_of_ten(backend: str, seed: int | None) -> list[int]:
    """Return in which order ten tasks, ready at the same time, take their second step."""
    order: list[int] = []

    async def task(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        order.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(task, number)

    name, options = virtual_backend(backend, seed=seed)
    anyio.run(main, backend=name, backend_options=options)
    return order


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_seed_decides_which_task_goes_first(backend: str) -> None:
    """The same seed gives the same order, others give others."""
    orders = [order_of_ten(backend, seed) for seed in range(5)]
    assert orders == [order_of_ten(backend, seed) for seed in range(5)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == list(range(10)) for order in orders)


def test_without_a_seed_asyncio_keeps_its_order() -> None:
    """As a program finds it outside of tests."""
    assert order_of_ten("asyncio", None) == list(range(10))


def test_what_asyncio_promises_it_keeps_with_any_seed() -> None:
    """Plain callbacks run in the order of `call_soon`, and no task's step passes one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        order: list[str] = []

        async def task(number: int) -> None:
            order.append(f"task {number}")

        tasks = [asyncio.create_task(task(number)) for number in range(2)]
        for number in range(3):
            loop.call_soon(order.append, f"callback {number}")
        tasks += [asyncio.create_task(task(number)) for number in range(2, 4)]
        await asyncio.gather(*tasks)
        assert sorted(order[:2]) == ["task 0", "task 1"]
        assert order[2:5] == ["callback 0", "callback 1", "callback 2"]
        assert sorted(order[5:]) == ["task 2", "task 3"]

    for seed in range(10):
        _, options = virtual_backend("asyncio", seed=seed)
        anyio.run(main, backend="asyncio", backend_options=options)


def test_a_seeded_run_leaves_trio_as_it_was() -> None:
    """Later runs in the same process are scheduled as before, and chance goes on where it was."""

    def state() -> tuple[object, ...]:
        return trio_scheduler._r.getstate(), trio_scheduler._ALLOW_DETERMINISTIC_SCHEDULING

    before = state()
    order_of_ten("trio", 3)
    assert state() == before


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_hours_pass_at_once_and_exactly(backend: str) -> None:
    """Whoever sleeps wakes at the very time asked for."""

    async def main() -> list[float]:
        began, woke = anyio.current_time(), []
        for pause_s in (0.25, 3600.0, 90_000.0):
            await anyio.sleep(pause_s)
            woke.append(anyio.current_time() - began)
        return woke

    name, options = virtual_backend(backend)
    assert anyio.run(main, backend=name, backend_options=options) == [0.25, 3600.25, 93_600.25]


def test_two_who_wait_for_the_very_time_do_not_keep_it_from_coming() -> None:
    """Loops fire timers a nanosecond early; a clock that stood still there had both ask for it again, for ever."""
    wakings: list[int] = []

    async def wait(number: int, deadline: float) -> None:
        while anyio.current_time() < deadline:
            wakings.append(number)
            assert len(wakings) < 100, "time stands still"
            await anyio.sleep_until(deadline)

    async def main() -> None:
        just_before, deadline = 5.1499999999999995, 5.15
        await anyio.sleep_until(just_before)
        async with anyio.create_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(wait, number, deadline)
                # one pass of the loop apart: while one asks, the other's timer is fired
                await anyio.lowlevel.checkpoint()
        assert anyio.current_time() == deadline

    _, options = virtual_backend("asyncio")
    anyio.run(main, backend="asyncio", backend_options=options)
    assert len(wakings) <= 4


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_every_step_is_told(backend: str) -> None:
    """At least as many as the tasks take, the same number each time."""

    def steps_of(many: int) -> int:
        told: list[None] = []

        async def main() -> None:
            for _ in range(many):
                await anyio.lowlevel.checkpoint()

        name, options = virtual_backend(backend, on_step=lambda: told.append(None), seed=0)
        anyio.run(main, backend=name, backend_options=options)
        return len(told)

    assert steps_of(10) == steps_of(10)
    assert steps_of(30) - steps_of(10) >= 20


def test_a_trio_run_by_itself_takes_the_options_too() -> None:
    """They are trio's own."""
    _, options = virtual_backend("trio", seed=1)

    async def main() -> float:
        await trio.sleep(1000)
        return trio.current_time()

    assert trio.run(main, **options) >= 1000

"""Cutting at every step: what survives every cut passes, what one cut breaks is told so that it can be seen alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest

from settlement_core.testing import stepping
from settlement_core.testing.stepping import CutFailed, every_cancel_point

BOTH = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@dataclass
class Till:
    """Money, and a book that says who has been paid."""

    money: int = 10
    paid: list[str] = field(default_factory=list)
    handed: list[str] = field(default_factory=list)


async def pay_then_write(till: Till) -> None:
    """Hand the money over, and write that down too late."""
    if "alice" not in till.paid:
        await anyio.lowlevel.checkpoint()
        till.money -= 1
        till.handed.append("alice")
        await anyio.sleep(1)
        till.paid.append("alice")
        await anyio.lowlevel.checkpoint()


async def pay_and_write(till: Till) -> None:
    """Hand the money over and write that down, with nothing in between."""
    if "alice" not in till.paid:
        await anyio.sleep(1)
        till.money -= 1
        till.handed.append("alice")
        till.paid.append("alice")
        await anyio.lowlevel.checkpoint()


def paid_once(till: Till) -> None:
    """Raise if alice has more or less than 1."""
    assert till.money == 9, f"{till.money} left"
    assert till.handed == ["alice"]


@BOTH
@pytest.mark.parametrize("crash", [False, True])
def test_what_no_cut_harms_passes(backend: str, crash: bool) -> None:
    """Every step was cut once, the same number each time."""

    def cuts(stride: int = 1) -> int:
        survivors = copy.deepcopy if crash else None
        return every_cancel_point(
            pay_and_write, world=Till, check=paid_once, survivors=survivors, backend=backend, stride=stride
        )

    assert cuts() == cuts()
    assert cuts() >= 2
    assert cuts(stride=2) == (cuts() + 1) // 2


@BOTH
@pytest.mark.parametrize("crash", [False, True])
def test_a_harmful_cut_is_told_so_that_it_can_be_seen_alone(backend: str, crash: bool) -> None:
    """The message names loop, step, seed and manner; `only` fails in the same way, and elsewhere nothing does."""

    def cut(only: int | None = None) -> int:
        return every_cancel_point(
            pay_then_write,
            world=Till,
            check=paid_once,
            survivors=copy.deepcopy if crash else None,
            backend=backend,
            seed=5,
            only=only,
        )

    with pytest.raises(CutFailed, match="8 left") as found:
        cut()
    told = found.value
    assert (told.backend, told.seed, told.crashed) == (backend, 5, crash)
    assert f"a {'crash' if crash else 'cancellation'} at step {told.step} on {backend} does harm" in str(told)
    assert f"every_cancel_point(..., backend={backend!r}, seed=5, only={told.step})" in str(told)
    assert isinstance(told.__cause__, AssertionError)
    with pytest.raises(CutFailed):
        cut(only=told.step)
    assert cut(only=1) == 1
    assert cut(only=1000) == 0


@BOTH
def test_a_crash_cleans_nothing_up(backend: str) -> None:
    """What a cancelled life writes in `finally` a crashed one does not."""
    closed: list[bool] = []

    async def open_and_wait(till: Till) -> None:
        try:
            await anyio.sleep(1)
        finally:
            till.paid.append("closed")

    def check(till: Till) -> None:
        # the second life closes once, the first only if it was cancelled after it had begun
        closed.append(till.paid.count("closed") == 2)

    every_cancel_point(open_and_wait, world=Till, check=check, backend=backend)
    assert True in closed
    closed.clear()
    every_cancel_point(open_and_wait, world=Till, check=check, survivors=copy.deepcopy, backend=backend)
    assert closed.count(True) <= 1, "only where it had ended already"


@BOTH
def test_the_second_life_may_be_another(backend: str) -> None:
    """Where a scenario cannot be repeated, an author says what follows it."""

    async def write_what_was_handed(till: Till) -> None:
        await anyio.lowlevel.checkpoint()
        till.paid = list(till.handed)

    def check(till: Till) -> None:
        assert till.paid == till.handed

    cuts = every_cancel_point(pay_then_write, world=Till, check=check, peaceful=write_what_was_handed, backend=backend)
    assert cuts >= 3


@BOTH
def test_what_fails_by_itself_is_told_too(backend: str) -> None:
    """A scenario, or what takes the world's snapshot, may be wrong."""

    async def fail(till: Till) -> None:
        raise ValueError("the till is locked")

    with pytest.raises(CutFailed, match="the till is locked"):
        every_cancel_point(fail, world=Till, check=paid_once, backend=backend, only=1000)

    def cannot(till: Till) -> Till:
        raise ValueError("no copy")

    with pytest.raises(CutFailed, match="no copy"):
        every_cancel_point(pay_and_write, world=Till, check=paid_once, survivors=cannot, backend=backend)


def test_a_scenario_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many more steps than any should take."""
    monkeypatch.setattr(stepping, "MANY_STEPS", 20)

    async def go_on(till: Till) -> None:
        while till.money == 10:
            await anyio.sleep(1)
            if anyio.current_time() > 1e9:
                return

    async def rest(till: Till) -> None:
        await anyio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="after 20 steps on trio the scenario has not ended"):
        every_cancel_point(go_on, world=Till, check=lambda till: None, peaceful=rest)

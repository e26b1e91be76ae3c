"""Cuts a scenario at every single step, by a cancellation or by a crash, and checks the world it leaves behind.

What an author brings: a *world* (everything that outlives a cut: the store, the ledger, the connector's books), a
*scenario* that acts on it and can be repeated, and a *check* of what must hold once a second life has ended in peace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from settlement_core.testing.clocks import virtual_backend

__all__ = ["CutFailed", "every_cancel_point"]

W = TypeVar("W")

MANY_STEPS = 20_000
"""A scenario that takes more never ends."""


class CutFailed(AssertionError):
    """A world did not survive a cut. The message says how to see that cut alone; the cause is what was wrong.

    Attributes:
        backend, step, seed, crashed: which cut it was.
    """

    def __init__(self, problem: Exception, *, backend: str, step: int, seed: int, crashed: bool) -> None:
        self.backend = backend
        self.step = step
        self.seed = seed
        self.crashed = crashed
        how = "a crash" if crashed else "a cancellation"
        super().__init__(
            f"{how} at step {step} on {backend} does harm: {type(problem).__name__}: {problem}; "
            f"to see it alone: every_cancel_point(..., backend={backend!r}, seed={seed}, only={step})"
        )


@dataclass(slots=True)
class _Cut(Generic[W]):
    """Cuts one life at its `step`; `left` is what survives, None if the life ended before."""

    step: int
    world: W
    survivors: Callable[[W], W] | None
    seen: int = 0
    scope: anyio.CancelScope | None = None
    left: W | None = None
    problem: Exception | None = None

    def on_step(self) -> None:
        """Count a step; instruments must not raise, so what goes wrong is kept."""
        if self.scope is None:
            return
        self.seen += 1
        if self.seen != self.step:
            return
        try:
            self.left = self.world if self.survivors is None else self.survivors(self.world)
        except Exception as problem:  # noqa: BLE001 - raised again once the loop has ended
            self.problem = problem
        self.scope.cancel()

    async def live(self, scenario: Callable[[W], Awaitable[object]]) -> None:
        """Run the scenario until it ends or is cut."""
        with anyio.CancelScope() as self.scope:
            await scenario(self.world)
        self.scope = None


def every_cancel_point(
    scenario: Callable[[W], Awaitable[object]],
    *,
    world: Callable[[], W],
    check: Callable[[W], object],
    survivors: Callable[[W], W] | None = None,
    peaceful: Callable[[W], Awaitable[object]] | None = None,
    backend: str = "trio",
    seed: int = 0,
    only: int | None = None,
    stride: int = 1,
) -> int:
    """Cut a scenario at its 1st, 2nd, 3rd, … step until it ends before; return how many cuts that were.

    Each cut has a new world. After it a second life runs undisturbed, and then `check` must find the world in order.
    Everything happens under virtual time, in an order that the seed decides. Raises `CutFailed`.

    Args:
        scenario: a life; run again, on a world that has seen part of it, it must ask for the same.
        world: makes a new world.
        check: raises if the world is not as it should be.
        survivors: given, the life is not cancelled but crashes: nothing is cleaned up, and what this function
            returns at that step, say a deep copy of store and ledger, is the world that the second life finds.
        peaceful: the second life; the scenario again, if it is not given.
        backend: "trio" or "asyncio".
        seed: of the order in which tasks that are ready take their steps.
        only: cut at this step alone, as a failure tells.
        stride: for slow worlds, cut at every second, third, … step only.
    """

    def is_cut_at(step: int) -> bool:
        cut = _Cut(step, world(), survivors)
        try:
            _live_until_cut(cut, scenario, backend=backend, seed=seed)
            if cut.left is None:
                return False
            name, options = virtual_backend(backend, seed=seed)
            anyio.run(peaceful or scenario, cut.left, backend=name, backend_options=options)
            check(cut.left)
        except Exception as problem:
            raise CutFailed(problem, backend=backend, step=step, seed=seed, crashed=survivors is not None) from problem
        return True

    if only is not None:
        return int(is_cut_at(only))
    for cuts, step in enumerate(range(1, MANY_STEPS, stride)):
        if not is_cut_at(step):
            return cuts
    raise AssertionError(f"after {MANY_STEPS} steps on {backend} the scenario has not ended")


def _live_until_cut(cut: _Cut[W], scenario: Callable[[W], Awaitable[object]], *, backend: str, seed: int) -> None:
    name, options = virtual_backend(backend, on_step=cut.on_step, seed=seed)
    try:
        anyio.run(cut.live, scenario, backend=name, backend_options=options)
    except Exception:
        # what becomes of a process that has crashed already concerns nobody
        if cut.survivors is None or cut.left is None:
            raise
    if cut.problem is not None:
        raise cut.problem

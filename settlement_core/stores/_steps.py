"""Makes each wait of a store where its caller is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

__all__ = ["make_waits"]

T = TypeVar("T")


def make_waits(steps: Generator[Callable[[], Any], Any, T]) -> T:
    """Go through a generator as `SteppedStore.apply_in_steps` makes them, and return its result."""
    try:
        wait = next(steps)
        while True:
            try:
                answer = wait()
            except BaseException as problem:  # noqa: BLE001 - it is the store's to clean up after
                wait = steps.throw(problem)
            else:
                wait = steps.send(answer)
    except StopIteration as finished:
        result: T = finished.value
        return result

"""Makes each wait of a store where its caller is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

__all__ = ["Steps", "make_waits"]

T = TypeVar("T")

Steps: TypeAlias = Generator[Callable[[], Any], Any, T]
"""What `SteppedStore.apply_in_steps` makes: yields each wait, is sent what it returned, returns a T."""


def make_waits(steps: Steps[T], *, make: Callable[[Callable[[], Any]], Any] = lambda wait: wait()) -> T:
    """Go through the steps, making each wait here, unless said otherwise, and return their result."""
    try:
        wait = next(steps)
        while True:
            try:
                answer = make(wait)
            except BaseException as problem:  # noqa: BLE001 - it is the store's to clean up after
                wait = steps.throw(problem)
            else:
                wait = steps.send(answer)
    except StopIteration as finished:
        result: T = finished.value
        return result

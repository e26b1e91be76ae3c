"""Whatever is compared has its turns in one run, one after the other, so that the machine's moods strike all alike."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Figures", "in_fresh_process", "in_turn", "say"]

P = ParamSpec("P")
T = TypeVar("T")

Figures = dict[str, float]
"""What was measured, by what it is."""


def in_turn(turns: Mapping[str, Callable[[], Figures]], *, rounds: int) -> dict[str, Figures]:
    """Give everybody a turn in each round, and return everybody's medians."""
    found: dict[str, list[Figures]] = {name: [] for name in turns}
    for number in range(rounds):
        for name, measure in turns.items():
            figures = measure()
            found[name].append(figures)
            told = ", ".join(f"{what} {value:,.4g}" for what, value in figures.items())
            say(f"round {number + 1} of {rounds}, {name}: {told}")
    return {
        name: {what: statistics.median(figures[what] for figures in every) for what in every[0]}
        for name, every in found.items()
    }


def in_fresh_process(measure: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Measure in a process of its own: nobody inherits another's memory, caches or rubbish."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *args, **kwargs).result()


def say(progress: str) -> None:
    """Tell how far we are, beside the results."""
    print(progress, file=sys.stderr, flush=True)

"""Whether we have become much slower: a short form of the measurements, held against ratios that were committed.

Only ratios within one run count, never times, and only to those who make as much durable. A ratio is
taken for a regression if it is below half of the committed one in each of three tries: noise does that to one try, not
to the same ratio three times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.accept import measure_accept
from benchmarks.contenders import FLOOR, ORIGINAL, Contender
from benchmarks.credit import measure_credit
from benchmarks.embedded import measure_embedded
from benchmarks.figures import Row
from benchmarks.growth import measure_growth
from benchmarks.settle import measure_settle
from benchmarks.turns import say

__all__ = ["COMMITTED", "check", "short_forms"]

COMMITTED = Path(__file__).parent / "check.json"

TOLERATED = 0.5

TRIES = 3

OURS = [Contender("uvicorn", "sqlite")]

Ratios = dict[tuple[str, str, str, str], float]
"""By question, workload, subject, and whom it is compared with."""


def short_forms(rounds: int) -> dict[str, Callable[[Path], Iterator[Row]]]:
    """Return what is measured, by what it is."""
    return {
        "accept": lambda folder: measure_accept(
            folder,
            servers=["hypercorn-trio", "uvicorn"],
            stores=["sqlite"],
            accounts=[100],
            rates=[],
            seconds=1,
            rounds=rounds,
        ),
        "settle": lambda folder: measure_settle(folder, ours=OURS, accounts=[100], seconds=1, rounds=rounds),
        "embedded": lambda folder: measure_embedded(
            folder, backends=["trio"], accounts=[100], seconds=1, rounds=rounds
        ),
        "credit": lambda folder: measure_credit(
            folder, ours=OURS, accounts=[1], seconds=1, backlog=1000, rounds=rounds
        ),
        "growth": lambda folder: measure_growth(folder, rows=[0, 100_000], seconds=1, rounds=rounds),
    }


def check(measures: Mapping[str, Callable[[], Iterable[Row]]], committed: Iterable[Row]) -> list[str]:
    """Measure, again where a ratio is far too low, and return a sentence for each that stays so."""
    expected = _our_ratios(committed)
    told = []
    for name, measure in measures.items():
        low = set(expected)
        found: Ratios = {}
        for number in range(TRIES):
            found = _our_ratios(measure())
            known = {key for key in expected if key[0] == name}
            if unknown := found.keys() ^ known:
                raise LookupError(
                    f"either committed or measured, but not both: {sorted(unknown)}; write {COMMITTED.name} again"
                )
            low &= {key for key, ratio in found.items() if ratio < TOLERATED * expected[key]}
            if not low:
                break
            say(f"{name}: {len(low)} ratios are below {TOLERATED:g} of the committed ones, try {number + 1} of {TRIES}")
        told += [
            f"{question}, {workload}: {subject} is {found[question, workload, subject, other]:.2f} of {other}, "
            f"was {expected[question, workload, subject, other]:.2f}"
            for question, workload, subject, other in sorted(low)
        ]
    return told


def _our_ratios(rows: Iterable[Row]) -> Ratios:
    """Return ours, to whom makes as much durable: how busy the disk is strikes both alike, or neither."""
    rows = list(rows)
    durability = {(row.workload, row.subject): row.durability for row in rows}
    return {
        (row.question, row.workload, row.subject, other): ratio
        for row in rows
        for other, ratio in row.ratios.items()
        if not row.subject.startswith(ORIGINAL) and not row.subject.endswith(FLOOR)
        if durability.get((row.workload, other), "none" if other == "its floor" else row.durability) == row.durability
    }

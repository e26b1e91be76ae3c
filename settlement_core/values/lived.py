"""How long a store has been in use, whatever wall clocks do.

Rows carry wall-clock stamps. Each tick records what the wall clock read, in order of the seconds of use: whatever was
used within the last `keep_s` of these seconds has a stamp at or above the lowest of the readings recorded since.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from settlement_core.values.commands import Tick
from settlement_core.values.results import Ticked

__all__ = ["BUCKET_S", "advance"]

BUCKET_S = 3600.0
"""Seconds of use that share one reading, the lowest: a week of them is a few kilobytes."""

OLD_BUCKET_S = 24 * BUCKET_S
"""The same for readings that only tell how old the history is: a year of them is a few kilobytes."""


def advance(known: Any, command: Tick) -> tuple[Any, Ticked]:
    """Return the JSON value to keep, and the answer; `known` is the value kept before, None at the first tick."""
    if known is None:
        lived, marks = 0.0, []
    else:
        lived, marks = known["lived_s"], [list(mark) for mark in known["marks"]]
    # workers count the same seconds, so each only says how far they are: they are not added up
    if command.seen is not None:
        lived = max(lived, command.seen + command.elapsed_s)
    if marks and lived - marks[-1][0] < BUCKET_S:
        marks[-1][1] = min(marks[-1][1], command.wall)
    else:
        marks.append([lived, command.wall])
    unused_before = _lowest_since(marks, lived - command.keep_s)
    ended_before = _lowest_since(marks, lived - command.history_s) if command.history_s else None
    kept = {"lived_s": lived, "wall": command.wall, "marks": _needed(marks, lived, command)}
    return kept, Ticked(lived_s=lived, unused_before=unused_before, ended_before=ended_before)


def _lowest_since(marks: list[list[float]], since: float) -> float | None:
    """Return the lowest reading of all from then on, None if none is that old."""
    begun, later = _split(marks, since)
    return min(wall for _, wall in [*begun[-1:], *later]) if begun else None


def _needed(marks: list[list[float]], lived: float, command: Tick) -> list[list[float]]:
    """Return the readings that are still needed: those since the keys that are kept, and one a day of the history."""
    begun, later = _split(marks, lived - command.keep_s)
    recent = [*begun[-1:], *later]
    if not command.history_s:
        return recent
    days = groupby(begun[:-1], key=lambda mark: mark[0] // OLD_BUCKET_S)
    older = [[first[0], min(wall for _, wall in (first, *rest))] for _, (first, *rest) in days]
    begun, later = _split(older, lived - command.history_s)
    return [*begun[-1:], *later, *recent]


def _split(marks: list[list[float]], since: float) -> tuple[list[list[float]], list[list[float]]]:
    """Return the buckets that had begun before then, and the others."""
    # a worker may stamp by a reading of the bucket before: it counts as one of those since
    begun = [mark for mark in marks if mark[0] <= since - BUCKET_S]
    return begun, marks[len(begun) :]

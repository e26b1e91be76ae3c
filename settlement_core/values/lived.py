"""How long a store has been in use, whatever wall clocks do.

Rows carry wall-clock stamps. Each tick records what the wall clock read, in order of the seconds of use: whatever was
used within the last `keep_s` of these seconds has a stamp at or above the lowest of the readings recorded since.
"""

from __future__ import annotations

from typing import Any

from settlement_core.values.commands import Tick
from settlement_core.values.results import Ticked

__all__ = ["BUCKET_S", "advance"]

BUCKET_S = 3600.0
"""Seconds of use that share one reading, the lowest: a week of them is a few kilobytes."""


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
    # a worker may stamp by a reading of the bucket before: one more is kept
    begun = [mark for mark in marks if mark[0] <= lived - command.keep_s - BUCKET_S]
    marks = [*begun[-1:], *marks[len(begun) :]]
    unused_before = min(wall for _, wall in marks) if begun else None
    kept = {"lived_s": lived, "wall": command.wall, "marks": marks}
    return kept, Ticked(lived_s=lived, unused_before=unused_before)

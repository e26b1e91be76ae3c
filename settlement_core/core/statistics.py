"""What a running core tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from settlement_core.core.journal import JournalStatistics

__all__ = ["CoreStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreStatistics:
    """A snapshot of a running core: `partitions_held` of `partitions` are its part of the store it may share.

    `clock_jumped_s` is how far the wall clock jumped when it last did, None if it did not since the core was opened.
    `asset` is the label of what the engine settles in, such as "EUR"; empty if it says none.
    """

    engine: str
    verifiable: bool
    recovered: bool
    stopping: bool
    active_lanes: int
    halted: dict[str, str]
    journal: JournalStatistics
    worker: str
    partitions: int
    partitions_held: int
    clock_jumped_s: float | None
    asset: str = ""

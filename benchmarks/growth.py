"""Growth: whether what was settled long ago makes it slower to settle more.

On fsynced SQLite, without HTTP, among 100 accounts that share the history. Keys are far from each other, as random ones
are, so that each looks into another corner of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio

from benchmarks.clients import Clients
from benchmarks.embedded import live
from benchmarks.figures import Row
from benchmarks.filling import fill_history
from benchmarks.turns import Figures, in_fresh_process, in_turn, say
from settlement_core import collect_garbage_rarely, open_sqlite_store

__all__ = ["measure_growth"]

ACCOUNTS = 100


def measure_growth(
    folder: Path, *, rows: Sequence[int] = (0, 1_000_000, 10_000_000), seconds: float = 3, rounds: int = 3
) -> Iterator[Row]:
    """Yield a row for each number of settled requests; the first number is what the others are compared with."""
    paths = {count: folder / f"history-{count}.db" for count in rows}
    for count, path in paths.items():
        say(f"writing a history of {count:,} requests")
        fill_history(path, count, accounts=ACCOUNTS)
    turns = {f"{count:,} rows": partial(in_fresh_process, _settle, path, seconds) for count, path in paths.items()}
    found = in_turn(turns, rounds=rounds)
    first = next(iter(found))
    for name, figures in found.items():
        yield Row(
            question="growth",
            workload=f"without HTTP, sqlite, trio, 64 clients, {ACCOUNTS} accounts",
            subject=name,
            durability="fsync always",
            figures=figures,
            ratios={first: figures["settlements/s"] / found[first]["settlements/s"]},
        )


def _settle(path: Path, seconds: float) -> Figures:
    with closing(open_sqlite_store(path)) as store:
        collect_garbage_rarely()
        return anyio.run(live, store, Clients(ACCOUNTS), seconds, backend="trio")

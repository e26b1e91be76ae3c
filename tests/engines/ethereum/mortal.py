"""`settlement-core` in a process that can be told to end itself by SIGKILL at a certain write to its store.

    python tests/engines/ethereum/mortal.py FILE serve …

While FILE exists, it holds a number, "before" or "after", and perhaps the name of a command: at so many batches with
such a command, or any write, in them, counted since FILE was first seen, FILE is removed and the process ends, right
before the batch is written or right after it is durable, and before anybody is told. So there is one kill for one
file, and the next life goes on in peace.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from settlement_core.cli import main
from settlement_core.stores._steps import Steps, make_waits
from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values.commands import Command, Result

QUERIES = {"Overview", "Due", "History", "Get", "Suspense", "Workers", "Share", "Prune", "Values", "Entries"}


class Fate:
    """Stands between the store and its writes."""

    def __init__(self, orders: Path) -> None:
        self.orders = orders
        self.seen = 0

    def meddle(self) -> None:
        """Have every store of this process obey the orders."""
        written = SqliteStore.apply_in_steps

        def apply_in_steps(store: SqliteStore, commands: Sequence[Command[Any]]) -> Steps[list[Result]]:
            when = self._when({type(command).__name__ for command in commands})
            if not when:
                return (yield from written(store, commands))
            if when == "after":
                make_waits(written(store, commands))
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        SqliteStore.apply_in_steps = apply_in_steps  # type: ignore[method-assign,assignment]

    def _when(self, names: set[str]) -> str:
        """Return whether to end before or after a batch of such commands, if at all; those orders are carried out."""
        try:
            number, when, *wanted = self.orders.read_text().split()
            if not names & set(wanted or names - QUERIES):
                return ""
            self.seen += 1
            if self.seen < int(number):
                return ""
            self.orders.unlink()
        except FileNotFoundError:
            return ""
        return when


if __name__ == "__main__":
    Fate(Path(sys.argv.pop(1))).meddle()
    main()

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
from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values.commands import Command, Result

QUERIES = {"Overview", "Due", "History", "Get", "Suspense", "Workers", "Share", "Prune", "Values", "Entries"}


class Fate:
    """Stands between the store and its writes."""

    def __init__(self, orders: Path) -> None:
        self.orders = orders
        self.apply = SqliteStore.apply
        self.seen = 0

    def meddle(self) -> None:
        """Have every store of this process obey the orders."""

        def apply(store: SqliteStore, commands: Sequence[Command[Any]]) -> list[Result]:
            names = {type(command).__name__ for command in commands}
            try:
                number, when, *wanted = self.orders.read_text().split()
                if not names & set(wanted or names - QUERIES):
                    return self.apply(store, commands)
                self.seen += 1
                if self.seen < int(number):
                    return self.apply(store, commands)
                self.orders.unlink()
            except FileNotFoundError:
                return self.apply(store, commands)
            if when == "after":
                self.apply(store, commands)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        SqliteStore.apply = apply  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    Fate(Path(sys.argv.pop(1))).meddle()
    main()

"""Stores that misbehave on purpose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.values.commands import Command, Result
from settlement_core.values.errors import StoreUnavailable


@dataclass
class FlakyStore:
    """A memory store that raises what `failures` holds, first to last, before (or after) applying."""

    failures: list[Exception] = field(default_factory=list)
    apply_first: bool = False
    batches: list[list[Command[Any]]] = field(default_factory=list)
    inner: MemoryStore = field(default_factory=create_memory_store)
    threaded: bool = False
    slow_s: float = 0.0

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply, or fail."""
        self.batches.append(list(commands))
        if self.slow_s:
            time.sleep(self.slow_s)
        failure = self.failures.pop(0) if self.failures else None
        results = self.inner.apply(commands) if failure is None or self.apply_first else []
        if failure is not None:
            raise failure
        return results

    def close(self) -> None:
        """Nothing to give back."""


def unavailable(times: int) -> list[Exception]:
    """Return that many passing failures."""
    return [StoreUnavailable("gone for a moment") for _ in range(times)]

"""Stores that misbehave on purpose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values.commands import Command, Due, Nudge, Result, Share
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.results import Shares
from tests.redis.support import fresh_namespace, store_on


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


class OnTheLoop:
    """A store called on the loop itself, because virtual time does not wait for threads."""

    threaded = False

    def __init__(self, store: SqliteStore) -> None:
        self.apply = store.apply
        self.close = store.close


def _alone(command: Command[Any]) -> Command[Any]:
    """Return what a store of several partitions is asked by a core that knows of one."""
    if isinstance(command, Due):
        return replace(command, partition=None)
    return Nudge(account_id="") if isinstance(command, Share) else command


class LoneRedis:
    """A store in Redis for one core alone, called on the loop itself; a copy of it is a copy of the books.

    It answers a round of sharing as a store for one process does: leases run out by the server's clock, and virtual
    time has none of that.
    """

    threaded = False

    def __init__(self, url: str) -> None:
        self._url = url
        self._namespace = fresh_namespace()
        self._store = store_on(url, namespace=self._namespace)

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply, but share with nobody."""
        results = self._store.apply([_alone(command) for command in commands])
        alone = Shares(shared=False, partitions=1, leases={0: ""})
        return [
            alone if isinstance(command, Share) else result for command, result in zip(commands, results, strict=True)
        ]

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> LoneRedis:
        copy = LoneRedis(self._url)
        with redis.Redis.from_url(self._url, decode_responses=True) as client:
            for key in client.scan_iter(f"{{{self._namespace}*", count=1000):
                if key.endswith(("}:settings", "}:mark")):
                    continue  # by which the copy knows that it is itself
                client.copy(key, key.replace(self._namespace, copy._namespace, 1), replace=True)
        return copy

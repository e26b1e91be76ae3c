"""A store in memory that several cores of one process share, and workers on it: what a real shared store does."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import anyio

from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.values.amounts import total
from settlement_core.values.commands import Command, Due, History, Nudge, Overview, Result, Share, Shares, Workers
from settlement_core.values.errors import LeaseLost, LocalError, StoreUnavailable
from settlement_core.values.partitions import partition_of
from settlement_core.values.records import AccountOverview, Attempt, WorkerOverview
from settlement_core.values.results import Applied, Ring
from tests.core.worlds import Ears, FakeConnector

PARTITIONS = 8


@dataclass
class Lease:
    """Who looks after one partition. A token is never given twice, nor for two partitions."""

    partition: int
    owner: str = ""
    number: int = 0
    until: float = 0.0
    rings: dict[tuple[str, bool], int] = field(default_factory=dict)
    rung: int = 0

    @property
    def token(self) -> str:
        """What its owner has to show."""
        return f"{self.partition}.{self.number}:{self.owner}" if self.owner else ""


class SharedBooks:
    """One store, by one clock, for any number of workers; each has its own `worker_store`."""

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self.inner = create_memory_store()
        self.leases = [Lease(number) for number in range(PARTITIONS)]
        self.workers: dict[str, float] = {}
        self.hints: dict[str, threading.Event] = {}
        self._clock = clock
        self._latest: float | None = None
        self._quiet_until = 0.0

    def worker_store(self, worker: str, *, hints: bool = False) -> WorkerStore:
        """Return the store as one worker sees it; without `hints` it hears of rings from its rounds only."""
        return HintedStore(self, worker) if hints else WorkerStore(self, worker)

    def apply(self, worker: str, command: Command[Any]) -> Result:
        """Carry out a command that a worker asks."""
        match command:
            case Share():
                return self._share(command)
            case Workers():
                return [self._overview(name) for name in sorted(self.workers)]
            case Nudge(account_id=account_id):
                return Applied(changed=self._ring(worker, account_id, nudge=True))
            case Due(partition=int(partition)):
                found = self.inner.apply([replace(command, partition=None, limit=1_000_000)])[0]
                return [name for name in found if partition_of(name, PARTITIONS) == partition][: command.limit]
        name: str = getattr(command, "account_id", None) or ""
        token = getattr(command, "lease", "")
        if token and token != self.leases[partition_of(name, PARTITIONS)].token:
            return LeaseLost(name)
        result = self.inner.apply([command])[0]
        account = self.inner._books.accounts.get(name)
        queries = isinstance(command, Overview | History)
        if account is not None and account.is_due() and not queries and not isinstance(result, LocalError):
            self._ring(worker, account.account_id, nudge=False)
        return result

    def revoke(self, account_id: str) -> None:
        """Have the lease on the account's partition run out now, and be free to take."""
        lease = self.leases[partition_of(account_id, PARTITIONS)]
        lease.owner, lease.until = "", 0.0

    def give(self, account_id: str, worker: str) -> None:
        """Have another worker take the account's partition now."""
        lease = self.leases[partition_of(account_id, PARTITIONS)]
        lease.owner, lease.until, lease.number = worker, self._clock() + 1000, lease.number + 1

    def hint(self, *workers: str) -> None:
        """Have these workers, or all, look what there is."""
        for name in workers or tuple(self.hints):
            if name in self.hints:
                self.hints[name].set()

    def owner(self, account_id: str) -> str:
        """Return whose the account is."""
        return self.leases[partition_of(account_id, PARTITIONS)].owner

    def held(self) -> list[int]:
        """Return how many partitions each worker holds, in order of their ids."""
        return [sum(lease.owner == name for lease in self.leases) for name in sorted(self.workers)]

    def _share(self, command: Share) -> Shares:
        now, worker, lasts_s = self._clock(), command.worker, command.lease_s
        if self._latest is not None and now - self._latest > lasts_s / 2:
            self._quiet_until = now + lasts_s
        self._latest = now
        if worker not in self.workers or command.leaving or command.yielding:
            self.hint()
        self.workers[worker] = now + lasts_s
        self.workers = {name: until for name, until in self.workers.items() if until > now}
        if command.leaving:
            del self.workers[worker]
        mine = {number: lease for number, lease in enumerate(self.leases) if lease.owner == worker}
        for number, lease in mine.items():
            lease.until = now + lasts_s
            if command.leaving or number in command.yielding:
                lease.owner, lease.until = "", 0.0
            lease.rings = {k: n for k, n in lease.rings.items() if n > command.heard.get(number, 0)}
        fair = self._fair_share(command, now)
        for number, lease in enumerate(self.leases):
            free = not lease.owner or (lease.until <= now and now >= self._quiet_until)
            if len(self._held_by(worker)) < fair and free and number not in command.yielding:
                lease.owner, lease.until, lease.number = worker, now + lasts_s, lease.number + 1
        held = self._held_by(worker)
        rings = [Ring(n, number, name, nudge) for n in held for (name, nudge), number in self.leases[n].rings.items()]
        return Shares(
            shared=True,
            partitions=PARTITIONS,
            leases={number: self.leases[number].token for number in held},
            excess=max(0, len(held) - fair),
            rings=tuple(rings),
        )

    def _fair_share(self, command: Share, now: float) -> int:
        """Return how many partitions are a worker's part; one that is to be alone takes the lead, if that is free."""
        if command.leaving:
            return 0
        if command.alone:
            lead = self.leases[partition_of("", PARTITIONS)]
            if not lead.owner or (lead.until <= now and now >= self._quiet_until):
                lead.owner, lead.until, lead.number = command.worker, now + command.lease_s, lead.number + 1
            return PARTITIONS if lead.owner == command.worker else 0
        position, others = sorted(self.workers).index(command.worker), len(self.workers)
        return PARTITIONS // others + (position < PARTITIONS % others)

    def _held_by(self, worker: str) -> list[int]:
        return [number for number, lease in enumerate(self.leases) if lease.owner == worker]

    def _ring(self, worker: str, account_id: str, *, nudge: bool) -> bool:
        lease = self.leases[partition_of(account_id, PARTITIONS)]
        if lease.owner in {"", worker}:
            return False
        lease.rung += 1
        lease.rings[account_id, nudge] = lease.rung
        self.hint(lease.owner)
        return True

    def _overview(self, worker: str) -> WorkerOverview:
        return WorkerOverview(
            worker_id=worker,
            partitions=tuple(self._held_by(worker)),
            expires_in_s=self.workers[worker] - self._clock(),
        )


class WorkerStore:
    """One worker's way to the shared books; while `blocked` it does not answer.

    `after` is told of every command that was applied, before its answer is on its way.
    """

    threaded = False

    def __init__(self, books: SharedBooks, worker: str) -> None:
        self.books = books
        self.worker = worker
        self.blocked = False
        self.after: Callable[[Command[Any], Result], None] = lambda command, result: None

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply a batch."""
        if self.blocked:
            raise StoreUnavailable("cut off")
        results = []
        for command in commands:
            results.append(self.books.apply(self.worker, command))
            self.after(command, results[-1])
        return results

    def close(self) -> None:
        """Nothing to give back."""


class HintedStore(WorkerStore):
    """Hears of rings at once, in real time."""

    def __init__(self, books: SharedBooks, worker: str) -> None:
        super().__init__(books, worker)
        books.hints[worker] = threading.Event()

    def hear(self, worker: str, timeout_s: float) -> bool:
        """Wait for a ring."""
        assert worker == self.worker
        rung = self.books.hints[worker].wait(timeout_s)
        self.books.hints[worker].clear()
        return rung


@dataclass
class Fleet:
    """Workers on shared books, each with its own engine, connector and ears; engines may share a ledger."""

    config: CoreConfig = field(default_factory=CoreConfig)
    books: SharedBooks = field(default_factory=SharedBooks)
    stores: dict[str, WorkerStore] = field(default_factory=dict)
    ears: dict[str, Ears] = field(default_factory=dict)
    connectors: dict[str, FakeConnector] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)
    wall_ahead_s: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def worker(
        self, name: str, engine: Any, *, hints: bool = False, store: WorkerStore | None = None
    ) -> AsyncIterator[Core]:
        """Run one worker for the block."""
        self.stores[name] = store or self.books.worker_store(name, hints=hints)
        self.ears.setdefault(name, Ears())
        self.connectors.setdefault(name, FakeConnector())

        def connect(services: Any) -> Any:
            self.services[name] = services
            return engine

        async with open_core(
            connect,
            store=self.stores[name],
            connector=self.connectors[name],
            config=self.config,
            observer=self.ears[name],
            now=lambda: 1_000_000.0 + anyio.current_time() + self.wall_ahead_s.get(name, 0.0),
            chance=lambda: 0.0,
            worker=name,
        ) as core:
            yield core

    def account(self, account_id: str) -> AccountOverview:
        """Return the books of an account, having checked the equation of both directions."""
        (overview,) = self._ask(Overview(account_id=account_id))
        for t in (overview.outgoing, overview.incoming):
            assert t.entered == total([t.queued, t.open, t.settled, t.parked])
        assert isinstance(overview, AccountOverview)
        return overview

    def attempts(self) -> list[Attempt]:
        """Return all attempts, oldest first."""
        found: list[Attempt] = self._ask(History(limit=10_000))
        return found

    def _ask(self, command: Command[Any]) -> Any:
        store: MemoryStore = self.books.inner
        return store.apply([command])[0]


def names_in(partition: int) -> Iterator[str]:
    """Yield names of accounts that belong to a partition."""
    return (name for name in (f"account{n}" for n in count()) if partition_of(name, PARTITIONS) == partition)


NAMES = [next(names_in(partition)) for partition in range(PARTITIONS)]
"""One account of each partition, in their order."""

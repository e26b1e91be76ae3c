"""Stores in memory that survive their workers: reached by one worker or shared by several, and failing as told.

What was applied is durable, whatever becomes of who asked for it; what a worker asks after its end is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from settlement_core.stores.memory import create_memory_store
from settlement_core.testing.lives.network import Faults
from settlement_core.testing.lives.script import Mishap, Place
from settlement_core.values.commands import (
    Claim,
    Claimed,
    Close,
    Command,
    Due,
    Hold,
    Note,
    Nudge,
    Overview,
    Result,
    Ring,
    Share,
    Shares,
)
from settlement_core.values.errors import LeaseLost, LocalError, StoreUnavailable
from settlement_core.values.partitions import partition_of
from settlement_core.values.results import Applied

__all__ = ["PARTITIONS", "PowerLost", "SharedBooks", "WorkerStore"]

PARTITIONS = 2


class PowerLost(Exception):
    """The worker is no more; nothing it does has any effect."""


@dataclass(slots=True)
class _Lease:
    owner: str = ""
    number: int = 0
    until: float = 0.0
    rings: dict[tuple[str, bool], int] = field(default_factory=dict)
    rung: int = 0

    @property
    def token(self) -> str:
        return f"{self.number}:{self.owner}" if self.owner else ""


class SharedBooks:
    """What one side knows for ever. With `shared`, any number of workers hold leases on its partitions."""

    def __init__(self, clock: Callable[[], float], *, shared: bool) -> None:
        self.inner = create_memory_store()
        self.shared = shared
        self._clock = clock
        self._leases = [_Lease() for _ in range(PARTITIONS)]
        self._workers: dict[str, float] = {}

    def ask(self, command: Command[Any]) -> Any:
        """Answer whoever looks at the books from outside."""
        return self.inner.apply([command])[0]

    def apply(self, worker: str, command: Command[Any]) -> Result:
        """Carry out what a worker asks."""
        if not self.shared:
            return self.ask(command)
        match command:
            case Share():
                return self._share(command)
            case Nudge(account_id=account_id):
                return Applied(changed=self._ring(worker, account_id, nudge=True))
            case Due(partition=int(partition)):
                found = self.ask(replace(command, partition=None, limit=1000))
                return [name for name in found if partition_of(name, PARTITIONS) == partition][: command.limit]
        name: str = getattr(command, "account_id", None) or ""
        token = getattr(command, "lease", "")
        if token and token != self._lease(name).token:
            return LeaseLost(name)
        result = self.ask(command)
        if name and not isinstance(result, LocalError) and name in self.ask(Due(limit=1000)):
            self._ring(worker, name, nudge=False)
        return result

    def is_held(self, account_id: str, worker: str) -> bool:
        """Tell whether the account is this worker's, as the store sees it."""
        lease = self._lease(account_id)
        return not self.shared or (lease.owner == worker and lease.until > self._clock())

    def _lease(self, account_id: str) -> _Lease:
        return self._leases[partition_of(account_id, PARTITIONS)]

    def _share(self, command: Share) -> Shares:
        now, worker = self._clock(), command.worker
        self._workers = {name: until for name, until in self._workers.items() if until > now}
        self._workers[worker] = now + command.lease_s
        if command.leaving:
            del self._workers[worker]
        for number, lease in enumerate(self._leases):
            if lease.owner == worker:
                lease.until = now + command.lease_s
                lease.rings = {k: n for k, n in lease.rings.items() if n > command.heard.get(number, 0)}
                if command.leaving or number in command.yielding:
                    lease.owner, lease.until = "", 0.0
        fair = self._fair_share(command, now)
        for number, lease in enumerate(self._leases):
            free = (not lease.owner or lease.until <= now) and number not in command.yielding
            if free and len(self._held_by(worker)) < fair:
                lease.owner, lease.until, lease.number = worker, now + command.lease_s, lease.number + 1
        held = self._held_by(worker)
        return Shares(
            shared=True,
            partitions=PARTITIONS,
            leases={number: self._leases[number].token for number in held},
            excess=max(0, len(held) - fair),
            rings=tuple(
                Ring(place, number, name, nudge)
                for place in held
                for (name, nudge), number in self._leases[place].rings.items()
            ),
        )

    def _fair_share(self, command: Share, now: float) -> int:
        if command.leaving:
            return 0
        if command.alone:
            lead = self._lease("")
            if not lead.owner or lead.until <= now:
                lead.owner, lead.until, lead.number = command.worker, now + command.lease_s, lead.number + 1
            return PARTITIONS if lead.owner == command.worker else 0
        position, many = sorted(self._workers).index(command.worker), len(self._workers)
        return PARTITIONS // many + (position < PARTITIONS % many)

    def _held_by(self, worker: str) -> list[int]:
        return [number for number, lease in enumerate(self._leases) if lease.owner == worker]

    def _ring(self, worker: str, account_id: str, *, nudge: bool) -> bool:
        lease = self._lease(account_id)
        if lease.owner in {"", worker}:
            return False
        lease.rung += 1
        lease.rings[account_id, nudge] = lease.rung
        return True


class WorkerStore:
    """One worker's way to its side's books. `lost` once the worker has ended; it then reaches nothing any more."""

    threaded = False

    def __init__(
        self,
        books: SharedBooks,
        worker: str,
        *,
        side: str,
        faults: Faults,
        power_fails: Callable[[], None],
        blame: Callable[[str], None],
    ) -> None:
        self._books = books
        self._worker = worker
        self._side = side
        self._faults = faults
        self._power_fails = power_fails
        self._blame = blame
        self.lost = False
        self.unreachable = False

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply a batch, or part of it, or fail."""
        if self.lost:
            raise PowerLost
        if self.unreachable:
            raise StoreUnavailable("nobody answers")
        fault = self._faults.draw(self._side, Place.STORE)
        if fault is None:
            return self._carry_out(commands)
        parts = {Mishap.BEFORE: 0, Mishap.AFTER: len(commands)}
        self._carry_out(commands[: parts.get(fault.mishap, fault.extra % (len(commands) + 1))])
        if fault.mishap is Mishap.POWER_LOSS:
            self._power_fails()
            raise PowerLost
        raise StoreUnavailable(f"the batch {fault.mishap}")

    def close(self) -> None:
        """Do nothing."""

    def _carry_out(self, commands: Sequence[Command[Any]]) -> list[Result]:
        results = []
        for command in commands:
            if self._books.shared and isinstance(command, Claim | Note | Close | Hold) and not command.lease:
                self._blame(f"{self._worker} records {command} without showing a lease")
            paused = isinstance(command, Claim) and self._is_paused(command.account_id)
            results.append(self._books.apply(self._worker, command))
            if paused and isinstance(results[-1], Claimed) and results[-1].fresh:
                self._blame(f"{self._worker} has begun {results[-1].attempt}, while the account is paused")
        return results

    def _is_paused(self, account_id: str) -> bool:
        return any(account.paused for account in self._books.ask(Overview(account_id=account_id)))

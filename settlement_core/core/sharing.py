"""Which accounts this worker looks after, where several share a store.

Nothing is paid under a lease that others may have taken: the store refuses what is recorded under a lost lease, and
nothing is handed to a ledger or connector while our own clocks say that the lease may have run out.

A store for one process answers the first round with everything, for ever, and no further round is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from settlement_core.abc import SharedStore, Store
from settlement_core.core.config import CoreConfig
from settlement_core.core.journal import Handle, Journal
from settlement_core.values.commands import Ring, Share, Shares
from settlement_core.values.errors import JournalEnded, LeadershipLost, LeaseLost
from settlement_core.values.partitions import partition_of

__all__ = ["Change", "Sharing", "open_sharing"]

_SHORTEST_S = 0.01
"""Between two rounds: workers that ring each other all the time must not keep the store busy with that alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a round of sharing changed.

    Attributes:
        lost: partitions held no more, or no more under the same lease.
        gained: partitions held under a new lease.
        kept: partitions that need not be given up after all.
        yielding: partitions to be given up as soon as nothing is under way there.
        rings: what other workers left to do.
        number: of the round's command in the journal, to compare with that of claims.
    """

    lost: frozenset[int]
    gained: frozenset[int]
    kept: frozenset[int]
    yielding: frozenset[int]
    rings: tuple[Ring, ...]
    number: int


class Sharing:
    """What this worker holds. `run` keeps it; the supervisor is told of every change and does what follows from it."""

    def __init__(
        self, *, worker: str, journal: Journal, config: CoreConfig, now: Callable[[], float], tasks: TaskGroup
    ) -> None:
        self.worker = worker
        self.lead_token: str | None = None
        """What proves that this worker leads; None if its engine did not ask for that."""
        self.shared: bool | None = None
        """None until the store has told."""
        self.partitions = 1
        self._journal = journal
        self._config = config
        self._now = now
        self._tasks = tasks
        self._standing_by = anyio.CancelScope()
        self._alone = False
        self._leases: Mapping[int, str] = {}
        self._yielding: frozenset[int] = frozenset()
        self._busy: Counter[int] = Counter()
        self._heard: dict[int, int] = {}
        self._asked = False
        self._confirmed_at = -math.inf
        self._confirmed_at_wall = -math.inf
        self._answered = anyio.Event()
        self._hurried = anyio.Event()

    def __repr__(self) -> str:
        return f"<Sharing by {self.worker!r}, {len(self._leases)} of {self.partitions} partitions>"

    # what is ours

    @property
    def held(self) -> Mapping[int, str]:
        """The tokens of the leases held, by partition, as far as we know."""
        return self._leases

    def partition(self, account_id: str) -> int:
        """Return the account's partition."""
        return partition_of(account_id, self.partitions)

    def token(self, account_id: str) -> str | None:
        """Return the token of the lease on the account, None if it is not ours. `confirm` before an effect."""
        return self._leases.get(self.partition(account_id))

    def is_yielding(self, partition: int) -> bool:
        """Tell whether the partition is to be given up: nothing new is begun there."""
        return partition in self._yielding

    async def confirm(self, account_id: str, token: str) -> None:
        """Return once others certainly leave the account to us; raise `LeaseLost` if it is theirs.

        When the store has not answered for as long as the lease lasts, wait for what it says.
        """
        partition = self.partition(account_id)
        while not self.is_certain(partition, token):
            if self._leases.get(partition) != token:
                raise LeaseLost(account_id)
            await self._answered.wait()

    def is_certain(self, partition: int, token: str) -> bool:
        """Tell whether others certainly leave the partition to us, under this lease."""
        if self._leases.get(partition) != token:
            return False
        if not self.shared:
            return True
        # the wall clock too, since the other one may stand still while the machine is suspended
        silent_s = max(anyio.current_time() - self._confirmed_at, self._now() - self._confirmed_at_wall)
        return silent_s < self._config.lease_s

    # what is under way

    def enter(self, partition: int) -> None:
        """Something is under way in the partition: it is not given up meanwhile."""
        self._busy[partition] += 1

    def leave(self, partition: int) -> None:
        """As many `leave` as `enter`: nothing is under way there any more."""
        self._busy[partition] -= 1
        if not self._busy[partition]:
            del self._busy[partition]
            if partition in self._yielding:
                self.hurry()

    # leading

    async def lead(self, standing_by: Callable[[], None]) -> None:
        """Return once this worker alone, of all that share the store, runs its engine, having told if it must wait.

        Asked before `run`. From then on it holds every account, and the core ends with `LeadershipLost` if it is
        found that another worker leads.
        """
        self._alone = True
        await self.ask(_see).wait()
        if self.token("") is None:
            standing_by()
        while self.token("") is None:
            await self._pause()
            await self.ask(_see).wait()
        self.lead_token = self.token("")
        if self.shared:
            self._tasks.start_soon(self._stand_by, name="keeping the lead")

    async def _stand_by(self) -> None:
        """Keep what we hold until the accounts' work begins: an engine may take its time to connect."""
        with self._standing_by, suppress(JournalEnded):
            while True:
                await self._pause()
                await self._round(_see)

    async def _pause(self) -> None:
        """Wait until it is time for the next round."""
        await anyio.sleep(_SHORTEST_S)
        with anyio.move_on_after(self._config.poll_s - _SHORTEST_S):
            await self._hurried.wait()
        self._hurried = anyio.Event()

    async def _round(self, then: Callable[[Change], None]) -> None:
        await self.ask(then).wait()
        if self.lead_token is not None and self.token("") != self.lead_token:
            raise LeadershipLost(self.worker)

    # rounds

    def hurry(self) -> None:
        """Have the next round asked at once."""
        self._hurried.set()

    def ask(self, then: Callable[[Change], None]) -> Handle[Shares]:
        """Ask for a round; `then` is told what it changed, before anything that was submitted later is answered."""
        # before it is submitted: the store counts from when it takes it, which is later
        at, at_wall = anyio.current_time(), self._now()
        share = Share(
            worker=self.worker,
            lease_s=self._config.lease_s,
            heard=dict(self._heard),
            yielding=frozenset(p for p in self._yielding if p not in self._busy),
            alone=self._alone,
        )

        def answered(shares: Shares, number: int) -> None:
            self._confirmed_at, self._confirmed_at_wall = at, at_wall
            then(self._learn(shares, number))
            self._answered.set()
            self._answered = anyio.Event()

        self._asked = True
        return self._journal.submit(share, answered)

    async def run(self, first: Handle[Shares], then: Callable[[Change], None], store: Store) -> None:
        """Keep what we hold, and take our part, for as long as we are here; `first` is the first round, asked for."""
        self._standing_by.cancel()
        try:
            await first.wait()
            if not self.shared:
                return
            async with anyio.create_task_group() as tasks:
                if isinstance(store, SharedStore):
                    tasks.start_soon(self._listen, store, name="hearing of rings")
                while True:
                    await self._pause()
                    await self._round(then)
        except JournalEnded:
            pass  # the journal says itself why

    def drop(self, partition: int, token: str) -> bool:
        """The store refused this lease: it is lost before a round says so. Tell whether that is news."""
        if self._leases.get(partition) != token:
            return False
        self._leases = {p: t for p, t in self._leases.items() if p != partition}
        self._yielding -= {partition}
        self.hurry()
        return True

    def retire(self) -> None:
        """Give up everything, so that others need not wait for the leases to run out. Nothing may be under way."""
        if self._asked and self.shared is not False:
            self._leases = {}
            self._journal.submit(Share(worker=self.worker, lease_s=self._config.lease_s, leaving=True))

    async def _listen(self, store: SharedStore) -> None:
        limiter = anyio.CapacityLimiter(1)
        while True:
            began = anyio.current_time()
            rung = await anyio.to_thread.run_sync(
                store.hear, self.worker, self._config.poll_s, abandon_on_cancel=True, limiter=limiter
            )
            if rung:
                answered = self._answered
                self.hurry()
                await answered.wait()
            else:
                # a store that cannot be reached may say so at once, and must not be asked again and again
                await anyio.sleep(max(0.0, began + self._config.poll_s - anyio.current_time()))

    def _learn(self, shares: Shares, number: int) -> Change:
        before, now = self._leases, shares.leases
        self.shared, self.partitions, self._leases = shares.shared, shares.partitions, shares.leases
        lost = frozenset(p for p, token in before.items() if now.get(p) != token)
        gained = frozenset(p for p, token in now.items() if before.get(p) != token)
        # only what this round told: a store that failed over to an older copy may give the same numbers again
        self._heard = {}
        for ring in shares.rings:
            self._heard[ring.partition] = max(ring.number, self._heard.get(ring.partition, 0))
        yielded = self._yielding - lost
        self._yielding = self._choose(shares.excess)
        if any(p not in self._busy for p in self._yielding):
            self.hurry()
        return Change(
            lost=lost,
            gained=gained,
            kept=yielded - self._yielding,
            yielding=self._yielding - yielded,
            rings=shares.rings,
            number=number,
        )

    def _choose(self, excess: int) -> frozenset[int]:
        """Return what to give up: first what already is to be, then where the least is under way."""
        ranked = sorted(self._leases, key=lambda p: (p not in self._yielding, self._busy[p], p))
        return frozenset(ranked[:excess])


@asynccontextmanager
async def open_sharing(
    worker: str, *, journal: Journal, config: CoreConfig, now: Callable[[], float]
) -> AsyncIterator[Sharing]:
    """Share for the block; on leaving it, whatever the reason, hand over at once what is held."""
    async with anyio.create_task_group() as tasks:
        sharing = Sharing(worker=worker, journal=journal, config=config, now=now, tasks=tasks)
        try:
            yield sharing
        finally:
            sharing.retire()
            tasks.cancel_scope.cancel()


def _see(change: Change) -> None:
    """Do nothing yet about a round's changes: whoever begins to work looks at everything it holds then."""

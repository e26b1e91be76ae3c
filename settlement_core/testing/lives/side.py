"""One side of the system: what outlives its workers, those of one life, and what a person does about its books."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
from anyio.abc import TaskGroup

from settlement_core.abc import AccountServices, CreditOutcome, Unanswered
from settlement_core.connector import credit_outcome
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, Decision, open_core
from settlement_core.testing.lives.connector import Connector, Request
from settlement_core.testing.lives.diary import Diary
from settlement_core.testing.lives.ledger import Fate, Ledger
from settlement_core.testing.lives.network import AnsweredError, Network, NoAnswer
from settlement_core.testing.lives.script import ACCOUNTS, Ending, Place
from settlement_core.testing.lives.stores import PowerLost, SharedBooks, WorkerStore
from settlement_core.testing.lives.witness import Witness
from settlement_core.values.amounts import ZERO, total
from settlement_core.values.commands import Assign, Dismiss, History, Overview, Pause, Release, Resolve, Suspense
from settlement_core.values.errors import ConnectorError, LeadershipLost, SettlementError, StoreUnavailable
from settlement_core.values.records import Attempt, AttemptState

__all__ = ["Side", "Worker"]

_WAITING = frozenset({AttemptState.IN_DOUBT, AttemptState.HELD})


@dataclass(slots=True)
class Side:
    """What one side is across all lives."""

    name: str
    books: SharedBooks
    connector: Connector
    witness: Witness
    ledger: Ledger
    network: Network
    diary: Diary
    config: CoreConfig
    wall_ahead_s: float = 0.0
    workers: list[Worker] = field(default_factory=list)
    known: dict[str, Attempt] = field(default_factory=dict)
    """Every attempt as the last judgement saw it."""

    def worker(self) -> Worker | None:
        """Return one that takes requests."""
        return next((worker for worker in self.workers if worker.core is not None and worker.alive), None)

    # what its connector does

    async def ask_to_settle(self, request: Request) -> None:
        """Repeat one request until it is answered with its own amount."""
        pause_s = 1.0
        while not request.answered:
            worker = self.worker()
            if worker is not None:
                try:
                    answer = await self.network.call(self.name, Place.REQUEST, _Serving(worker, request).arrive)
                except (NoAnswer, AnsweredError, SettlementError):
                    pass
                else:
                    request.answered = True
                    if answer != request.amount:
                        self.witness.blame(f"{request} was answered with {answer}")
                    return
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, 60.0)

    # what a person does

    async def decide(self) -> None:
        """Decide whatever can be decided by comparing the books with the ledger and asking the connector's people."""
        worker = self.worker()
        core = None if worker is None else worker.core
        if core is None:
            return
        told: dict[str, Any] = {"reason": "compared", "by": "carol"}
        for attempt in self.books.ask(History(states=_WAITING, limit=10_000)):
            ids: dict[str, Any] = {"account_id": attempt.account_id, "attempt_id": attempt.attempt_id}
            command: Resolve | Release = Release(**ids, **told)
            if attempt.state is AttemptState.IN_DOUBT:
                moved = self.moved(attempt.attempt_id)
                if moved is None:
                    continue
                command = Resolve(**ids, **told, settled=moved, at=0.0)
            self.diary.tell(f"{self.name}: a person says {command}")
            await self._tell(core, command)
        for account in self.books.ask(Overview(limit=10_000)):
            if account.paused:
                await self.pause(account.account_id, paused=False)
        for item in self.books.ask(Suspense(limit=10_000, assigned=True)):
            if item.account_id is not None:
                continue
            if item.waiting:
                # by mistake, and found out at once, or after a crash on another day
                await self._tell(core, Dismiss(settlement_id=item.settlement_id, at=0.0, **told))
            owner = item.details["memo"] if item.details["memo"] in ACCOUNTS else ACCOUNTS[0]
            with suppress(SettlementError):
                await core.create_account(owner)
            settlement_id = item.settlement_id
            await self._tell(core, Assign(settlement_id=settlement_id, account_id=owner, at=0.0, **told))

    async def pause(self, account: str, *, paused: bool) -> None:
        """Have a person pause an account, or have it go on."""
        worker = self.worker()
        if worker is not None and worker.core is not None:
            if paused:
                self.diary.count("account paused")
            self.diary.tell(f"{self.name}: a person {'pauses' if paused else 'resumes'} {account}")
            command = Pause(account_id=account, paused=paused, reason="asked to", by="carol", at=0.0)
            await self._tell(worker.core, command)

    @staticmethod
    async def _tell(core: Core, command: Decision) -> None:
        # what cannot be told now is told another day
        with suppress(SettlementError):
            await core.decide(command)

    def moved(self, attempt_id: str) -> Decimal | None:
        """Return how much of an attempt moved for ever, or None as long as that is not certain."""
        if attempt_id in self.witness.paying:
            return None
        found = self.ledger.transactions()
        amounts = []
        for tx_id in self.witness.payments.get(attempt_id, ()):
            fate = self.ledger.fate(tx_id, self.witness.expiries[tx_id])
            if fate is Fate.FINAL:
                amounts.append(found[tx_id][0].amount)
            elif fate is not Fate.REFUSED:
                return None
        return total(amounts) if amounts else ZERO


@dataclass(slots=True)
class _Serving:
    """A request on its way to a worker, which serves it in a task of its own, as a server does."""

    worker: Worker
    request: Request

    def arrive(self, reply: Callable[[object], None]) -> None:
        """Begin to serve."""
        self.worker.serve(self._serve, reply)

    async def _serve(self, core: Core) -> object:
        await core.create_account(self.request.account)
        return await core.request_settlement(self.request.account, self.request.amount, self.request.key)


@dataclass(slots=True, eq=False)
class Worker:
    """One process of one life. Once it has ended, nothing that is left of it reaches anybody."""

    name: str
    side: Side
    peer: Side
    store: WorkerStore
    connect: Callable[[AccountServices], Any]
    now: Callable[[], float]
    chance: Callable[[], float]
    alive: bool = True
    core: Core | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _leave: anyio.Event = field(default_factory=anyio.Event)
    _tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Live until asked to leave, or cut."""
        try:
            with self._scope:
                await self._run_core()
        finally:
            self.alive, self.core, self.store.lost = False, None, True
            self.ended.set()

    def leave(self) -> None:
        """Ask it to stop; one that is not ready yet, or stands by, is cancelled."""
        self._leave.set()
        if self.core is None:
            self._scope.cancel()

    def cut(self, ending: Ending) -> None:
        """Cancel it, or have it crash: then nothing it does any more has an effect."""
        if not self.alive:
            return
        self.side.diary.fault(ending.value, f"{self.name}: {ending}")
        if ending is Ending.CRASH:
            self.alive, self.store.lost = False, True
        self._scope.cancel()

    async def _run_core(self) -> None:
        try:
            async with (
                open_core(
                    self.connect,
                    store=self.store,
                    connector=self,
                    config=self.side.config,
                    now=self.now,
                    chance=self.chance,
                    worker=self.name,
                ) as core,
                anyio.create_task_group() as self._tasks,
            ):
                self.core = core
                try:
                    await self._leave.wait()
                finally:
                    self.core = None
                self._tasks.cancel_scope.cancel()
        except* (StoreUnavailable, PowerLost):
            pass  # the store was away for too long while the worker left, or the worker is dead
        except* LeadershipLost:
            self.side.diary.tell(f"{self.name}: another one leads")
        except* Exception as problems:  # noqa: BLE001 - judged, not hidden
            if self.alive:
                self.side.witness.blame(f"{self.name} ended with {problems.exceptions!r}")

    def serve(self, handler: Callable[[Core], Any], reply: Callable[[object], None]) -> None:
        """Have a request served; a worker that is no more does not answer."""

        async def serve(core: Core) -> None:
            try:
                answer = await handler(core)
            except SettlementError as problem:
                reply(problem)
            else:
                reply(answer)

        if self.alive and self.core is not None and self._tasks is not None and not self._leave.is_set():
            self._tasks.start_soon(serve, self.core)

    # its way to the connector

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Offer a credit."""
        if not self.alive:
            raise PowerLost
        side = self.side
        side.witness.offer(self.name, account_id, amount, idempotency_key)
        try:
            status = await side.network.call(
                side.name,
                Place.CREDIT,
                lambda reply: reply(side.connector.credit(account_id, amount, idempotency_key)),
            )
        except NoAnswer as problem:
            return Unanswered(str(problem))
        except AnsweredError as problem:
            status = problem.status
        return credit_outcome(status, f"status {status}")

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have the connectors carry a message to the peer's engine."""
        peer = self.peer.worker()
        if peer is None:
            raise ConnectorError("the peer is away")

        def arrive(reply: Callable[[object], None]) -> None:
            async def handle(core: Core) -> bytes:
                await core.create_account(account_id)
                return await core.handle_message(account_id, message)

            peer.serve(handle, reply)

        try:
            answer: bytes = await self.side.network.call(self.side.name, Place.MESSAGE, arrive)
        except (NoAnswer, AnsweredError, SettlementError) as problem:
            raise ConnectorError(str(problem)) from None
        return answer

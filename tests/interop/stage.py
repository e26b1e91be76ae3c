"""Two peers on one ledger: ours runs our server, theirs the original from npm, and both have a connector with books.

Our side always has to bear everything: its connector loses, delays, doubles and refuses, the ledger forgets and
reorganises, and it is killed. What the original has to bear is the strike's choice.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from settlement_core.demo.processes import EngineProcess, open_engine_process
from settlement_core.demo.run import FAULTS, FUNDS
from settlement_core.engines.simulated import FaultPlan, LedgerSettings, LedgerUnavailable, SimulatedLedger, open_ledger
from settlement_core.testing.connector import (
    Fault,
    Incoming,
    TestConnector,
    answer_late,
    deliver_twice,
    link_accounts,
    lose_reply,
    lose_request,
    open_test_connector,
    random_faults,
)
from settlement_core.values.amounts import subtract, total
from tests.interop.facade import Facade, serve_ledger
from tests.interop.original import node_command
from tests.interop.strikes import Credits, Strike
from tests.redis.servers import RedisServer, reserve_port

__all__ = ["ACCOUNTS", "Original", "Stage", "open_stage"]

ACCOUNTS = 3
"""Relations between the two; each settles in both directions."""

FAULT_RATE = 0.3
"""How many requests of an engine to its connector something befalls."""

NO_FAULTS = FaultPlan()

START_S = 30.0
PATIENCE_S = 120.0

OURS, THEIRS = "ours", "theirs"


@dataclass(slots=True)
class Original:
    """The original as a process that can be killed and comes back, and what its engine said."""

    command: list[str]
    environment: dict[str, str]
    url: str
    log: Path
    process: anyio.abc.Process | None = None

    async def start(self) -> None:
        """Start it; return once it listens."""
        before = self._said("listening")
        with self.log.open("ab") as log:
            self.process = await anyio.open_process(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        with anyio.fail_after(START_S):
            while len(self._said("listening")) == len(before):
                assert self.process.returncode is None, self.log.read_text()
                await anyio.sleep(0.02)

    async def kill(self) -> None:
        """End it at whatever it is doing."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        """Leave nothing running."""
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.aclose()

    def begun(self) -> dict[str, Decimal]:
        """Return the payments its engine began, by their id on the ledger."""
        return {words[0]: Decimal(words[1]) for words in self._said("begins")}

    def credited(self) -> int:
        """Return how many of the ledger's entries the framework was done with crediting."""
        return len({words[0] for words in self._said("credited")})

    def _said(self, word: str) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[1:] for line in lines if line.split()[:1] == [word]]


@dataclass(slots=True)
class Stage:
    """The parts on the stage.

    Attributes:
        accepted: settlements that were taken, from both sides.
        kills: how often our server was killed.
        lost: payments the original took from its queue and never makes, by their id on the ledger.
    """

    chance: random.Random
    ledger: SimulatedLedger
    facade: Facade
    redis: RedisServer
    connectors: dict[str, TestConnector]
    ours: EngineProcess
    original: Original
    credits: Credits
    accepted: int = 0
    kills: int = 0
    lost: set[str] = field(default_factory=set)
    accounts: list[str] = field(default_factory=lambda: [f"peer-{number}" for number in range(ACCOUNTS)])

    async def settle(self, settlements: int, *, kills: int, clients: int = 8) -> None:
        """Ask for settlements from both sides, and kill our server meanwhile."""
        orders = [
            (
                self.connectors[self.chance.choice((OURS, THEIRS))],
                self.chance.choice(self.accounts),
                Decimal(self.chance.randrange(1, 10 ** self.chance.randrange(1, 13))).scaleb(-9),
            )
            for _ in range(settlements)
        ]
        async with anyio.create_task_group() as work:
            for client in range(clients):
                work.start_soon(self._ask, orders[client::clients])
            work.start_soon(self._kill, [settlements * (k + 1) // (kills + 1) for k in range(kills)])

    async def _ask(self, orders: list[tuple[TestConnector, str, Decimal]]) -> None:
        for connector, account_id, amount in orders:
            await connector.settle(account_id, amount, scale=9)
            self.accepted += 1

    async def _kill(self, moments: list[int]) -> None:
        for moment in moments:
            while self.accepted < moment:
                await anyio.sleep(0.005)
            await anyio.sleep(self.chance.random() / 4)
            await self.ours.kill()
            self.kills += 1
            await self.ours.start()

    # everybody's books

    def requested(self, side: str) -> Decimal:
        """Return what a side's connector asked its engine to settle."""
        return total(books.requested for books in self.connectors[side].books.accounts.values())

    def credited(self, side: str) -> Decimal:
        """Return what a side's connector was credited."""
        return total(books.credited for books in self.connectors[side].books.accounts.values())

    def paid(self, side: str) -> Decimal:
        """Return what a side paid to the other on the ledger."""
        return self.ledger.moved(source=side, destination=other(side)).amount

    def entries(self, side: str) -> int:
        """Return how many payments of a side are final on the ledger."""
        return self.ledger.moved(source=side, destination=other(side)).transfers

    def parked(self) -> Decimal:
        """Return what the original keeps as not credited, until the next credit comes by."""
        return self._kept("uncredited-settlements")

    def queued(self) -> Decimal:
        """Return what the original keeps as not settled, until the next request comes by."""
        return self._kept("queued-settlements")

    def lost_amount(self) -> Decimal:
        """Return what the original counts as paid, and never pays."""
        begun = self.original.begun()
        return total(begun[tx_id] for tx_id in self.lost)

    def unknown(self) -> set[str]:
        """Return the payments that the original began, and of which the ledger knows nothing (yet)."""
        return {tx_id for tx_id in self.original.begun() if not self._knows(tx_id)}

    def _knows(self, tx_id: str) -> bool:
        while True:
            # look-ups fail on purpose, too
            with suppress(LedgerUnavailable):
                return self.ledger.lookup(tx_id).transfer is not None

    def _kept(self, what: str) -> Decimal:
        with self.redis.client() as client:
            found = [text for name in self.accounts for text in client.lrange(f"accounts:{name}:{what}", 0, -1)]
        return total(Decimal(text.decode() if isinstance(text, bytes) else text) for text in found)

    async def wait_until_still(self, timeout_s: float) -> bool:
        """Wait until both sides have done all they will do; tell whether they have."""
        with anyio.move_on_after(timeout_s):
            while not (await anyio.to_thread.run_sync(self._is_still) and await self.ours.is_idle()):
                await anyio.sleep(0.1)
            return True
        return False

    def _is_still(self) -> bool:
        self.lost.update(self.facade.refused)
        arrived = self.credited(OURS) == self.paid(THEIRS) and self.paid(OURS) == self.requested(OURS)
        done = self.original.credited() == self.entries(OURS)
        due = subtract(self.requested(THEIRS), total((self.queued(), self.lost_amount(), self.paid(THEIRS))))
        return arrived and done and due == 0 and self.unknown() == self.lost


def other(side: str) -> str:
    """Return the peer."""
    return THEIRS if side == OURS else OURS


def bearable_faults(seed: int) -> Callable[[Incoming], Fault | None]:
    """Return faults that the original bears: having no answer at all, it sends the same again, as RFC 38 asks."""
    kinds = (lose_request, lose_reply, deliver_twice, partial(answer_late, 0.05))

    def decide(incoming: Incoming) -> Fault | None:
        chance = random.Random(f"{seed}/{incoming.number}")
        return chance.choice(kinds)() if incoming.kind == "credit" and chance.random() < FAULT_RATE else None

    return decide


@asynccontextmanager
async def open_stage(folder: Path, strike: Strike, *, seed: int) -> AsyncIterator[Stage]:
    """Set everything up in this folder; nothing is left behind but what it holds: books, and the engines' logs."""
    credits_ = Credits(strike, seed)
    async with AsyncExitStack() as parts:
        redis = parts.enter_context(RedisServer(folder))
        ledger = parts.enter_context(open_ledger(folder / "ledger.db", create=LedgerSettings()))
        for name in (OURS, THEIRS):
            ledger.open_address(name, FUNDS)
        facade = parts.enter_context(serve_ledger(ledger))
        connectors = {
            OURS: await parts.enter_async_context(open_test_connector(patience_s=PATIENCE_S)),
            THEIRS: await parts.enter_async_context(open_test_connector(credits_.mode(), patience_s=PATIENCE_S)),
        }
        ours = await parts.enter_async_context(_our_engine(folder, connectors[OURS].url))
        original = await parts.enter_async_context(
            _original(folder, connectors[THEIRS].url, redis.url(), facade.url, throws=strike is Strike.THROWN)
        )
        connectors[OURS].engine_url, connectors[THEIRS].engine_url = ours.url, original.url
        stage = Stage(random.Random(seed), ledger, facade, redis, connectors, ours, original, credits_)
        await ours.start()
        await original.start()
        for account_id in stage.accounts:
            link_accounts(connectors[OURS], account_id, connectors[THEIRS], account_id)
        for account_id in stage.accounts:
            # theirs first: the original never repeats a set-up message, ours does
            await connectors[THEIRS].create_account(account_id)
            await connectors[OURS].create_account(account_id)
        connectors[OURS].faults = random_faults(seed, rate=FAULT_RATE)
        if strike is Strike.NONE:
            connectors[THEIRS].faults = bearable_faults(seed)
        ledger.set_fault_plan(replace(FAULTS, seed=seed) if strike is not Strike.THROWN else NO_FAULTS)
        yield stage


def _our_engine(folder: Path, connector_url: str) -> AbstractAsyncContextManager[EngineProcess]:
    arguments = ["simulated", "-o", f"ledger={folder / 'ledger.db'}", "-o", f"address={OURS}"]
    arguments += ["--store", f"sqlite:{folder / 'ours.db'}", "--connector-url", connector_url]
    return open_engine_process(OURS, [*arguments, "--log-level", "warning"], log=folder / "ours.log")


@asynccontextmanager
async def _original(
    folder: Path, connector_url: str, redis_url: str, ledger_url: str, *, throws: bool
) -> AsyncIterator[Original]:
    port, claim = reserve_port()
    state = str(folder / "theirs.json")
    command, environment = await anyio.to_thread.run_sync(
        node_command, "peer.js", str(port), connector_url, redis_url, ledger_url, THEIRS, state
    )
    environment |= {"THROWS": "1"} if throws else {}
    original = Original(command, environment, f"http://127.0.0.1:{port}", folder / "theirs.log")
    with claim:
        try:
            yield original
        finally:
            with anyio.CancelScope(shield=True):
                await original.close()

"""The demonstration itself: load from both sides, SIGKILLs at random moments, then everybody's books."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import anyio

from settlement_core.demo.processes import EngineProcess, open_engine_process
from settlement_core.demo.verdict import Relation, Verdict, judge
from settlement_core.engines.simulated import FaultPlan, LedgerSettings, SimulatedLedger, open_ledger
from settlement_core.testing.connector import TestConnector, link_accounts, open_test_connector

__all__ = ["DemoPlan", "Progress", "run_demo"]

PEERS = {"alice": "trio", "bob": "asyncio"}
"""Who settles with whom, and the event loop each one's engine runs on."""

ACCOUNTS = 3
"""Relations between the two; each settles in both directions."""

CLIENTS = 8
"""Settlement requests under way at a time."""

DRAIN_S = 60.0
"""How long what was accepted may take to arrive after the last request."""

FUNDS = Decimal(1_000_000_000)

# What a real network and ledger do, only more often.
FAULTS = FaultPlan(
    drop=0.02,
    lose_reply=0.05,
    delay=0.05,
    delay_s=0.05,
    duplicate_event=0.1,
    reorganise=0.02,
    vanish=0.5,
    fail_at_finality=0.002,
    lookup_failure=0.002,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """How much to do. The same seed asks for the same amounts and kills after the same requests."""

    settlements: int = 1000
    kills: int = 8
    seed: int = 0


@dataclass(slots=True)
class Progress:
    """Where the demonstration is; `changed` is called whenever that changes."""

    plan: DemoPlan
    changed: Callable[[], None] = lambda: None
    stage: str = "starting"
    accepted: int = 0
    kills: int = 0
    requested: Decimal = Decimal(0)
    credited: Decimal = Decimal(0)

    def enter(self, stage: str) -> None:
        """Begin a stage."""
        self.stage = stage
        self.changed()


@dataclass(slots=True)
class _Stage:
    """The parts on the stage."""

    connectors: dict[str, TestConnector] = field(default_factory=dict)
    engines: dict[str, EngineProcess] = field(default_factory=dict)
    stores: dict[str, str] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)

    def totals(self) -> tuple[Decimal, Decimal]:
        """Return what all connectors asked for, and what all were credited."""
        books = [account for connector in self.connectors.values() for account in connector.books.accounts.values()]
        zero = Decimal(0)
        return sum((b.requested for b in books), zero), sum((b.credited for b in books), zero)


async def run_demo(plan: DemoPlan, progress: Progress) -> Verdict:
    """Run the demonstration in a folder of its own, which is gone afterwards; return the verdict."""
    with tempfile.TemporaryDirectory(prefix="settlement-demo-") as folder:
        ledger = open_ledger(Path(folder, "ledger.db"), create=LedgerSettings())
        with ledger:
            for name in PEERS:
                ledger.open_address(name, FUNDS)
            async with _set_stage(Path(folder)) as stage:
                await _play(stage, plan, progress, ledger)
                progress.enter("stopping both engines with SIGTERM")
                codes = {name: await engine.stop() for name, engine in stage.engines.items()}
            progress.enter("auditing")
            rows, transfers, problems = judge(stage.relations, stage.connectors, stage.stores, ledger)
    problems += [f"{name}'s engine ended with exit code {code}" for name, code in codes.items() if code]
    if progress.accepted != plan.settlements:
        problems.append(f"only {progress.accepted} of {plan.settlements} requests were accepted")
    return Verdict(
        rows=rows,
        settlements=progress.accepted,
        kills=progress.kills,
        seed=plan.seed,
        transfers=transfers,
        problems=problems,
    )


@asynccontextmanager
async def _set_stage(folder: Path) -> AsyncIterator[_Stage]:
    stage = _Stage()
    async with AsyncExitStack() as parts:
        for name, backend in PEERS.items():
            connector = await parts.enter_async_context(open_test_connector(patience_s=120.0))
            stage.connectors[name] = connector
            stage.stores[name] = f"sqlite:{folder / f'{name}.db'}"
            arguments = ["simulated", "-o", f"ledger={folder / 'ledger.db'}", "-o", f"address={name}"]
            arguments += ["--store", stage.stores[name], "--connector-url", connector.url]
            arguments += ["--backend", backend, "--log-level", "warning"]
            stage.engines[name] = await parts.enter_async_context(
                open_engine_process(name, arguments, log=folder / f"{name}.log")
            )
            connector.engine_url = stage.engines[name].url
        (left, right) = PEERS
        for number in range(1, ACCOUNTS + 1):
            ours, theirs = f"{right}-{number}", f"{left}-{number}"
            link_accounts(stage.connectors[left], ours, stage.connectors[right], theirs)
            stage.relations += [
                Relation(debtor=left, creditor=right, debtor_account=ours, creditor_account=theirs),
                Relation(debtor=right, creditor=left, debtor_account=theirs, creditor_account=ours),
            ]
        yield stage


async def _play(stage: _Stage, plan: DemoPlan, progress: Progress, ledger: SimulatedLedger) -> None:
    chance = random.Random(plan.seed)
    progress.enter("starting two engines")
    async with anyio.create_task_group() as tasks:
        for engine in stage.engines.values():
            tasks.start_soon(engine.start)
    for relation in stage.relations:
        await stage.connectors[relation.debtor].create_account(relation.debtor_account)
    ledger.set_fault_plan(replace(FAULTS, seed=plan.seed))
    orders = [(chance.choice(stage.relations), _amount(chance)) for _ in range(plan.settlements)]
    moments = sorted(chance.randrange(max(plan.settlements, 1)) for _ in range(plan.kills))
    progress.enter("settling, and killing")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch, stage, progress)
        async with anyio.create_task_group() as work:
            for client in range(CLIENTS):
                work.start_soon(_request, stage, orders[client::CLIENTS], progress)
            work.start_soon(_kill, stage, moments, progress, chance)
        progress.enter("waiting for the last credit")
        with anyio.move_on_after(DRAIN_S):
            while not await _is_quiet(stage):
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()


def _amount(chance: random.Random) -> Decimal:
    """Return anything from a billionth of a unit to a thousand units, in nine decimal places."""
    return Decimal(chance.randrange(1, 10 ** chance.randrange(1, 13))).scaleb(-9)


async def _request(stage: _Stage, orders: list[tuple[Relation, Decimal]], progress: Progress) -> None:
    for relation, amount in orders:
        await stage.connectors[relation.debtor].settle(relation.debtor_account, amount, scale=9)
        progress.accepted += 1


async def _kill(stage: _Stage, moments: list[int], progress: Progress, chance: random.Random) -> None:
    """SIGKILL one engine as soon as so many requests were accepted, and a little later; start it again."""
    for moment in moments:
        while progress.accepted < moment:
            await anyio.sleep(0.005)
        await anyio.sleep(chance.random() / 4)
        engine = stage.engines[chance.choice(list(stage.engines))]
        await engine.kill()
        progress.kills += 1
        await engine.start()


async def _is_quiet(stage: _Stage) -> bool:
    """Tell whether everything arrived, and both engines have recorded that it did."""
    requested, credited = stage.totals()
    return requested == credited and all([await engine.is_idle() for engine in stage.engines.values()])


async def _watch(stage: _Stage, progress: Progress) -> None:
    while True:
        progress.requested, progress.credited = stage.totals()
        progress.changed()
        await anyio.sleep(0.05)

"""Workers and Redis under load, killed by SIGKILL at random: `python -m tests.redis.kill_loop --help`.

Two peers settle with each other, each with several workers on a store in the same Redis, over a simulated ledger that
loses requests and replies. At the end every party's books are laid side by side.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread
import click

from settlement_core.demo.processes import EngineProcess, open_engine_process
from settlement_core.demo.run import FAULTS, FUNDS
from settlement_core.demo.verdict import Relation, Row, judge
from settlement_core.engines.simulated import LedgerSettings, SimulatedLedger, open_ledger
from settlement_core.testing.connector import TestConnector, link_accounts, open_test_connector
from tests.redis.servers import RedisServer

WORKERS = {"alice": ("trio", "asyncio", "trio"), "bob": ("asyncio", "trio")}
"""The peers, and the event loop of each one's workers."""

ACCOUNTS = 6
"""Relations between the two; each settles in both directions. They fall into different partitions."""

CLIENTS = 8
LEASE_S = 2.0
DRAIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run showed; money in standard units."""

    kills: Counter[str]
    settlements: int
    requested: Decimal
    credited: Decimal
    in_doubt: Decimal
    lost: Decimal
    paid_twice: Decimal
    transfers: int
    problems: list[str]


@dataclass(slots=True)
class _Stage:
    folder: Path
    redis: RedisServer
    chance: random.Random
    connectors: dict[str, TestConnector] = field(default_factory=dict)
    workers: dict[str, list[EngineProcess]] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    accepted: int = 0
    kills: Counter[str] = field(default_factory=Counter)

    def store(self, name: str) -> str:
        """Return the URL of a peer's store."""
        return f"{self.redis.url()}?namespace={name}"

    def point(self, name: str) -> None:
        """Have the peer's connector talk to any of its workers from now on."""
        self.connectors[name].engine_url = self.chance.choice(self.workers[name]).url

    def is_settled(self) -> bool:
        """Tell whether everything asked for has arrived."""
        books = [account for c in self.connectors.values() for account in c.books.accounts.values()]
        return sum(b.requested for b in books) == sum(b.credited for b in books)


async def run(folder: Path, *, settlements: int, kills: int, seed: int, progress: bool = False) -> Outcome:
    """Settle under kills, in this folder; return what came of it."""
    chance = random.Random(seed)
    with RedisServer(folder) as redis, open_ledger(folder / "ledger.db", create=LedgerSettings()) as ledger:
        for name in WORKERS:
            ledger.open_address(name, FUNDS)
        async with _set_stage(folder, redis, chance) as stage:
            ledger.set_fault_plan(replace(FAULTS, seed=seed))
            await _play(stage, settlements=settlements, kills=kills, progress=progress)
            codes = [await worker.stop() for workers in stage.workers.values() for worker in workers]
        stores = {name: stage.store(name) for name in WORKERS}
        rows, transfers, problems = await anyio.to_thread.run_sync(
            judge, stage.relations, stage.connectors, stores, ledger
        )
        paid = _paid(ledger)
    problems += [f"a worker ended with exit code {code}" for code in codes if code]
    return _outcome(stage, rows, paid, transfers, problems)


def _paid(ledger: SimulatedLedger) -> Decimal:
    (left, right) = WORKERS
    there, back = (ledger.moved(source=a, destination=b) for a, b in ((left, right), (right, left)))
    return there.amount + back.amount


def _outcome(stage: _Stage, rows: list[Row], paid: Decimal, transfers: int, problems: list[str]) -> Outcome:
    requested, in_doubt = sum(row.requested for row in rows), sum(row.in_doubt for row in rows)
    difference = requested - in_doubt - paid
    return Outcome(
        kills=stage.kills,
        settlements=stage.accepted,
        requested=Decimal(requested),
        credited=Decimal(sum(row.credited for row in rows)),
        in_doubt=Decimal(in_doubt),
        lost=max(Decimal(0), difference),
        paid_twice=max(Decimal(0), -difference),
        transfers=transfers,
        problems=problems,
    )


@asynccontextmanager
async def _set_stage(folder: Path, redis: RedisServer, chance: random.Random) -> AsyncIterator[_Stage]:
    stage = _Stage(folder, redis, chance)
    async with AsyncExitStack() as parts:
        for name, backends in WORKERS.items():
            connector = await parts.enter_async_context(open_test_connector(patience_s=180.0))
            stage.connectors[name] = connector
            stage.workers[name] = []
            for number, backend in enumerate(backends):
                arguments = ["simulated", "-o", f"ledger={folder / 'ledger.db'}", "-o", f"address={name}"]
                arguments += ["--store", stage.store(name), "--lease", str(LEASE_S), "--backend", backend]
                arguments += ["--connector-url", connector.url, "--log-level", "warning"]
                worker = await parts.enter_async_context(
                    open_engine_process(f"{name}-{number}", arguments, log=folder / f"{name}-{number}.log")
                )
                stage.workers[name].append(worker)
            stage.point(name)
        (left, right) = WORKERS
        for number in range(ACCOUNTS):
            ours, theirs = f"{right}-{number}", f"{left}-{number}"
            link_accounts(stage.connectors[left], ours, stage.connectors[right], theirs)
            stage.relations += [
                Relation(debtor=left, creditor=right, debtor_account=ours, creditor_account=theirs),
                Relation(debtor=right, creditor=left, debtor_account=theirs, creditor_account=ours),
            ]
        yield stage


async def _play(stage: _Stage, *, settlements: int, kills: int, progress: bool) -> None:
    async with anyio.create_task_group() as tasks:
        for workers in stage.workers.values():
            for worker in workers:
                tasks.start_soon(worker.start)
    for relation in stage.relations:
        await stage.connectors[relation.debtor].create_account(relation.debtor_account)
    chance = stage.chance
    orders = [
        (chance.choice(stage.relations), Decimal(chance.randrange(1, 10**12)).scaleb(-9)) for _ in range(settlements)
    ]
    async with anyio.create_task_group() as tasks:
        if progress:
            tasks.start_soon(_report, stage, settlements)
        async with anyio.create_task_group() as work:
            for client in range(CLIENTS):
                work.start_soon(_request, stage, orders[client::CLIENTS])
            work.start_soon(_kill, stage, [settlements * (k + 1) // (kills + 1) for k in range(kills)])
        with anyio.move_on_after(DRAIN_S):
            while not (stage.is_settled() and await _is_idle(stage)):
                await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()


async def _request(stage: _Stage, orders: list[tuple[Relation, Decimal]]) -> None:
    for relation, amount in orders:
        stage.point(relation.debtor)
        await stage.connectors[relation.debtor].settle(relation.debtor_account, amount, scale=9)
        stage.accepted += 1


async def _kill(stage: _Stage, moments: list[int]) -> None:
    """Kill somebody as soon as so many requests were accepted; start it again a little later, or much later.

    Every third is Redis, so that few kills are not all workers' by chance.
    """
    for number, moment in enumerate(moments):
        while stage.accepted < moment:
            await anyio.sleep(0.01)
        await anyio.sleep(stage.chance.random() / 4)
        # longer than a lease now and then, so that others take over
        pause_s = stage.chance.choice((0.0, 0.1, LEASE_S * 1.5))
        if number % 3 == 1:
            stage.kills["redis"] += 1
            await anyio.to_thread.run_sync(stage.redis.kill)
            await anyio.sleep(pause_s)
            await anyio.to_thread.run_sync(stage.redis.restart)
        else:
            name = stage.chance.choice(list(stage.workers))
            stage.kills[f"a worker of {name}"] += 1
            worker = stage.chance.choice(stage.workers[name])
            await worker.kill()
            await anyio.sleep(pause_s)
            await worker.start()


async def _is_idle(stage: _Stage) -> bool:
    return all([await worker.is_idle() for workers in stage.workers.values() for worker in workers])


async def _report(stage: _Stage, settlements: int) -> None:
    began = time.monotonic()
    while True:
        await anyio.sleep(5)
        sums = ", ".join(f"{who}: {often}" for who, often in stage.kills.items())
        click.echo(
            f"{time.monotonic() - began:6.0f} s  {stage.accepted} of {settlements} accepted; killed {sums}", err=True
        )


@click.command()
@click.option("--settlements", default=20_000, show_default=True, help="Requests, from both sides.")
@click.option("--kills", default=200, show_default=True, help="SIGKILLs, of workers and of Redis.")
@click.option("--seed", default=1, show_default=True, help="The same seed asks for the same amounts.")
def main(settlements: int, kills: int, seed: int) -> None:
    """Settle under kills of workers and of Redis, and print what was lost or paid twice; exit code 1 if anything."""
    with tempfile.TemporaryDirectory(prefix="settlement-kills-") as folder:
        outcome = anyio.run(_run_loudly, Path(folder), settlements, kills, seed)
    for name, figure in (
        ("kills", f"{outcome.kills.total()} ({', '.join(f'{who}: {n}' for who, n in outcome.kills.items())})"),
        ("settlements accepted", outcome.settlements),
        ("units accepted", f"{outcome.requested:f}"),
        ("units credited", f"{outcome.credited:f}"),
        ("units in doubt", f"{outcome.in_doubt:f}"),
        ("units lost", f"{outcome.lost:f}"),
        ("units paid twice", f"{outcome.paid_twice:f}"),
        ("transfers", outcome.transfers),
    ):
        click.echo(f"{name:22} {figure}")
    for problem in outcome.problems:
        click.echo(f"PROBLEM: {problem}")
    sys.exit(1 if outcome.problems or outcome.lost or outcome.paid_twice else 0)


async def _run_loudly(folder: Path, settlements: int, kills: int, seed: int) -> Outcome:
    return await run(folder, settlements=settlements, kills=kills, seed=seed, progress=True)


if __name__ == "__main__":
    main()

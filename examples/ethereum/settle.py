"""Two engines settle in ether on a real Ethereum node, and everybody's books are laid beside the chain.

Needs npm, which brings the node into this folder, and `pip install settlement-core[ethereum]`. Then

    python examples/ethereum/settle.py

starts a node, two servers and two connectors, has alice and bob settle with each other, kills alice's server while her
payment waits for a block, and prints a table. The exit code is 0 only if all books agree to the wei. It takes some ten
seconds; nothing is left behind but `node_modules`, and no money is real.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
from rich.console import Console
from rich.table import Table

from settlement_core.auditing.audit import audit
from settlement_core.demo.processes import EngineProcess, open_engine_process
from settlement_core.store_urls import open_store
from settlement_core.testing.connector import TestConnector, link_accounts, open_test_connector

HERE = Path(__file__).parent

ETHER = Decimal(10) ** 18
"""Wei."""

CHAIN_ID = 31_337

KEYS = {
    # every such node gives these two 10,000 ether, and everybody knows them
    "alice": "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "bob": "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
}
ADDRESSES = {
    "alice": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "bob": "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
}

PATIENCE_S = 60.0
"""Seconds that anything may take on a slow machine."""

console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass
class Side:
    """Alice, or Bob: a server, and the connector that it serves; `peer` is also what it calls its account."""

    name: str
    peer: str
    connector: TestConnector
    engine: EngineProcess
    store: str

    @property
    def asked(self) -> Decimal:
        """Return what the connector asked for, in ether."""
        return self.connector.account(self.peer).requested

    @property
    def credited(self) -> Decimal:
        """Return what the connector was told that the peer has paid, in ether."""
        return self.connector.account(self.peer).credited


@dataclass(frozen=True)
class Row:
    """What one side's three books say in the end, in ether."""

    name: str
    asked: Decimal
    settled: Decimal
    arrived: Decimal
    credited: Decimal
    balance_before: Decimal
    balance_after: Decimal
    gas: Decimal

    @property
    def difference(self) -> Decimal:
        """Return what moved on the chain and is in nobody's books."""
        return self.balance_after - (self.balance_before - self.settled + self.credited - self.gas)

    @property
    def agrees(self) -> bool:
        """Tell whether what was asked for was settled, arrived, and is all that moved."""
        return self.asked == self.settled == self.arrived and self.difference == 0


class Node:
    """An Ethereum node that makes a block every second."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client = client
        self.url = url

    async def ask(self, method: str, *params: Any) -> Any:
        """Call it by JSON-RPC."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await self._client.post(self.url, json=body)).json()
        return answer["result"]

    async def balance(self, name: str) -> Decimal:
        """Return what somebody has, in ether."""
        return int(await self.ask("eth_getBalance", ADDRESSES[name], "latest"), 16) / ETHER

    async def gas(self, name: str) -> Decimal:
        """Return what somebody has spent on gas, in ether."""
        spent = 0
        for number in range(int(await self.ask("eth_blockNumber"), 16) + 1):
            block = await self.ask("eth_getBlockByNumber", hex(number), True)
            for transaction in block["transactions"]:
                if transaction["from"] == ADDRESSES[name]:
                    receipt = await self.ask("eth_getTransactionReceipt", transaction["hash"])
                    spent += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        return spent / ETHER


def install_node() -> Path:
    """Return the node's program, from npm if it is not here yet."""
    program = next(iter(HERE.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*")), None)
    if program is not None:
        return program
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("this needs npm, which comes with Node.js, to bring an Ethereum node")
    say("npm brings the node, once")
    # not `npm ci`: it wants the packages of all platforms in the lock
    subprocess.run([npm, "install", "--no-save", "--ignore-scripts", "--silent"], cwd=HERE, check=True)  # noqa: S603
    return install_node()


@asynccontextmanager
async def open_node(program: Path) -> AsyncIterator[Node]:
    """Run a node for the block, on a free port."""
    command = [str(program), "--port", "0", "--block-time", "1"]
    async with (
        await anyio.open_process(command, stdin=subprocess.DEVNULL) as process,
        httpx2.AsyncClient(trust_env=False, verify=False) as client,
        anyio.create_task_group() as tasks,
    ):
        assert process.stdout is not None
        try:
            with anyio.fail_after(PATIENCE_S):
                said = b""
                while b"Listening on " not in said or not said.endswith(b"\n"):
                    said += await process.stdout.receive()
            # it goes on to tell of every request, and must be listened to
            tasks.start_soon(_ignore, process.stdout)
            yield Node(client, "http://" + said.decode().split("Listening on ")[1].split()[0])
        finally:
            tasks.cancel_scope.cancel()
            process.kill()


async def _ignore(stream: anyio.abc.ByteReceiveStream) -> None:
    async for _ in stream:
        pass


@asynccontextmanager
async def open_sides(node: Node, folder: Path) -> AsyncIterator[dict[str, Side]]:
    """Start a server and a connector for each, and make them peers."""
    sides: dict[str, Side] = {}
    async with AsyncExitStack() as parts:
        for name, peer in (("alice", "bob"), ("bob", "alice")):
            connector = await parts.enter_async_context(open_test_connector(patience_s=PATIENCE_S))
            key_file = folder / f"{name}.key"
            key_file.write_text(KEYS[name])
            store = f"sqlite:{folder / name}.db"
            arguments = ["ethereum", "--store", store, "--connector-url", connector.url, "--log-level", "warning"]
            for option in (
                f"chain_id={CHAIN_ID}",
                f"node={node.url}",
                f"key_file={key_file}",
                "confirmations=3",
                "poll_interval_s=0.2",
            ):
                arguments += ["-o", option]
            log = folder / f"{name}.log"
            engine = await parts.enter_async_context(open_engine_process(name, arguments, log=log))
            connector.engine_url = engine.url
            sides[name] = Side(name, peer, connector, engine, store)
        link_accounts(sides["alice"].connector, "bob", sides["bob"].connector, "alice")
        async with anyio.create_task_group() as tasks:
            for side in sides.values():
                tasks.start_soon(side.engine.start)
        yield sides


async def main() -> int:
    """Play, and return the exit code."""
    program = install_node()
    with tempfile.TemporaryDirectory(prefix="settlement-ethereum-") as folder:
        async with open_node(program) as node:
            before = {name: await node.balance(name) for name in KEYS}
            say("a node makes a block every second; two servers start, and prove their addresses to each other")
            async with open_sides(node, Path(folder)) as sides:
                try:
                    await settle(node, sides)
                except TimeoutError:
                    logs = "\n".join((Path(folder) / f"{name}.log").read_text()[-2000:] for name in sides)
                    print(f"Not everything arrived within {PATIENCE_S:g} s; the servers' last words:\n{logs}")
                    return 1
                say("both servers end by SIGTERM")
                codes = [await side.engine.stop() for side in sides.values()]
            rows = [
                Row(
                    name=name,
                    asked=side.asked,
                    settled=_settled(side.store),
                    arrived=sides[side.peer].credited,
                    credited=side.credited,
                    balance_before=before[name],
                    balance_after=await node.balance(name),
                    gas=await node.gas(name),
                )
                for name, side in sides.items()
            ]
    return tell(rows, codes)


async def settle(node: Node, sides: dict[str, Side]) -> None:
    """Have both owe each other, and kill alice's server while she pays; return when everything has arrived."""
    alice, bob = sides["alice"], sides["bob"]
    for side in sides.values():
        await side.connector.create_account(side.peer)
    say("alice's connector asks for 2.5 ether and a single wei, bob's for 0.125")
    await alice.connector.settle("bob", Decimal("2.5"))
    await alice.connector.settle("bob", 1 / ETHER)
    await bob.connector.settle("alice", Decimal("0.125"))
    await until(partial(has_paid, node, "alice"))
    say("alice's payment is on its way to a block: her server is killed, and started again")
    await alice.engine.kill()
    await alice.engine.start()
    await alice.connector.settle("bob", Decimal("0.75"))
    await until(partial(has_arrived, sides))


async def has_paid(node: Node, name: str) -> bool:
    """Tell whether somebody's transaction is at the node, in a block or not."""
    return int(await node.ask("eth_getTransactionCount", ADDRESSES[name], "pending"), 16) > 0


async def has_arrived(sides: dict[str, Side]) -> bool:
    """Tell whether all that was asked for is credited, and both servers know."""
    arrived = all(side.asked == sides[side.peer].credited for side in sides.values())
    return arrived and all([await side.engine.is_idle() for side in sides.values()])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Watch the others until something holds."""
    with anyio.fail_after(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - it is in other processes
            await anyio.sleep(0.02)


def _settled(store_url: str) -> Decimal:
    """Return what an engine's books say that it has settled, in ether."""
    store = open_store(store_url, create=False)
    try:
        report = audit(store)
    finally:
        store.close()
    assert not report.problems
    return report.outgoing.settled


def tell(rows: list[Row], codes: list[int]) -> int:
    """Print all books and the verdict; return 0 if they agree, else 1."""
    table = Table("in ether")
    for row in rows:
        table.add_column(row.name, justify="right")
    for title, figures in {
        "its connector asked for": [row.asked for row in rows],
        "its engine settled": [row.settled for row in rows],
        "the peer's connector was told": [row.arrived for row in rows],
        "on the chain, before": [row.balance_before for row in rows],
        "on the chain, after": [row.balance_after for row in rows],
        "spent on gas": [row.gas for row in rows],
        "difference": [row.difference for row in rows],
    }.items():
        table.add_row(title, *(f"{figure.normalize():f}" for figure in figures))
    console.print(table)
    if all(row.agrees for row in rows) and not any(codes):
        print("All books agree to the wei: both connectors, both engines and the chain.")
        return 0
    print(f"The books do not agree (exit codes of the servers: {codes}).")
    return 1


def say(what: str) -> None:
    """Tell what happens now."""
    console.print(f"[dim]· {what}[/dim]", highlight=False)


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend="trio"))

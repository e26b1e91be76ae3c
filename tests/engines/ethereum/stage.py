"""Two servers, two connectors and a node: everything real, and everybody's books laid beside the chain at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2

from settlement_core.abc import AccountServices
from settlement_core.auditing.audit import AuditReport, audit
from settlement_core.demo.processes import EngineProcess, open_engine_process
from settlement_core.engines.ethereum.nonces import read_nonces
from settlement_core.store_urls import open_store
from settlement_core.testing.connector import TestConnector, link_accounts, open_test_connector
from settlement_core.values.commands import Get
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, DevAccount
from tests.engines.ethereum.contracts import Token
from tests.engines.ethereum.proxy import NodeProxy, open_proxy
from tests.engines.ethereum.rust import open_rust_engine

D = Decimal

CONFIRMATIONS = 3

PATIENCE_S = 60.0
"""Seconds of real time after which waiting for processes on a busy machine has failed."""

BACKENDS = {"alice": "trio", "bob": "asyncio"}


@dataclass
class Side:
    """One of the two: a server, its connector, its key, and its account with the other, which has the other's name."""

    name: str
    account: DevAccount
    account_id: str
    connector: TestConnector
    proxy: NodeProxy
    engine: EngineProcess
    store: str
    folder: Path
    began_with: int = 0

    @property
    def address(self) -> str:
        """Return its address on the chain."""
        return self.account.address

    @property
    def requested(self) -> Decimal:
        """Return what its connector asked it to settle."""
        return self.connector.account(self.account_id).requested

    @property
    def credited(self) -> Decimal:
        """Return what its connector was told to credit."""
        return self.connector.account(self.account_id).credited

    async def ask(self, path: str, body: dict[str, str] | None = None) -> Any:
        """Ask the operator's API, or tell it something."""
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            url = f"{self.engine._admin_url}{path}"
            answer = await (client.get(url) if body is None else client.post(url, json=body))
        assert answer.is_success, answer.text
        return answer.json()

    async def settle(self, amount: Decimal, key: str | None = None) -> None:
        """Have the connector ask for a settlement."""
        await self.connector.settle(self.account_id, amount, key=key)

    def log(self) -> str:
        """Return everything its server ever logged."""
        return (self.folder / f"{self.name}.log").read_text()


@dataclass
class Stage:
    """Both sides, on a node that makes blocks only while somebody waits (`until`).

    With `open_carol`, alice has another account, of that name, whose peer only takes money.
    """

    node: Anvil
    token: Token | None
    sides: dict[str, Side] = field(default_factory=dict)
    carol: DevAccount | None = None
    carol_began_with: int = 0

    @property
    def alice(self) -> Side:
        """Return alice."""
        return self.sides["alice"]

    @property
    def bob(self) -> Side:
        """Return bob."""
        return self.sides["bob"]

    @property
    def scale(self) -> int:
        """Return the decimal places of what is settled."""
        return 18 if self.token is None else self.token.decimals

    def balance(self, side: Side) -> int:
        """Return what a side has, in wei or the token's units."""
        return self.node.balance(side.address) if self.token is None else self.token.balance(side.address)

    async def start(self) -> None:
        """Start both servers, and open an account on each."""
        async with anyio.create_task_group() as tasks:
            for side in self.sides.values():
                tasks.start_soon(side.engine.start)
        for side in self.sides.values():
            await side.connector.create_account(side.account_id)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Make blocks until the condition holds."""
        with anyio.move_on_after(PATIENCE_S):
            while not condition():
                if self.node.running:
                    self.node.mine()
                await anyio.sleep(0.03)
            return
        logs = "\n".join(f"{side.name}:\n{side.log()[-3000:]}" for side in self.sides.values())
        raise AssertionError(f"gave up waiting for {what}; {self.books()}\n{logs}")

    async def until_settled(self) -> None:
        """Make blocks until everything asked for is credited, and both servers have nothing left to do."""
        await self.until(lambda: self.unsettled() == 0, "everything to be credited")
        for side in self.sides.values():
            with anyio.fail_after(PATIENCE_S):
                while not await side.engine.is_idle():
                    self.node.mine()
                    await anyio.sleep(0.03)

    def unsettled(self) -> Decimal:
        """Return what was asked for and has not arrived yet."""
        return sum((side.requested - side.credited for side in self.sides.values()), D(0)) - self.carol_waits_for()

    def carol_waits_for(self) -> Decimal:
        """Return what carol has on the chain without having been promised; below zero, what she has yet to get."""
        if self.carol is None:
            return D(0)
        return self.carol_got() - self.alice.connector.account("carol").requested

    def carol_got(self) -> Decimal:
        """Return what has come to carol's address."""
        assert self.carol is not None
        return D(self.node.balance(self.carol.address) - self.carol_began_with).scaleb(-18)

    def books(self) -> str:
        """Return what both connectors have."""
        return (
            ", ".join(
                f"{side.name} requested {side.requested} and was credited {side.credited}"
                for side in self.sides.values()
            )
            + f", carol waits for {-self.carol_waits_for()}"
        )

    def fees(self, side: Side) -> int:
        """Return what a side has spent on gas in all blocks, in wei."""
        spent = 0
        for number in range(self.node.height + 1):
            for tx in self.node.block(number, full=True)["transactions"]:
                if tx["from"] == side.address:
                    receipt = self.node.receipt(tx["hash"])
                    assert receipt is not None
                    spent += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        return spent

    async def end(self) -> dict[str, AuditReport]:
        """Stop both servers with SIGTERM; check that chain, books and connectors agree to the wei."""
        for side in self.sides.values():
            assert await side.engine.stop() == 0, side.log()
        reports = {side.name: _audit(side.store) for side in self.sides.values()}
        to_carol = D(0) if self.carol is None else self.carol_got()
        assert self.carol_waits_for() == 0
        for side, other in ((self.alice, self.bob), (self.bob, self.alice)):
            report, paid = reports[side.name], side.requested + (to_carol if side is self.alice else 0)
            assert not report.problems
            assert report.outgoing.settled == report.outgoing.entered == paid
            assert other.credited == side.requested
            gas = self.fees(side) if self.token is None else 0
            moved = (side.credited - paid).scaleb(self.scale) - gas
            assert self.balance(side) - side.began_with == moved, f"{side.name}: {self.books()}"
        return reports


@asynccontextmanager
async def open_stage(node: Anvil, folder: Path, *, token: Token | None = None, **options: str) -> AsyncIterator[Stage]:
    """Set the stage, with nothing started yet; nothing of it is left afterwards.

    Args:
        node: the node, which each side reaches through a proxy of its own.
        folder: where keys, stores and logs go.
        token: what is settled instead of ether; both sides must own some.
        options: more of the engine's.
    """
    stage = Stage(node, token)
    told = {"chain_id": str(CHAIN_ID), "confirmations": str(CONFIRMATIONS), "poll_interval_s": "0.05"}
    if token is not None:
        told["token"] = token.address
    async with AsyncExitStack() as parts:
        for number, (name, backend) in enumerate(BACKENDS.items(), start=1):
            connector = await parts.enter_async_context(open_test_connector(patience_s=PATIENCE_S))
            proxy = await parts.enter_async_context(open_proxy(node.url))
            key_file = folder / f"{name}.key"
            key_file.write_text(node.accounts[number].key)
            arguments = ["ethereum", "--store", f"sqlite:{folder / f'{name}.db'}", "--connector-url", connector.url]
            arguments += ["--backend", backend]
            for option, value in {**told, **options, "node": proxy.url, "key_file": str(key_file)}.items():
                arguments += ["-o", f"{option}={value}"]
            engine = await parts.enter_async_context(open_engine_process(name, arguments, log=folder / f"{name}.log"))
            connector.engine_url = engine.url
            stage.sides[name] = Side(
                name=name,
                account=node.accounts[number],
                account_id="bob" if name == "alice" else "alice",
                connector=connector,
                proxy=proxy,
                engine=engine,
                store=f"sqlite:{folder / f'{name}.db'}",
                folder=folder,
            )
            stage.sides[name].began_with = stage.balance(stage.sides[name])
        link_accounts(stage.alice.connector, "bob", stage.bob.connector, "alice")
        yield stage


@asynccontextmanager
async def open_carol(stage: Stage) -> AsyncIterator[None]:
    """Let a Rust engine be the peer of alice's account "carol" for the block; the account is not open yet."""
    stage.carol = stage.node.accounts[4]
    stage.carol_began_with = stage.node.balance(stage.carol.address)
    async with open_test_connector() as connector, open_rust_engine(stage.carol.key) as rust:
        connector.engine_url, rust.connector_url = rust.url, connector.url
        connector.books.open("alice")
        link_accounts(stage.alice.connector, "carol", connector, "alice")
        yield


async def fees_booked(side: Side) -> int:
    """Return what a side's engine, which has ended, has recorded as spent on gas, in wei."""
    store = open_store(side.store, create=False)

    class Stored:
        async def load(self, key: str) -> Any:
            return store.apply([Get(account_id="", key=key)])[0]

    try:
        book = await read_nonces(cast("AccountServices", Stored()))
    finally:
        store.close()
    assert book is not None
    # a nonce whose end is known is counted a moment later
    ends = (slot.outcome for _, slot in book.unfinished() if slot is not None)
    return book.fees_spent + sum(end.fee for end in ends if end is not None)


def _audit(url: str) -> AuditReport:
    store = open_store(url, create=False)
    try:
        return audit(store)
    finally:
        store.close()

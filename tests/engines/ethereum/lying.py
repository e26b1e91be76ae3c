"""Two engines behind nodes that lie, seed after seed: chain, verdicts and credits must agree to the wei.

    python -m tests.engines.ethereum.lying --seeds 1000
    python -m tests.engines.ethereum.lying --seed 17

A seed decides the asset, the loop, the provider's limits, the settlements both ways, the reorganisations, the moments
at which an engine is cut and begins again from its store, and the lies. At the end the nodes are honest, and
everything must be settled. A seed repeats its plan and its lies, but not the timing of sockets.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import click
from anyio.abc import TaskGroup

from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.engines.ethereum import SigningKey, ethereum_engine
from settlement_core.stores.memory import create_memory_store
from settlement_core.testing.lying_node import LIES, Limits, LyingNode, open_lying_node
from settlement_core.values.backoff import Backoff
from settlement_core.values.commands import Overview, Pause, Suspense
from settlement_core.values.errors import ConnectorError, InvariantError, LocalError, RemoteError, SettlementError
from settlement_core.values.event import Event
from settlement_core.values.events import AccountHalted, CreditHeld, SettlementInDoubt
from settlement_core.values.records import Totals
from tests.core.worlds import FakeConnector
from tests.engines.ethereum.anvil import Anvil, DevAccount, dev_accounts, open_node
from tests.engines.ethereum.contracts import TRANSFER, Mood, Token, deploy_token
from tests.engines.ethereum.rig import CONFIRMATIONS, D, config_of

__all__ = ["Plan", "Verdict", "run_seed"]

BLOCKS = 40
"""Blocks that are mined while the nodes lie."""

REQUESTS = 6
"""Requests that each node gets between two blocks at most: how many lies are told must not depend on the machine."""

BLOCK_S = 1.0
"""Seconds between two blocks at most."""

SETTLEMENTS = 4
"""What each side asks for meanwhile."""

DECISIVE = (
    "eth_getTransactionReceipt",
    "eth_getBlockReceipts",
    "eth_getLogs",
    "eth_sendRawTransaction",
    "eth_estimateGas",
)
"""Methods whose answers decide about money, and which are asked for rarely."""

PATIENCE_S = 30.0
"""Seconds in which everything must be settled once the nodes are honest."""

_REST_S = 0.1
"""Seconds between two lives: to open a client costs a good part of that."""

SOON = Backoff(first_s=0.02, max_s=0.1)

GRANT = 10**12
"""Units of the token that each side begins with."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides before anything happens."""

    seed: int
    token: bool
    backend: str
    lies: tuple[str, ...] | None
    rate: float
    limits: Limits

    @classmethod
    def of(cls, seed: int) -> Plan:
        """Return the plan of a seed: neighbours differ in asset and loop, and some know a few lies only."""
        chance = random.Random(f"plan {seed}")
        few = chance.sample(list(LIES), chance.choice([1, 1, 5, 12]))
        return cls(
            seed=seed,
            token=seed % 2 == 1,
            backend=("trio", "asyncio")[seed // 2 % 2],
            lies=chance.choice([tuple(few), tuple(few), None]),
            rate=chance.choice([0.05, 0.1, 0.2, 0.3]),
            limits=Limits(
                log_range=chance.choice([None, None, 10]),
                batch=chance.choice([None, None, 10, 3]),
                requests_per_s=chance.choice([None, None, None, 100.0]),
            ),
        )


@dataclass
class Verdict:
    """What came of a seed. `faults` are sentences; none is a pass."""

    plan: Plan
    faults: list[str] = field(default_factory=list)
    lies: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    restarts: int = 0
    took_s: float = 0.0
    report: str = ""


@dataclass
class PartyConnector(FakeConnector):
    """The connector of one party; messages go to the other party's core, if that is up."""

    other: Party | None = None

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have the other party answer."""
        await anyio.lowlevel.checkpoint()
        core = None if self.other is None else self.other.core
        if core is None or self.other is None:
            raise ConnectorError("the peer is down")
        try:
            return await core.handle_message(self.other.account_id, message)
        except SettlementError as problem:
            raise ConnectorError(f"the peer refused: {problem}") from None


@dataclass
class Party:
    """One of the two: a key, a store that survives, and the core of its present life, if there is one."""

    name: str
    account_id: str
    account: DevAccount
    node: LyingNode
    store: Any = field(default_factory=create_memory_store)
    connector: PartyConnector = field(default_factory=PartyConnector)
    core: Core | None = None
    engine: Any = None
    life: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    requested: Decimal = Decimal(0)
    asked: int = 0
    faults: list[str] = field(default_factory=list)
    last_words: str = ""
    restarts: int = 0
    began_with: int = 0

    def observe(self, event: Event) -> None:
        """Take down what may never happen."""
        if isinstance(event, AccountHalted | SettlementInDoubt | CreditHeld):
            self.faults.append(f"{self.name}: {event}")

    def books(self) -> Totals:
        """Return what its store has of settlements to the other."""
        (found,) = self.store.apply([Overview(account_id=self.account_id)])
        return found[0].outgoing if found else Totals()

    async def resume(self) -> None:
        """Have its operator let the account go on, should payments that failed on the chain have paused it."""
        (found,) = self.store.apply([Overview(account_id=self.account_id)])
        if self.core is not None and found and found[0].paused:
            resumed = Pause(account_id=self.account_id, paused=False, reason="honest again", by="operator", at=0.0)
            with contextlib.suppress(RemoteError):
                await self.core.decide(resumed)

    async def settle(self, amount: Decimal) -> None:
        """Have its connector ask for a settlement until that is on record."""
        self.requested += amount
        self.asked += 1
        key = f"{self.name}-{self.asked}"
        while True:
            if self.core is not None:
                try:
                    await self.core.request_settlement(self.account_id, amount, key)
                except SettlementError:
                    pass
                else:
                    return
            await anyio.sleep(0.01)

    async def live(self, connect: Callable[[Any], Any]) -> None:
        """Live one life after the other, each from what the one before has stored."""
        while True:
            try:
                with anyio.CancelScope() as self.life:
                    await self._live_once(connect)
            except* (LocalError, RemoteError) as group:
                self.last_words = _leaves(group)
                if self.core is not None:
                    self.faults.append(f"{self.name} was ended by {_leaves(group)}")
            except* Exception as group:  # noqa: BLE001  whatever it is, it is a fault
                self.faults.append(f"{self.name} was ended by {_leaves(group)}")
            self.core = self.engine = None
            await anyio.sleep(_REST_S)

    async def _live_once(self, connect: Callable[[Any], Any]) -> None:
        config = CoreConfig(settle_backoff=SOON, credit_backoff=SOON, shutdown_s=1.0)
        async with open_core(connect, store=self.store, connector=self.connector, config=config, observer=self) as core:
            await core.create_account(self.account_id)
            self.core = core
            await anyio.sleep_forever()

    @asynccontextmanager
    async def witness(self, connect: Callable[[Any], Any], services: Any) -> AsyncIterator[Any]:
        """Give the engine, and take down every exception of its methods that is not one of a contract."""
        async with connect(services) as engine:
            for name in ("prepare", "submit", "verify", "setup_account", "handle_message", "close_account", "status"):
                setattr(engine, name, self._watched(name, getattr(engine, name)))
            self.engine = engine
            yield engine

    def _watched(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*facts: Any) -> Any:
            try:
                return await method(*facts)
            except Exception as error:
                if isinstance(error, InvariantError) or not isinstance(error, SettlementError):
                    self.faults.append(f"{self.name}: {name} raised {error!r}")
                raise

        return watched


def _leaves(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_leaves(inner) for inner in error.exceptions)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return f"{error!r:.300}{where}"


@dataclass
class World:
    """Two parties on one chain."""

    plan: Plan
    chain: Anvil
    token: Token | None
    alice: Party
    bob: Party
    tasks: TaskGroup

    @property
    def parties(self) -> tuple[tuple[Party, Party], ...]:
        """Return each party with the other."""
        return (self.alice, self.bob), (self.bob, self.alice)

    async def lie(self) -> None:
        """Start both with honest nodes; then settle while nodes lie, blocks are replaced and engines are cut."""
        with anyio.move_on_after(PATIENCE_S):
            while not all(party.core for party, _ in self.parties):
                await anyio.sleep(0.01)
        for party, _ in self.parties:
            party.node.honest = False
        chance = random.Random(f"life {self.plan.seed}")
        due = {(party.name, chance.randrange(BLOCKS)) for party, _ in self.parties for _ in range(SETTLEMENTS)}
        for block in range(BLOCKS):
            for party, _ in self.parties:
                if (party.name, block) in due:
                    self.tasks.start_soon(party.settle, D(chance.randrange(1, 10**6)).scaleb(-6))
            if chance.random() < 0.15:
                self.chain.reorganise(chance.randint(1, CONFIRMATIONS - 1))
            if self.token is not None and chance.random() < 0.15:
                # so that one payment may fail in a block and succeed in the one that replaces it
                self.token.set_mood(chance.choice([Mood.REVERTING, Mood.HONEST, Mood.HONEST]))
            if chance.random() < 0.08:
                party = chance.choice([self.alice, self.bob])
                party.restarts += 1
                party.life.cancel()
            self.chain.mine(1)
            await self.wait_requests(chance.randint(0, REQUESTS))

    async def wait_requests(self, count: int) -> None:
        """Return once each node has got so many requests more."""
        enough = [(party.node, party.node.requests + count) for party, _ in self.parties]
        with anyio.move_on_after(BLOCK_S):
            while any(node.requests < least for node, least in enough):
                await anyio.sleep(0.005)

    async def tell_the_truth(self) -> bool:
        """Return whether everything is settled and credited within the patience."""
        for party, _ in self.parties:
            party.node.honest = True
        if self.token is not None:
            self.token.set_mood(Mood.HONEST)
        with anyio.move_on_after(PATIENCE_S):
            while not self.is_settled():
                if any(other.connector.total() > party.requested for party, other in self.parties):
                    return False
                for party, _ in self.parties:
                    await party.resume()
                self.chain.mine(1)
                await anyio.sleep(0.03)
            return True
        return False

    def is_settled(self) -> bool:
        """Tell whether all that was asked for is settled by verdict and credited."""
        for party, other in self.parties:
            books = party.books()
            if not party.requested == books.entered == books.settled == other.connector.total():
                return False
        return True

    # the conservation check

    async def check(self, *, settled: bool) -> list[str]:
        """Return each sentence in which chain and books differ."""
        faults = []
        for party, other in self.parties:
            moved, verdict = self.moved(party, other), party.books().settled
            credited, asked = other.connector.total(), party.requested
            told = f"{party.name}: {asked} asked, {verdict} settled by verdict, {moved} on chain, {credited} credited"
            if moved > asked:
                faults.append(f"PAID TWICE: {told}")
            if credited > moved:
                faults.append(f"CREDITED TWICE: {told}")
            if verdict > moved:
                faults.append(f"A DEBT IS LOST: {told}")
            if settled and not asked == verdict == moved == credited:
                faults.append(f"BOOKS DIFFER: {told}")
            if not settled and not asked == verdict == moved == credited:
                faults.append(f"STUCK: {told}; {await self.why(party)}; {await self.why(other)}")
            (kept,) = party.store.apply([Suspense()])
            if kept:
                faults.append(f"UNATTRIBUTED: {party.name} keeps {kept!r:.200} for an operator")
            expected = party.began_with + int((self.moved(other, party) - moved).scaleb(self.scale))
            if self.balance(party) != expected - (0 if self.token else self.fees(party)):
                faults.append(f"BALANCE: {party.name} has {self.balance(party)}, expected {expected} without fees")
        return faults

    @property
    def scale(self) -> int:
        """Return the decimal places of what is settled."""
        return 18 if self.token is None else self.token.decimals

    def balance(self, party: Party) -> int:
        """Return what a party has on chain."""
        address = party.account.address
        return self.chain.balance(address) if self.token is None else self.token.balance(address)

    def moved(self, party: Party, other: Party) -> Decimal:
        """Return what the chain says that a party has paid the other."""
        source, target = party.account.address, other.account.address
        units = 0
        for transaction, receipt in self._sent(party):
            if self.token is None:
                units += int(transaction["value"], 16) if (transaction["to"] or "").lower() == target else 0
            for log in receipt["logs"] if self.token is not None else ():
                ends = ["0x" + topic[-40:] for topic in log["topics"][1:3]]
                if log["topics"][0] == TRANSFER and ends == [source, target]:
                    units += int(log["data"], 16)
        return D(units).scaleb(-self.scale)

    def fees(self, party: Party) -> int:
        """Return what a party has spent on gas, in wei."""
        return sum(
            int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
            for _, receipt in self._sent(party, failed=True)
        )

    def _sent(self, party: Party, *, failed: bool = False) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for number in range(self.chain.height + 1):
            for transaction in self.chain.block(number, full=True)["transactions"]:
                if transaction["from"].lower() == party.account.address:
                    receipt = self.chain.receipt(transaction["hash"])
                    assert receipt is not None
                    if failed or receipt["status"] == "0x1":
                        yield transaction, receipt

    async def why(self, party: Party) -> str:
        """Return what a party says about itself."""
        status = None if party.engine is None else await party.engine.status()
        words = party.last_words if party.core is None else ""
        lanes = [] if party.core is None else [lane.last_error for lane in party.core.lanes()]
        return f"{party.name} says {json.dumps(status)}, lanes {lanes}, ended by {words!r}"


@contextmanager
def short_backoff() -> Iterator[None]:
    """Have engines wait hundredths of a second, not half a minute, before they ask a node again that failed."""
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith("settlement_core.engines.ethereum.") and hasattr(module, "NODE_BACKOFF")
    ]
    assert modules
    before = [(module, module.NODE_BACKOFF) for module in modules]
    try:
        for module in modules:
            vars(module)["NODE_BACKOFF"] = SOON
        yield
    finally:
        for module, backoff in before:
            vars(module)["NODE_BACKOFF"] = backoff


@asynccontextmanager
async def open_world(plan: Plan, chain: Anvil) -> AsyncIterator[World]:
    """Give two parties that live until the block ends."""
    accounts = dev_accounts()
    token = deploy_token(chain) if plan.token else None
    if token is not None:
        for number in (1, 2):
            token.transfer(accounts[0].address, to=accounts[number].address, units=GRANT)
    chain.mine(CONFIRMATIONS)
    async with AsyncExitStack() as parts:
        parties = []
        for number, (name, peer) in enumerate([("alice", "bob"), ("bob", "alice")], start=1):
            node = await parts.enter_async_context(
                open_lying_node(
                    chain.url,
                    seed=plan.seed * 2 + number,
                    rate=plan.rate,
                    rates=dict.fromkeys(DECISIVE, min(plan.rate * 3, 0.5)),
                    lies=[LIES[name] for name in plan.lies or LIES],
                    limits=plan.limits,
                )
            )
            # a first start needs a good node
            node.honest = True
            parties.append(Party(name, peer, accounts[number], node))
        alice, bob = parties
        alice.connector.other, bob.connector.other = bob, alice
        async with anyio.create_task_group() as tasks:
            world = World(plan, chain, token, alice, bob, tasks)
            for party in parties:
                party.began_with = world.balance(party)
                config = config_of(
                    chain,
                    token,
                    node_url=party.node.url,
                    key=SigningKey(party.account.key),
                    timeout_s=2.0,
                    gap_patience_s=0.2,
                )
                connect = ethereum_engine(config)
                tasks.start_soon(party.live, lambda services, p=party, c=connect: p.witness(c, services))
            yield world
            tasks.cancel_scope.cancel()


async def live_through(plan: Plan) -> Verdict:
    """Run one seed's life on the running loop."""
    verdict = Verdict(plan)
    began = time.monotonic()
    with open_node(automine=False) as chain, short_backoff():
        async with open_world(plan, chain) as world:
            await world.lie()
            settled = await world.tell_the_truth()
            parties = [party for party, _ in world.parties]
            verdict.faults = [fault for party in parties for fault in party.faults]
            verdict.faults += await world.check(settled=settled)
            for party in parties:
                verdict.lies.update(told.lie for told in party.node.told)
                verdict.requests += party.node.requests
                verdict.restarts += party.restarts
                if verdict.faults:
                    verdict.report += f"{party.name}: {party.node.report(last=400)}\n"
    verdict.took_s = time.monotonic() - began
    return verdict


def run_seed(seed: int) -> Verdict:
    """Run one seed's life on its loop."""
    plan = Plan.of(seed)
    return anyio.run(live_through, plan, backend=plan.backend)


def describe(verdict: Verdict) -> str:
    """Return what a failing test or a person needs to repeat a seed, and to understand it."""
    lines = [repr(verdict.plan), *verdict.faults, verdict.report]
    return "\n".join([*lines, f"to repeat: python -m tests.engines.ethereum.lying --seed {verdict.plan.seed}"])


@click.command(help=__doc__)
@click.option("--seeds", default=100, show_default=True, help="How many seeds.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="This seed only.")
def main(seeds: int, first: int, seed: int | None) -> None:
    """Run seeds, print a line for each that fails, and a verdict."""
    logging.disable(logging.CRITICAL)
    chosen = range(first, first + seeds) if seed is None else range(seed, seed + 1)
    failed, lies = [], Counter[str]()
    for number in chosen:
        verdict = run_seed(number)
        lies.update(verdict.lies)
        if verdict.faults:
            failed.append(number)
        state = "FAILED" if verdict.faults else "passed"
        click.echo(
            f"seed {number} {verdict.took_s:.1f} s, {verdict.requests} requests, {verdict.lies.total()} lies: {state}"
        )
        if verdict.faults or seed is not None:
            click.echo(describe(verdict))
    click.echo(f"{len(chosen)} seeds, {lies.total()} lies of {len(lies)} kinds, {len(failed)} seeds failed: {failed}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""An engine of which there may be one at a time: one worker leads, the others stand by, and no two ever lead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from settlement_core.abc import AccountServices
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.values.commands import Enqueue, OpenAccount
from settlement_core.values.errors import LeadershipLost
from settlement_core.values.events import StandingBy
from settlement_core.values.records import Direction
from tests.core.shared_books import NAMES, PARTITIONS, SharedBooks, WorkerStore
from tests.core.worlds import D, Ears, FakeConnector, MemoryLedger, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio

LEASE_S, POLL_S = CoreConfig().lease_s, CoreConfig().poll_s


@dataclass
class Fleet:
    """Workers of an engine that leads, on one ledger; `connects_s` is how long it takes to connect."""

    books: SharedBooks = field(default_factory=SharedBooks)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    connects_s: float = 0.0
    leading: list[str] = field(default_factory=list)
    ears: dict[str, Ears] = field(default_factory=dict)
    stores: dict[str, WorkerStore] = field(default_factory=dict)
    services: dict[str, AccountServices] = field(default_factory=dict)

    @asynccontextmanager
    async def worker(self, name: str) -> AsyncIterator[Core]:
        """Run one worker for the block, once it leads."""

        @asynccontextmanager
        async def connect(services: AccountServices) -> AsyncIterator[Any]:
            self.services[name] = services
            await services.lead()
            self.leading.append(name)
            await anyio.sleep(self.connects_s)
            try:
                yield VerifiableEngine(self.ledger)
            finally:
                self.leading.remove(name)

        self.stores[name] = self.books.worker_store(name)
        self.ears[name] = Ears()
        async with open_core(
            connect,
            store=self.stores[name],
            connector=FakeConnector(),
            observer=self.ears[name],
            now=lambda: 1_000_000.0 + anyio.current_time(),
            chance=lambda: 0.0,
            worker=name,
        ) as core:
            yield core

    async def run(self, name: str, opened: anyio.Event) -> None:
        """Run a worker; tell once it is open."""
        async with self.worker(name):
            opened.set()
            await anyio.sleep_forever()


async def test_the_second_worker_stands_by_and_takes_over_at_once_when_the_first_ends() -> None:
    """It holds no account, opens no engine, and says once that it waits; the next round after the first left is its."""
    fleet = Fleet()
    opened = anyio.Event()
    async with anyio.create_task_group() as tasks:
        async with fleet.worker("a") as core:
            tasks.start_soon(fleet.run, "b", opened)
            await anyio.sleep(100 * LEASE_S)
            assert not opened.is_set()
            assert fleet.leading == ["a"]
            assert fleet.books.held() == [PARTITIONS, 0]
            assert fleet.ears["b"].of(StandingBy) == [StandingBy(worker="b")]
            assert fleet.ears["a"].of(StandingBy) == []
            await core.create_account("alice")
            await core.request_settlement("alice", D(10), "key")
            await until(lambda: fleet.ledger.total() == 10)
        began = anyio.current_time()
        with anyio.fail_after(10 * LEASE_S):
            await opened.wait()
        assert anyio.current_time() - began <= 2 * POLL_S
        assert fleet.leading == ["b"]
        tasks.cancel_scope.cancel()


async def test_a_new_leader_resumes_every_account_that_owes() -> None:
    """Though it holds their leases from before its engine connected, and no round tells of them as gained."""
    fleet = Fleet(connects_s=5 * LEASE_S)
    for name in NAMES:
        fleet.books.inner.apply(
            [
                OpenAccount(account_id=name, at=0.0),
                Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id="key", amount=D(1), at=0.0),
            ]
        )
    async with fleet.worker("a") as core:
        await until(lambda: fleet.ledger.total() == len(NAMES))
        assert core.statistics().partitions_held == PARTITIONS


async def test_while_the_engine_connects_the_lead_is_kept() -> None:
    """However long that takes, nobody else begins."""
    fleet = Fleet(connects_s=20 * LEASE_S)
    first, second = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fleet.run, "a", first)
        await until(lambda: fleet.leading == ["a"])
        tasks.start_soon(fleet.run, "b", second)
        await anyio.sleep(19 * LEASE_S)
        assert fleet.leading == ["a"]
        await first.wait()
        assert fleet.leading == ["a"]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("saves", [False, True], ids=["finds out by itself", "is told when it saves"])
async def test_a_leader_that_was_silent_too_long_ends_and_changes_nothing_any_more(saves: bool) -> None:
    """Once another leads, what the old one remembers of its engine is refused; and the old one ends, by its cause."""
    fleet = Fleet()
    opened, silent, taken, ended = anyio.Event(), anyio.Event(), anyio.Event(), anyio.Event()

    async def lose() -> None:
        with pytest.raises(BaseExceptionGroup) as raised:
            async with fleet.worker("a"):
                await fleet.services["a"].save("next", 7)
                fleet.stores["a"].blocked = True
                silent.set()
                await taken.wait()
                fleet.stores["a"].blocked = False
                if saves:
                    with pytest.raises(LeadershipLost, match="^worker 'a' was silent for longer than its lease"):
                        await fleet.services["a"].save("next", 8)
                await anyio.sleep_forever()
        assert raised.group_contains(LeadershipLost, match="^worker 'a' was silent for longer than its lease")
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        await silent.wait()
        tasks.start_soon(fleet.run, "b", opened)
        await opened.wait()
        await fleet.services["b"].save("next", 9)
        taken.set()
        with anyio.fail_after(LEASE_S):
            await ended.wait()
        assert await fleet.services["b"].load("next") == 9
        assert fleet.leading == ["b"]
        tasks.cancel_scope.cancel()


async def test_what_is_an_accounts_own_may_be_saved_by_whoever_holds_the_engine() -> None:
    """Only the engine's values as a whole are the leader's; both survive it."""
    fleet = Fleet()
    async with fleet.worker("a"):
        await fleet.services["a"].save("address", "0xabc", "alice")
        await fleet.services["a"].save("next", 7)
    async with fleet.worker("b"):
        assert await fleet.services["b"].load("address", "alice") == "0xabc"
        assert await fleet.services["b"].load("next") == 7


async def test_in_a_store_for_one_process_the_engine_leads_at_once() -> None:
    """And stays the leader, whatever time it takes."""
    world = World(VerifiableEngine(MemoryLedger()))

    async def connect(services: AccountServices) -> Any:
        await services.lead()
        await services.save("next", 1)
        return world.engine

    async with open_core(connect, store=world.store, connector=world.connector) as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.engine.ledger.total() == 10)

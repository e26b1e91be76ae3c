"""Faults of earlier engines that no other test here is named after; see tests/README.md for the whole list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.commands import Overview
from settlement_core.values.records import AccountState
from tests.core.stores import OnTheLoop
from tests.core.worlds import D, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Return each embedded store."""
    made = create_memory_store() if request.param == "memory" else OnTheLoop(open_sqlite_store(tmp_path / "s.db"))
    yield made
    made.close()


async def test_deleting_an_account_touches_no_other_and_none_of_its_own_money(store: Any) -> None:
    """Not those whose id begins alike, and not what it still owes: deletion is a tombstone."""
    world = World(MinimalEngine(takes_s=5), store=store)
    async with world.core() as core:
        for name in ("1", "10", "11"):
            await core.create_account(name)
            await core.request_settlement(name, D(3), "key")
        await core.delete_account("1")
        await until(lambda: all(world.account(name).outgoing.settled == 3 for name in ("1", "10", "11")))
    states = [account.state for account in store.apply([Overview()])[0]]
    assert states == [AccountState.DELETED, AccountState.OPEN, AccountState.OPEN]


async def test_two_payments_of_one_transaction_are_two_credits(store: Any) -> None:
    """A credit's id names the output or log, not only the transaction."""
    world = World(MinimalEngine(), store=store)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(1), "0xabc:0")
        await world.services[0].credit_settlement("alice", D(2), "0xabc:1")
        await until(lambda: world.account().incoming.settled == 3)
    assert world.connector.total() == 3


@pytest.mark.parametrize(
    "text", [f"{2**53 + 1}", "1000000000000000000", "0.12345678901234567890123456789", "9" * 300 + "." + "9" * 200]
)
async def test_no_digit_is_lost_on_any_way_through(store: Any, text: str) -> None:
    """Out to the ledger and in to the connector, far beyond what doubles and 64-bit integers hold."""
    world = World(MinimalEngine(), store=store)
    async with world.core() as core:
        await core.create_account("alice")
        assert str(await core.request_settlement("alice", D(text), "key")) == text
        await world.services[0].credit_settlement("alice", D(text), "tx")
        await until(lambda: world.account().incoming.settled == world.account().outgoing.settled == D(text))
    assert [f"{amount:f}" for amount in world.engine.paid] == [text]
    assert [f"{amount:f}" for *_, amount in world.connector.offers] == [text]

"""Every task of the core says what it does and for whom: what a debugger or a dump of all tasks shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from settlement_core.abc import AccountServices
from tests.core.shared_books import Fleet
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio

ALWAYS = {
    *("journal", "journal watch", "upkeep", "looking for what is due"),
    *("early tries of outgoing", "early tries of incoming"),
}


def names_of_tasks(before: set[int]) -> set[str]:
    """Return the names of all tasks that were begun since."""
    return {task.name or "" for task in anyio.get_running_tasks() if task.id not in before}


def tasks_now() -> set[int]:
    """Return the ids of all tasks."""
    return {task.id for task in anyio.get_running_tasks()}


async def test_tasks_of_a_core_are_named_for_what_they_do() -> None:
    """Those of lanes with their account and direction; what has ended is gone."""
    before = tasks_now()
    world = World(MinimalEngine(takes_s=100), connector=FakeConnector(takes_s=100))
    async with world.core() as core:
        await core.create_account("alice")
        await until(lambda: core.statistics().recovered and core.statistics().active_lanes == 0)
        assert names_of_tasks(before) == ALWAYS
        await core.request_settlement("alice", D(1), "a")
        await world.services[0].credit_settlement("alice", D(1), "tx")
        await until(lambda: len(world.connector.offers) == 1)
        lanes = {"alice outgoing", "alice incoming"}
        assert names_of_tasks(before) == {*ALWAYS, *lanes}
    assert names_of_tasks(before) == set()


async def test_tasks_of_a_worker_are_named_for_what_they_do() -> None:
    """Also while it looks after accounts it holds, and looks at those it was given."""
    before = tasks_now()
    fleet = Fleet()
    async with fleet.worker("a", MinimalEngine()) as core:
        await until(lambda: core.statistics().recovered)
        assert names_of_tasks(before) == {*ALWAYS, "sharing"}
    async with fleet.worker("b", MinimalEngine(), hints=True) as core:
        await until(lambda: core.statistics().recovered)
        assert "hearing of rings" in names_of_tasks(before)


async def test_what_keeps_the_lead_is_named() -> None:
    """While an engine takes its time to connect."""
    before = tasks_now()
    fleet = Fleet()
    seen: set[str] = set()

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[Any]:
        await services.lead()
        await anyio.sleep(1)
        seen.update(names_of_tasks(before))
        yield VerifiableEngine(MemoryLedger())

    store = fleet.books.worker_store("a")
    world = World(None, store=store)
    world.connect = connect  # type: ignore[method-assign,assignment]
    async with world.core(worker="a"):
        pass
    assert seen == {"journal", "journal watch", "keeping the lead"}


async def test_a_recovery_is_named() -> None:
    """It is under way as soon as the store has told what there is to look after."""
    before = tasks_now()
    fleet = Fleet()
    seen: list[set[str]] = []
    store = fleet.books.worker_store("a")
    store.after = lambda *_: seen.append(names_of_tasks(before))
    async with fleet.worker("a", MinimalEngine(), store=store) as core:
        await until(lambda: core.statistics().recovered)
    assert {*ALWAYS, "sharing", "recovery"} in seen

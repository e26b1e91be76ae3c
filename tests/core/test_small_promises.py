"""What nobody would lose money by, and everybody would wonder about: who is hurried, asked, entered and named."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from settlement_core.abc import Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.values.commands import Enqueue, OpenAccount, Share, Values
from settlement_core.values.errors import InvalidIdentifier, LeaseLost, StoreUnavailable
from settlement_core.values.events import SettlementRecorded
from settlement_core.values.records import Direction
from tests.core.shared_books import NAMES, Fleet
from tests.core.stores import FlakyStore
from tests.core.test_sharing import Bank, owe, two
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


async def test_to_delete_an_account_or_open_it_again_hurries_no_credit() -> None:
    """A connector that is away is offered a credit when its delay is over, however often it asks for the account."""
    connector = FakeConnector([Unanswered("away")] * 3)
    world = World(MinimalEngine(), connector=connector, config=CoreConfig())
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        for _ in range(30):
            await anyio.sleep(0.1)
            await core.delete_account("alice")
            await core.create_account("alice")
        await until(lambda: world.account().incoming.settled == 3)
    assert [round(when, 3) for when, *_ in connector.offers] == [0.0, 0.5, 1.5, 3.5]


async def test_an_account_without_a_name_gets_one_of_its_own() -> None:
    """Two of them are two accounts, under ids that nobody can guess."""
    world = World(MinimalEngine())
    async with world.core() as core:
        names = [await core.create_account() for _ in range(2)]
    assert names[0] != names[1]
    assert [len(name) for name in names] == [36, 36]
    assert [world.account(name).account_id for name in names] == names


async def test_a_core_gives_up_on_its_store_when_its_configuration_says() -> None:
    """Not at the default; how much was not recorded is said."""
    store = FlakyStore()
    world = World(MinimalEngine(), store=store, config=CoreConfig(drain_s=3.0, shutdown_s=1.0))
    with pytest.raises(ExceptionGroup) as caught:
        async with world.core() as core:
            await core.create_account("alice")
            store.failures = [StoreUnavailable("gone") for _ in range(1000)]
            began = anyio.current_time()
            world.services[0].try_settlement("alice")
            await anyio.sleep(0.1)
    assert caught.group_contains(StoreUnavailable, match="^the store took nothing for 3 s while closing: ")
    assert anyio.current_time() - began == pytest.approx(4.1, abs=0.1)


async def test_an_engine_that_could_be_entered_is_not() -> None:
    """What is an engine already is taken as it is, whatever else it is."""

    class Both(MinimalEngine):
        async def __aenter__(self) -> Any:
            raise AssertionError("entered")

        async def __aexit__(self, *_: object) -> None:
            """Never called."""

    world = World(Both())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.account().outgoing.settled == 1)
    assert world.engine.paid == [D(1)]


async def test_a_lost_lease_names_its_account() -> None:
    """Whoever asked for it under a token that is none any more."""
    fleet = Fleet()
    async with fleet.worker("a", MinimalEngine()) as core:
        await until(lambda: core.statistics().recovered)
        with pytest.raises(LeaseLost) as caught:
            await core._context.sharing.confirm(NAMES[0], "another")
    assert caught.value.account_id == NAMES[0]


async def test_a_ring_is_acted_upon_once_and_then_forgotten() -> None:
    """The store need not keep it, and nobody looks at the account again for it."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        for name in NAMES:
            await owe(a if fleet.books.owner(name) == "b" else b, name)
        await until(lambda: all(fleet.account(name).outgoing.settled == 10 for name in NAMES))
        await anyio.sleep(5)
        assert [lease.rings for lease in fleet.books.leases] == [{}] * 8
        commands = [core.statistics().journal.commands for core in (a, b)]
        await anyio.sleep(10)
        assert [core.statistics().journal.commands - n for core, n in zip((a, b), commands, strict=True)] == [
            pytest.approx(10, abs=1)
        ] * 2


async def test_new_money_through_another_worker_is_as_good_as_through_the_own() -> None:
    """An account that backs off after a failure tries again for it at once."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        name = next(name for name in NAMES if fleet.books.owner(name) == "a")
        engine = a._context.engine.minimal
        engine.fails = 12  # type: ignore[union-attr]
        await owe(a, name)
        await until(lambda: engine.fails == 2, within_s=100_000, every_s=1.0)  # type: ignore[union-attr]
        engine.fails = 0  # type: ignore[union-attr]
        await b.request_settlement(name, D(5), "other")
        await until(lambda: fleet.account(name).outgoing.settled == 15, within_s=3)
    assert bank.paid[name] == 15


async def test_a_settlement_costs_the_store_three_commands() -> None:
    """Its request, its claim and its end; the account then rests, and asks for nothing."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await until(lambda: core.statistics().recovered and core.statistics().active_lanes == 0)
        before = core.statistics().journal.commands
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: bool(world.ears.of(SettlementRecorded)) and core.statistics().active_lanes == 0)
        assert core.statistics().journal.commands - before == 3


async def test_a_request_gives_up_on_the_store_when_the_configuration_says() -> None:
    """Not at the default; the sentence tells how long that was."""
    store = FlakyStore()
    world = World(MinimalEngine(), store=store, config=CoreConfig(request_deadline_s=1.5))
    async with world.core() as core:
        await core.create_account("alice")
        store.failures = [StoreUnavailable("gone") for _ in range(9)]
        began = anyio.current_time()
        sentence = (
            "the store did not answer within 1.5 s; whether the request was recorded is not known yet, repeating it "
            "with the same key is safe"
        )
        with pytest.raises(StoreUnavailable, match=f"^{sentence}$"):
            await core.request_settlement("alice", D(1), "a")
        assert anyio.current_time() - began == pytest.approx(1.5)
        await until(lambda: not store.failures)
        await anyio.sleep(60)
    assert world.account().outgoing.entered == 0


async def test_rounds_of_sharing_begin_as_far_apart_as_configured() -> None:
    """A lease lasts three of them at least."""
    fleet, times = Fleet(CoreConfig(poll_s=2.0, lease_s=6.0)), []
    store = fleet.books.worker_store("a")
    store.after = lambda command, _: times.append(anyio.current_time()) if isinstance(command, Share) else None
    async with fleet.worker("a", MinimalEngine(), store=store):
        await anyio.sleep(9)
        rounds = times[1:]
    assert [round(when - rounds[0], 3) for when in rounds[:4]] == [0.0, 2.0, 4.0, 6.0]


async def test_accounts_of_any_name_are_resumed() -> None:
    """Of digits, capitals and signs as well: ids are often random."""
    names = ["-", ".a", "0", "9f", "A", "Zoe", "_", "a", "~"]
    world = World(MinimalEngine())
    world.store.apply([OpenAccount(account_id=name, at=0.0) for name in names])
    world.store.apply(
        [Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id="k", amount=D(1), at=0.0) for name in names]
    )
    async with world.core():
        await until(lambda: len(world.engine.paid) == len(names), within_s=5)
    assert sorted(account_id for _, account_id, _ in world.engine.calls) == sorted(names)


async def test_before_the_store_has_told_a_core_holds_nothing() -> None:
    """It knows of one partition, as a store for one process has, and has not recovered."""
    world = World(MinimalEngine())
    async with world.core() as core:
        state = core.statistics()
        assert (state.partitions, state.partitions_held, state.recovered) == (1, 0, False)
        await until(lambda: core.statistics().recovered)
        assert core.statistics().partitions_held == 1


async def test_an_engine_that_never_disconnects_is_given_up() -> None:
    """After five seconds, and whoever runs the core is told by an error."""

    class Clinging(MinimalEngine):
        async def disconnect(self) -> None:
            await anyio.sleep_forever()

    world = World(Clinging())
    began = anyio.current_time()
    with pytest.raises(ExceptionGroup) as caught:
        async with world.core():
            pass
    assert caught.group_contains(TimeoutError)
    assert anyio.current_time() - began == pytest.approx(5.0)


async def test_a_credit_that_waits_for_its_turn_is_shown_to_wait() -> None:
    """Eight are offered at a time; the ninth account does nothing wrong."""
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=5.0))
    async with world.core() as core:
        for number in range(9):
            await core.create_account(f"peer-{number}")
            await world.services[0].credit_settlement(f"peer-{number}", D(1), "tx")
        await anyio.sleep(1)
        assert sorted(lane.doing for lane in core.lanes()) == ["crediting"] * 8 + ["waiting for its turn"]


async def test_an_engine_saves_values_under_names_that_every_store_keeps_only() -> None:
    """Not under the framework's own name, beside the clock, nor under one that is no account's; nothing is recorded."""
    world = World(MinimalEngine())
    async with world.core():
        (services,) = world.services
        before = world.store.apply([Values()])
        for key, account_id in (("clock", "/"), ("cursor", "a b"), ("\ud800", None), ("\udcff", "alice")):
            with pytest.raises(InvalidIdentifier):
                await services.save(key, 1, account_id)
            with pytest.raises(InvalidIdentifier):
                await services.load(key, account_id)
        assert world.store.apply([Values()]) == before
        await services.save("cur\0sor", {"\ud800": "\0"}, "alice")
        assert await services.load("cur\0sor", "alice") == {r"\ud800": "\0"}

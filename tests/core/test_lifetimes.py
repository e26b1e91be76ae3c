"""Shutdown and failure: always in the same order, never losing what happened, never hiding why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from settlement_core.abc import AccountServices, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import open_core
from settlement_core.values.commands import Claim, Claimed, Command, Enqueue, OpenAccount, Result
from settlement_core.values.errors import InvalidEngine, LocalError, ShuttingDown, StoreBroken, StoreUnavailable
from settlement_core.values.events import AccountHalted, CoreStopped, EngineMisbehaved, RecoveryFinished
from settlement_core.values.records import Direction
from settlement_core.values.sealing import seal
from tests.core.stores import FlakyStore, unavailable
from tests.core.worlds import D, Ears, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


async def test_effects_in_flight_end_before_the_core_does() -> None:
    """A settlement of 8 s is recorded, not cut, when the core is closed after 1 s."""
    world = World(MinimalEngine(takes_s=8))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await anyio.sleep(1)
    assert anyio.current_time() == pytest.approx(8)
    assert world.account().outgoing.settled == 1
    assert world.ears.of(CoreStopped) == [CoreStopped(unfinished=0)]


async def test_effects_in_flight_end_although_nothing_was_under_way_before() -> None:
    """That all had ended once does not count later."""
    world = World(MinimalEngine(takes_s=8))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: core.statistics().active_lanes == 0)
        began = anyio.current_time()
        await core.request_settlement("alice", D(2), "b")
        await anyio.sleep(1)
    assert anyio.current_time() - began == pytest.approx(8)
    assert world.account().outgoing.settled == 3


async def test_an_effect_beyond_the_deadline_is_cut_and_stays_open() -> None:
    """After exactly 10 s it is cancelled; the next life finds it."""
    world = World(MinimalEngine(takes_s=60))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await anyio.sleep(1)
    assert anyio.current_time() == pytest.approx(11)
    assert world.account().outgoing.open == 1
    assert world.ears.of(CoreStopped) == [CoreStopped(unfinished=1)]


async def test_accounts_that_only_wait_do_not_delay_shutdown() -> None:
    """Back-offs, pending payments and failing credits end at once."""
    world = World(
        VerifiableEngine(MemoryLedger(final_after_s=10_000.0)), connector=FakeConnector([Unanswered("503")] * 100)
    )
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await world.services[0].credit_settlement("alice", D(1), "b")
        await anyio.sleep(100)
        began = anyio.current_time()
    assert anyio.current_time() == began
    assert world.account().outgoing.open == 1
    assert world.account().incoming.open == 1


async def test_no_new_work_is_taken_once_shutdown_began() -> None:
    """It is answered `ShuttingDown` and nothing is recorded."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        core.refuse_new_work()
        with pytest.raises(ShuttingDown, match="nothing was recorded"):
            await core.request_settlement("alice", D(1), "a")
    assert world.account().outgoing.entered == 0


async def test_money_claimed_but_not_yet_tried_is_handed_back_when_cut() -> None:
    """A cancellation between the claim and the effect leaves nothing in doubt with a minimal engine."""

    class Cutting(FlakyStore):
        def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
            results = super().apply(commands)
            if any(isinstance(result, Claimed) for result in results):
                scope.cancel()
            return results

    store, engine = Cutting(), MinimalEngine()
    with anyio.CancelScope() as scope:
        async with open_core(World(engine).connect, store=store, connector=FakeConnector()) as core:
            await core.create_account("alice")
            await core.request_settlement("alice", D(1), "a")
            await anyio.sleep_forever()
    assert engine.calls == []
    assert World(engine, store.inner).account().outgoing.queued == 1


async def test_money_claimed_while_shutdown_begins_is_handed_back() -> None:
    """The claim was on its way already; the engine is not asked any more."""

    class Stopping(FlakyStore):
        def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
            results = super().apply(commands)
            if any(isinstance(result, Claimed) for result in results):
                core._context.stopping = True
            return results

    store, engine = Stopping(), MinimalEngine()
    async with open_core(World(engine).connect, store=store, connector=FakeConnector()) as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: World(engine, store.inner).account().outgoing.queued == 1 and not core.lanes())
    assert engine.calls == []
    assert World(engine, store.inner).attempts()[0].settled == 0


async def test_the_engine_that_dies_takes_the_core_with_it_and_is_named() -> None:
    """A background task of the engine fails: the block is cancelled and the real exception comes out."""

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[MinimalEngine]:
        async def listen() -> None:
            await anyio.sleep(3)
            raise ConnectionError("ledger went away")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            yield world.engine
            tasks.cancel_scope.cancel()

    world = World(MinimalEngine(takes_s=100))
    with pytest.raises(ExceptionGroup) as caught:
        async with open_core(connect, store=world.store, connector=world.connector, observer=world.ears) as core:
            await core.create_account("alice")
            await core.request_settlement("alice", D(1), "a")
            await anyio.sleep_forever()
    assert caught.group_contains(ConnectionError, match="ledger went away")
    assert anyio.current_time() == pytest.approx(3)
    assert world.account().outgoing.open == 1


async def test_an_engine_that_cannot_connect_is_the_error() -> None:
    """Nothing is left running."""

    async def connect(services: AccountServices) -> MinimalEngine:
        raise ConnectionError("no ledger")

    world = World(MinimalEngine())
    with pytest.raises(ExceptionGroup) as caught:
        async with open_core(connect, store=world.store, connector=world.connector):
            raise AssertionError("never gets here")
    assert caught.group_contains(ConnectionError, match="no ledger")


async def test_a_sealed_store_is_not_served_and_its_engine_not_connected() -> None:
    """Its money was moved to another store: two cores would each pay it."""
    world = World(MinimalEngine())
    world.store.apply([seal("its money was moved")])
    with pytest.raises(ExceptionGroup) as caught:
        async with world.core():
            raise AssertionError("never gets here")
    assert caught.group_contains(LocalError, match="^its money was moved$")
    assert world.services == []


async def test_what_nobody_foresaw_halts_its_direction_and_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, and the lane as it was; the other direction goes on."""

    class Broken(FakeConnector):
        async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> Any:
            raise KeyError("no such field")

    world = World(MinimalEngine(), connector=Broken())
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await core.request_settlement("alice", D(5), "key")
        await until(lambda: world.account().outgoing.settled == 5 and bool(core.statistics().halted))
        assert core.statistics().halted == {"alice incoming": "KeyError: 'no such field'"}
    assert world.account().incoming.open == 3
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message == "lane <IncomingLane 'alice' crediting, 0 failures> ended in a way we did not foresee"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "'no such field'"


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        (object(), "object is no settlement engine: it has neither settle nor prepare, submit and verify"),
        (type("Half", (), {"prepare": print, "verify": print})(), "it has prepare, verify but not submit"),
        (type("Odd", (), {"settle": print, "asset_scale": "9"})(), "its asset_scale is '9', not an integer"),
    ],
)
async def test_an_object_that_is_no_engine_is_refused_with_a_sentence(engine: object, problem: str) -> None:
    """At the start, not at the first settlement."""
    world = World(engine)
    with pytest.raises(ExceptionGroup) as caught:
        async with world.core():
            raise AssertionError("never gets here")
    assert caught.group_contains(InvalidEngine, match=problem)


async def test_an_engine_may_be_given_as_a_function_a_coroutine_or_a_context_manager() -> None:
    """All three settle; a returned one is disconnected at the end, even when we are cancelled."""
    ended: list[str] = []

    class Leaving(MinimalEngine):
        async def disconnect(self) -> None:
            await anyio.sleep(1)
            ended.append("disconnected")

    def plain(services: AccountServices) -> Any:
        return Leaving()

    async def coroutine(services: AccountServices) -> Any:
        return Leaving()

    @asynccontextmanager
    async def manager(services: AccountServices) -> AsyncIterator[Any]:
        yield MinimalEngine()
        ended.append("left")

    for connect in (plain, coroutine, manager):
        world = World(None)
        async with open_core(connect, store=world.store, connector=world.connector) as core:
            await core.create_account("alice")
            await core.request_settlement("alice", D(1), "a")
            await until(lambda world=world: world.account().outgoing.settled == 1)  # type: ignore[misc]
    with anyio.CancelScope() as scope:
        async with open_core(plain, store=world.store, connector=world.connector):
            scope.cancel()
            await anyio.sleep_forever()
    assert ended == ["disconnected", "disconnected", "left", "disconnected"]


async def test_a_store_broken_for_good_ends_the_core_with_the_real_error() -> None:
    """Requests that wait are told to come again, and the block fails with the cause."""
    store = FlakyStore()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_core(
            World(MinimalEngine()).connect, store=store, connector=FakeConnector(), observer=Ears()
        ) as core:
            await core.create_account("alice")
            store.failures = [StoreBroken("the disk image is malformed")]
            await core.request_settlement("alice", D(1), "a")
    assert caught.group_contains(StoreBroken, match="malformed")


async def test_while_the_store_is_away_requests_give_up_and_accounts_wait() -> None:
    """A request gives up after exactly 4 s and may be repeated; nothing is paid without a durable attempt."""
    store, world = FlakyStore(), World(MinimalEngine())
    async with open_core(world.connect, store=store, connector=FakeConnector(), chance=lambda: 0.0) as core:
        await core.create_account("alice")
        store.failures = unavailable(20)
        began = anyio.current_time()
        with pytest.raises(StoreUnavailable, match="did not answer within 4 s.*repeating it with the same key is safe"):
            await core.request_settlement("alice", D(1), "a")
        assert anyio.current_time() - began == pytest.approx(4)
        assert world.engine.calls == []
        await until(lambda: not store.failures)
        await anyio.sleep(20)
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.engine.paid == [1])
    assert world.engine.paid == [1]


async def test_an_engine_that_raises_while_cancelled_does_not_spoil_the_shutdown() -> None:
    """Its error is told to observers; the cancellation ends where it should."""

    class Careless(MinimalEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                try:
                    await anyio.sleep_forever()
                finally:
                    raise RuntimeError("clean-up failed")
            return amount

    world = World(Careless(), config=CoreConfig(shutdown_s=1))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await anyio.sleep(1)
    assert world.account().outgoing.open + world.account().outgoing.parked == 1
    told = [event.reason for event in world.ears.of(EngineMisbehaved)]
    told += [attempt.reason for attempt in world.attempts()]
    assert any("clean-up failed" in reason for reason in told)


async def test_a_core_of_many_owing_accounts_serves_at_once_and_resumes_them_all() -> None:
    """3,000 accounts owe at the start: a request is accepted before they are all looked at, then all are settled."""
    world = World(MinimalEngine())
    from settlement_core.values.commands import Enqueue, OpenAccount
    from settlement_core.values.records import Direction

    for number in range(3000):
        name = f"account{number:05}"
        world.store.apply(
            [
                OpenAccount(account_id=name, at=0.0),
                Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id="a", amount=D(1), at=0.0),
            ]
        )
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        assert not core.statistics().recovered
        await until(lambda: len(world.engine.paid) == 3001)
        await until(lambda: core.statistics().recovered)
        assert core.statistics().active_lanes == 0
    (event,) = world.ears.of(RecoveryFinished)
    assert event.accounts >= 3000


async def test_a_bug_in_one_account_is_not_the_others_affair() -> None:
    """An unexpected exception halts that direction of that account, loudly."""

    class Odd(FakeConnector):
        async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> Any:
            if account_id == "alice":
                raise ZeroDivisionError("oops")
            return await super().credit(account_id, amount, idempotency_key)

    world = World(MinimalEngine(), connector=Odd())
    async with world.core() as core:
        for name in ("alice", "bob"):
            await core.create_account(name)
            await world.services[0].credit_settlement(name, D(1), "a")
        await until(lambda: world.account("bob").incoming.settled == 1)
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.account("alice").outgoing.settled == 1)
    (event,) = world.ears.of(AccountHalted)
    assert (event.account_id, event.direction, event.reason) == ("alice", "incoming", "ZeroDivisionError: oops")
    assert world.account("alice").incoming.open == 1


async def test_an_observer_that_raises_stops_no_payment(caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is logged; the settlement is recorded all the same."""

    class Loud:
        def __repr__(self) -> str:
            return "<Loud>"

        def observe(self, event: object) -> None:
            raise RuntimeError("cannot bear it")

    world = World(MinimalEngine())
    async with open_core(world.connect, store=world.store, connector=world.connector, observer=Loud()) as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.account().outgoing.settled == 1)
    messages = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert all(record.exc_info for record in caplog.records if record.levelname == "ERROR")
    assert "observer <Loud> failed on: account alice is to settle 1 (key a)" in messages


async def test_states_are_shown_in_reprs_and_statistics() -> None:
    """An embedder sees at a glance what a core and its lanes are doing."""
    world = World(VerifiableEngine(MemoryLedger(), fail=["verify"] * 3))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await anyio.sleep(1)
        assert repr(core) == "<Core of VerifiableEngine running, 1 active lanes>"
        (lane,) = core.lanes()
        assert (lane.doing, lane.failures, lane.last_error) == (
            "backing off",
            1,
            "verify raised RuntimeError: verify broke",
        )
        assert lane.next_try_in_s == pytest.approx(4)
        (inner,) = core._supervisor._lanes.values()
        assert repr(inner) == "<OutgoingLane 'alice' backing off, 1 failures, next in 4.0 s>"
        core.try_settlement("alice")
        await anyio.sleep(0.5)
        assert core.lanes()[0].failures == 2
        assert core.config is world.config
        core.refuse_new_work()
        assert repr(core) == "<Core of VerifiableEngine stopping, 1 active lanes>"
        assert core.statistics().stopping


async def test_recorded_request_whose_client_went_away_is_settled_all_the_same() -> None:
    """Cancelled while the store's answer was lost; so is an engine's report of a payment."""
    store, engine = FlakyStore(apply_first=True), MinimalEngine()
    world = World(engine)
    async with open_core(world.connect, store=store, connector=world.connector, chance=lambda: 0.0) as core:
        await core.create_account("alice")
        await until(lambda: core.statistics().active_lanes == 0)
        store.failures = unavailable(3)
        with anyio.move_on_after(0.01) as gone:
            await core.request_settlement("alice", D(1), "a")
        with anyio.move_on_after(0.01) as gone_too:
            await world.services[0].credit_settlement("alice", D(2), "b")
        assert gone.cancelled_caught
        assert gone_too.cancelled_caught
        await until(lambda: engine.paid == [1] and world.connector.total() == 2, within_s=5)


async def test_a_replay_does_not_hurry_what_backs_off() -> None:
    """A connector that keeps repeating itself cannot make the engine try more often."""

    async def nothing(_: Decimal) -> Decimal:
        return D(0)

    world = World(MinimalEngine([nothing, nothing]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        for _ in range(200):
            await anyio.sleep(0.1)
            await core.request_settlement("alice", D(1), "a")
    assert [round(when) for when, _, _ in world.engine.calls] == [0, 5, 15]


async def test_a_start_begins_only_with_what_is_there_to_do() -> None:
    """We owe alice, bob paid us, carol both, dave nothing: each direction with money has a task, and no other."""
    world = World(MinimalEngine())
    out, into = Direction.OUTGOING, Direction.INCOMING
    waiting = {("alice", out), ("bob", into), ("carol", out), ("carol", into)}
    commands: list[Command[Any]] = [OpenAccount(account_id=name, at=0.0) for name in ("alice", "bob", "carol", "dave")]
    commands += [
        Enqueue(account_id=name, direction=direction, entry_id="key", amount=D(5), at=0.0)
        for name, direction in sorted(waiting)
    ]
    world.store.apply(commands)
    asked: list[Claim] = []
    apply = world.store.apply

    def overheard(batch: Sequence[Command[Any]]) -> list[Result]:
        asked.extend(command for command in batch if isinstance(command, Claim))
        results: list[Result] = apply(batch)
        return results

    world.store.apply = overheard
    async with world.core() as core:
        await until(lambda: core.statistics().recovered and not core.statistics().active_lanes)
    assert {(claim.account_id, claim.direction) for claim in asked} == waiting
    assert world.ears.of(RecoveryFinished) == [RecoveryFinished(accounts=3)]
    assert (sum(world.engine.paid, D(0)), world.connector.total()) == (D(10), D(10))

"""A store that fails over may have forgotten what it acknowledged last; what moved meanwhile must not move again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Acknowledged, CreditOutcome
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core
from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.values.commands import Claim, Claimed, Close, Command, Enqueue, Note, OpenAccount, Result
from settlement_core.values.events import (
    AccountHalted,
    AttemptForgotten,
    MovedMoreThanKnown,
    SettlementInDoubt,
    SettlementRecorded,
)
from settlement_core.values.records import AttemptState, Payment
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


class Forgetful(MemoryStore):
    """Keeps a copy from before the last command of each kind, to fail over to; of claims, those that found money."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[type, Any] = {}

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply one after the other."""
        results = []
        for command in commands:
            before = copy.deepcopy(self._books)
            results.extend(super().apply([command]))
            if not isinstance(command, Claim) or isinstance(results[-1], Claimed):
                self.copies[type(command)] = before
        return results

    def fail_over_to_before(self, kind: type) -> None:
        """Forget everything since the last command of a kind."""
        self._books = copy.deepcopy(self.copies[kind])
        # its handlers are methods of the books they were copied from
        fresh = create_memory_store()._books
        fresh.__dict__ |= {k: v for k, v in self._books.__dict__.items() if k != "_handlers"}
        self._books = fresh


def failing_over(world: World, kind: type, *, then: Callable[[Decimal], Any] = lambda amount: amount) -> Any:
    """Return what a minimal engine does instead of paying at once: pay while the store fails over."""

    async def settle(amount: Decimal) -> Any:
        await anyio.sleep(1)
        assert isinstance(world.store, Forgetful)
        world.store.fail_over_to_before(kind)
        return then(amount)

    return settle


def make_world(engine: Any = None) -> World:
    """Return a world on a forgetful store."""
    return World(engine or MinimalEngine(), store=Forgetful())


async def owe(core: Core, amount: int = 10, key: str = "key") -> None:
    """Ask for a settlement."""
    await core.create_account("alice")
    await core.request_settlement("alice", D(amount), key)


async def test_what_was_paid_for_a_forgotten_attempt_is_recorded_under_the_same_id() -> None:
    """The claim is forgotten while the engine pays: the 10 are settled, once, and the account goes on."""
    world = make_world()
    world.engine.script = [failing_over(world, Claim)]
    async with world.core() as core:
        await owe(core)
        await until(lambda: len(world.ears.of(SettlementRecorded)) == 1)
        await owe(core, 5, "other")
        await until(lambda: world.account().outgoing.settled == 15)
        assert not core.statistics().halted
    (event,) = world.ears.of(AttemptForgotten)
    assert event.attempt_id == world.attempts()[0].attempt_id
    assert world.engine.paid == [10, 5]
    assert world.ears.of(MovedMoreThanKnown) == []


async def test_dust_and_leftovers_of_a_forgotten_attempt_are_as_they_were() -> None:
    """10.25 at a scale of 1, of which 7 were paid: 3.25 are queued, and paid as far as they can be."""
    world = make_world()
    world.engine.asset_scale = 1
    world.engine.script = [failing_over(world, Claim, then=lambda _: D(7))]
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D("10.25"), "key")
        await until(lambda: len(world.ears.of(SettlementRecorded)) == 1)
        assert world.account().outgoing.queued == D("3.25")
        await until(lambda: world.account().outgoing.settled == D("10.2"))
    assert world.engine.paid == [7, D("3.2")]


async def test_being_cut_does_not_keep_a_forgotten_attempt_from_being_recorded() -> None:
    """The core is cancelled the moment the engine has paid: the journal records it all the same."""
    world = make_world()

    def cut(amount: Decimal) -> Decimal:
        scope.cancel()
        return amount

    class Cut(MinimalEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            world.store.fail_over_to_before(Claim)
            self.paid.append(amount)
            return cut(amount)

    world.engine = Cut()
    with anyio.CancelScope() as scope:
        async with world.core() as core:
            await owe(core)
            await anyio.sleep_forever()
    assert world.account().outgoing.settled == 10
    async with world.core():
        await anyio.sleep(100)
    assert world.engine.paid == [10]


async def test_more_paid_than_the_store_still_knows_of_is_told_loudly() -> None:
    """Of two requests for 10 and 5 paid together the second is forgotten: 10 are settled, 5 are told."""

    class Pausing(MinimalEngine):
        async def setup_account(self, account_id: str) -> None:
            await anyio.sleep(1)

    world = make_world(Pausing())
    async with world.core() as core:
        await owe(core)
        await core.request_settlement("alice", D(5), "other")
        world.store.copies[Enqueue].accounts["alice"].set_up = False
        world.engine.script = [failing_over(world, Enqueue)]
        await until(lambda: len(world.ears.of(SettlementRecorded)) == 1)
        await anyio.sleep(100)
        assert not core.statistics().halted
    (event,) = world.ears.of(MovedMoreThanKnown)
    assert (event.moved, event.known, event.excess) == (15, 10, 5)
    assert world.account().outgoing.settled == world.account().outgoing.entered == 10
    assert world.engine.paid == [15]


@pytest.mark.parametrize("forgotten", [Enqueue, OpenAccount])
async def test_what_cannot_be_recorded_again_halts_the_account(forgotten: type) -> None:
    """The request, or even the account, is forgotten too: a person has to compare the ledger with the books."""
    world = make_world()
    world.engine.script = [failing_over(world, forgotten)]
    async with world.core() as core:
        await owe(core)
        await until(lambda: bool(core.statistics().halted))
    (event,) = world.ears.of(AccountHalted)
    assert "10 may have moved, and it cannot be recorded again" in event.reason
    assert world.engine.paid == [10]


async def test_an_older_attempt_in_the_way_halts_the_account() -> None:
    """The store takes the attempt before for open: which of them moved what is for a person to say."""
    world = make_world()
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 10)
        world.engine.script = [failing_over(world, Close)]
        await owe(core, 5, "other")
        await until(lambda: bool(core.statistics().halted))
    (event,) = world.ears.of(AccountHalted)
    assert "for open instead" in event.reason
    assert world.engine.paid == [10, 5]


async def test_an_unclear_outcome_of_a_forgotten_attempt_is_in_doubt_all_the_same() -> None:
    """It is claimed again only to be parked; nothing of it is paid again."""
    world = make_world()

    def unclear(amount: Decimal) -> Decimal:
        raise ConnectionError("no answer")

    world.engine.script = [failing_over(world, Claim, then=unclear)]
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.parked == 10)
        await anyio.sleep(1000)
    assert len(world.engine.calls) == 1
    assert len(world.ears.of(SettlementInDoubt)) == 1
    assert [attempt.state for attempt in world.attempts()] == [AttemptState.IN_DOUBT]


async def test_a_forgotten_attempt_of_which_nothing_moved_is_simply_claimed_again() -> None:
    """The engine settled nothing: there is nothing to record, and the money is in the queue already."""
    world = make_world()
    world.engine.script = [failing_over(world, Claim, then=lambda _: D(0))]
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 10)
    assert world.engine.paid == [0, 10]
    assert world.ears.of(AttemptForgotten) == []


async def test_a_forgotten_account_of_which_nothing_moved_ends_quietly() -> None:
    """There is nothing to do for it any more, and nothing is wrong with what was paid."""
    world = make_world()
    world.engine.script = [failing_over(world, OpenAccount, then=lambda _: D(0))]
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.engine.paid == [0] and core.statistics().active_lanes == 0)
        assert not core.statistics().halted


async def test_an_attempt_forgotten_before_its_payment_is_noted_is_claimed_again() -> None:
    """Nothing was submitted yet, so the payment is prepared and paid under another id, once."""

    class Forgetting(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
            if not self.prepared:
                world.store.fail_over_to_before(Claim)
            return await super().prepare(account_id, amount, attempt_id)

    world = make_world(Forgetting(MemoryLedger()))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 10)
    assert world.engine.ledger.total() == 10
    assert len(world.engine.prepared) == 2


async def test_a_payment_whose_note_was_forgotten_is_looked_up_before_it_is_submitted() -> None:
    """The next life finds the attempt without its payment: it prepares the same again, and asks the ledger first."""
    world = make_world(VerifiableEngine(MemoryLedger(final_after_s=5.0)))
    world.config = CoreConfig(shutdown_s=1)
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.engine.ledger.total() == 10)
    world.store.fail_over_to_before(Note)
    (attempt,) = world.attempts()
    assert (attempt.state, attempt.payment) == (AttemptState.OPEN, None)
    async with world.core():
        await until(lambda: world.account().outgoing.settled == 10)
    assert len(world.engine.ledger.submissions) == 1
    assert world.engine.ledger.total() == 10


async def test_a_credit_the_connector_took_for_a_forgotten_attempt_is_recorded() -> None:
    """Otherwise it would be claimed under another key, and credited twice."""

    class Connector(FakeConnector):
        async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
            answer = await super().credit(account_id, amount, idempotency_key)
            if len(self.offers) == 1:
                world.store.fail_over_to_before(Claim)
            assert answer == Acknowledged()
            return answer

    world = make_world()
    world.connector = Connector()
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await until(lambda: world.account().incoming.settled == 3)
        await anyio.sleep(100)
    assert world.connector.total() == 3
    assert len(world.connector.credited) == 1

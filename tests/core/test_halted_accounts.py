"""A halted account goes on once an operator resumes it, and pays nothing twice by that."""

from __future__ import annotations

from decimal import Decimal

import pytest

from settlement_core.abc import Acknowledged
from settlement_core.values.commands import Pause
from settlement_core.values.events import DecisionTaken
from settlement_core.values.records import AttemptState, Direction
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


async def _too_much(amount: Decimal) -> Decimal:
    return amount + 1


def resume(account_id: str = "alice") -> Pause:
    """Return an operator's decision."""
    return Pause(account_id=account_id, paused=False, reason="compared", by="ann", at=0.0)


async def test_what_an_engine_cannot_look_up_is_in_doubt_with_why_it_halted() -> None:
    """The open attempt is not paid again; what came later is. The decision is an event, though nothing was paused."""
    engine = MinimalEngine(script=[_too_much])
    world = World(engine)
    async with world.core() as core:
        for name in ("alice", "bob"):
            await core.create_account(name)
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: bool(core.statistics().halted))
        (halted,) = core.condition().halted
        assert (halted.account_id, halted.direction) == ("alice", Direction.OUTGOING)
        assert halted.attempt_id == world.attempts()[0].attempt_id
        await core.request_settlement("alice", D(7), "b")
        await core.decide(resume("bob"))
        assert core.statistics().halted
        await core.decide(resume())
        await until(lambda: world.account().outgoing.settled == 7)
        assert core.statistics().halted == {}
    (doubt,) = [attempt for attempt in world.attempts() if attempt.state is AttemptState.IN_DOUBT]
    assert doubt.amount == 5
    assert "it was under way when the account halted (EngineError: " in doubt.reason
    assert len(engine.calls) == 2
    (decision,) = world.ears.of(DecisionTaken)
    assert (decision.account_id, decision.decision, decision.by) == ("alice", "resume", "ann")


async def test_what_a_ledger_can_tell_is_looked_up_and_paid_once() -> None:
    """A verdict that was nonsense halts the account; resumed, it takes the ledger's word."""
    ledger = MemoryLedger()
    engine = VerifiableEngine(ledger)
    lies = 1

    async def verify(payment: object) -> object:
        nonlocal lies
        if lies:
            lies -= 1
            return "perhaps"
        return await VerifiableEngine.verify(engine, payment)  # type: ignore[arg-type]

    engine.verify = verify  # type: ignore[method-assign,assignment]
    world = World(engine)
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: bool(core.statistics().halted))
        await core.decide(resume())
        await until(lambda: world.account().outgoing.settled == 5)
    assert ledger.total() == 5


async def test_a_cause_that_is_still_there_halts_it_again() -> None:
    """A connector that credits more than it was offered: nothing is recorded either time."""
    connector = FakeConnector([Acknowledged(D(9)), Acknowledged(D(9))])
    world = World(MinimalEngine(), connector=connector)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await until(lambda: bool(core.statistics().halted))
        await core.decide(resume())
        await until(lambda: len(connector.offers) == 2 and bool(core.statistics().halted))
        assert world.account().incoming.settled == 0
        await core.decide(resume())
        await until(lambda: world.account().incoming.settled == 3)
    assert len({offer[2] for offer in connector.offers}) == 1

"""An engine that breaks its contract halts the account, and the sentence says which attempt, how, and what now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Pending, Settled
from settlement_core.values.events import AccountHalted, AttemptWaiting, CreditAcknowledged
from settlement_core.values.records import Payment
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


def engine_that(**members: Callable[..., Awaitable[Any]]) -> VerifiableEngine:
    """Return a verifiable engine of which these members are others."""
    engine = VerifiableEngine(MemoryLedger())
    for name, member in members.items():
        setattr(engine, name, member)
    return engine


async def answer(value: Any, *_: Any) -> Any:
    """Return the value, whatever was asked."""
    return value


def answering(value: Any) -> Callable[..., Awaitable[Any]]:
    """Return a call that answers the value."""
    return lambda *asked: answer(value, *asked)


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"prepare": answering(7)}, "prepare returned int, not a Payment"),
        ({"prepare": answering(Payment(D(0), {}))}, "prepare returned a payment of nothing"),
        ({"prepare": answering(Payment(D(11), {}))}, "prepared a payment of 11, more than the 10 it may"),
        (
            {"prepare": answering(Payment(7.5, {}))},  # type: ignore[arg-type]
            "prepared a payment of 7.5: expected a decimal.Decimal, got float 7.5",
        ),
        ({"verify": answering("paid")}, "verify returned str, not a verdict"),
        ({"verify": answering(Settled(D(11)))}, "verified as settled 11, more than the 10 it may"),
        ({"verify": answering(Pending(-1.0))}, "verify asked to be called again after -1.0 seconds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_broken_contract_is_told_in_one_sentence_and_nothing_is_recorded(
    members: dict[str, Callable[..., Awaitable[Any]]], found: str
) -> None:
    """The attempt stays open, for a person to look at; the sentence names it, its amount and the account."""
    world = World(engine_that(**members))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.ears.of(AccountHalted) != [])
    (attempt,) = world.attempts()
    (halted,) = world.ears.of(AccountHalted)
    assert halted.reason == (
        f"EngineError: the engine broke its contract for attempt {attempt.attempt_id!r} of 10: {found}; "
        "nothing was recorded, account 'alice' halts with the attempt open"
    )
    assert world.account().outgoing.open == 10


async def test_a_reference_that_cannot_be_kept_is_named() -> None:
    """Before anything is submitted."""
    world = World(engine_that(prepare=answering(Payment(D(10), {"key": object()}))))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.ears.of(AccountHalted) != [])
    (attempt,) = world.attempts()
    (halted,) = world.ears.of(AccountHalted)
    assert halted.reason.startswith(
        f"EngineError: the engine broke its contract for attempt {attempt.attempt_id!r} of 10: prepare returned a "
        "reference we cannot keep: "
    )
    assert world.engine.ledger.submissions == []


async def test_the_engine_is_told_the_account_the_amount_and_the_attempt() -> None:
    """As they are in the store."""
    asked: list[tuple[str, Decimal, str]] = []

    async def prepare(account_id: str, amount: Decimal, attempt_id: str) -> None:
        asked.append((account_id, amount, attempt_id))

    world = World(engine_that(prepare=prepare))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D("10.5"), "key")
        await until(lambda: asked != [])
    assert asked[0] == ("alice", D("10.5"), world.attempts()[0].attempt_id)


async def test_a_prepare_that_fails_is_told_while_the_account_waits() -> None:
    """In the event, and in the account's status."""

    async def prepare(*_: Any) -> Any:
        raise RuntimeError("no key")

    world = World(engine_that(prepare=prepare))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.ears.of(AttemptWaiting) != [])
        (lane,) = core.lanes()
        assert lane.last_error == "prepare raised RuntimeError: no key"
    assert world.ears.of(AttemptWaiting)[0].reason == "prepare raised RuntimeError: no key"


async def test_a_submission_that_fails_is_told_while_its_verdict_is_awaited() -> None:
    """Whether it arrived is not known, so nothing else follows from it."""

    async def submit(*_: Any) -> None:
        raise RuntimeError("no route")

    world = World(engine_that(submit=submit, verify=answering(Pending(60.0))))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: [lane.last_error for lane in core.lanes()] == ["submit raised RuntimeError: no route"])
        assert world.account().outgoing.open == 10


async def test_how_long_a_credit_took_is_told() -> None:
    """From its first offer to the answer that ended it."""
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=2.5))
    async with world.core() as core:
        await core.create_account("alice")
        await anyio.sleep(100.0)
        await world.services[-1].credit_settlement("alice", D(3), "tx")
        await until(lambda: world.account().incoming.settled == 3)
    (told,) = world.ears.of(CreditAcknowledged)
    assert told.took_s == pytest.approx(2.5)

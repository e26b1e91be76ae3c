"""A connector that forgets keys: nothing that it may have taken is offered again once it may have forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import anyio
import pytest

from settlement_core.abc import CreditOutcome, Refused, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import open_core
from settlement_core.values.amounts import ZERO, add
from settlement_core.values.commands import Release
from settlement_core.values.events import CreditHeld
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio

MEMORY_S = 300.0
LOST = Unanswered("500 Internal Server Error")
NOT_SENT = Unanswered("no answer: connection refused", sent=False)


@dataclass
class Forgetful(FakeConnector):
    """Forgets a key `MEMORY_S` after its first use, and credits it once more. One call takes `timeout_s` at most."""

    timeout_s: float = 30.0
    arrived: list[float] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    applied: Decimal = ZERO
    arrives_after_s: float = 0.0

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit a key that is not remembered, then answer as scripted."""
        if self.answers[:1] != [NOT_SENT]:
            await anyio.sleep(self.arrives_after_s)
            now = anyio.current_time()
            self.arrived.append(now)
            if now - self.first.get(idempotency_key, float("-inf")) >= MEMORY_S:
                self.first[idempotency_key] = now
                self.applied = add(self.applied, amount)
        return await super().credit(account_id, amount, idempotency_key)


def make_world(*answers: CreditOutcome, **connector: Any) -> World:
    """Return a world whose connector answers as scripted and remembers keys for five minutes."""
    return World(
        MinimalEngine(),
        connector=Forgetful(list(answers), **connector),
        config=CoreConfig(connector_memory_s=MEMORY_S),
    )


async def test_a_credit_that_is_never_heard_is_held_before_the_connector_forgets_its_key() -> None:
    """Offered with the usual back-off, then held with how often, since when and all answers in order; credited once."""
    world = make_world(*[LOST] * 3, Unanswered("no answer within 30 s"), *[LOST] * 100)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
        await anyio.sleep(1_000_000)
    offers = [at for at, *_ in world.connector.offers]
    assert [round(b - a, 6) for a, b in pairwise(offers)] == [0.5, 1, 2, 4, 8, 16, 32, 64, 128]
    assert world.connector.applied == 3  # type: ignore[attr-defined]
    (held,) = world.ears.of(CreditHeld)
    assert held.reason == world.attempts()[0].reason
    assert held.reason == (
        "the connector may have forgotten its key, which it remembers for 300 s; offered 10 times since 1970-01-12 "
        "13:46:40 UTC; answers in order: 500 Internal Server Error (3 times from 1970-01-12 13:46:40 UTC on), then no "
        "answer within 30 s, then 500 Internal Server Error (6 times from 1970-01-12 13:46:47 UTC on)"
    )


@pytest.mark.parametrize("slow_s", [10.0, 25.0, 29.9])
async def test_no_offer_arrives_after_the_connector_forgot_the_key(slow_s: float) -> None:
    """Each offer takes as long as one call may take to arrive, and the last one still arrives in time."""
    world = make_world(*[LOST] * 100, arrives_after_s=slow_s)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
    arrived = world.connector.arrived  # type: ignore[attr-defined]
    assert len(arrived) > 5
    assert max(arrived) < MEMORY_S
    assert world.connector.applied == 3  # type: ignore[attr-defined]


async def test_a_call_that_hangs_is_cut_when_the_connector_may_forget() -> None:
    """A connector of ours that names no timeout cannot carry an offer beyond."""
    world = make_world(*[LOST] * 100, timeout_s=0.0)

    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: len(world.connector.offers) == 8)
        world.connector.arrives_after_s = 10_000  # type: ignore[attr-defined]
        await until(lambda: world.account().incoming.parked == 3)
        assert anyio.current_time() == pytest.approx(MEMORY_S, abs=0.1)
    assert world.connector.applied == 3  # type: ignore[attr-defined]


async def test_what_never_left_does_not_start_the_time() -> None:
    """A connector that refuses connections for a day is offered the credit again; then five minutes count."""
    world = make_world(*[NOT_SENT] * 40, LOST)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3, within_s=10 * 24 * 3600, every_s=60)
        assert anyio.current_time() > 24 * 3600
        assert world.connector.applied == 3  # type: ignore[attr-defined]
    assert "offered 41 times since" in world.attempts()[0].reason


async def test_without_a_memory_a_credit_is_offered_again_without_end() -> None:
    """As every connector that keeps to RFC 38 expects."""
    world = make_world(*[LOST] * 30)
    world.config = CoreConfig()
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.settled == 3, within_s=10 * 24 * 3600, every_s=60)


async def test_a_connector_that_remembers_nothing_is_offered_a_credit_once() -> None:
    """Rafiki credits every request: what was not answered is held at once."""
    world = make_world(LOST)
    world.config = CoreConfig(connector_memory_s=0)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
    assert len(world.connector.offers) == 1


@pytest.mark.parametrize(
    ("passed_s", "offered"), [(0.0, True), (200.0, True), (271.0, False), (1e9, False), (-1.0, False)]
)
async def test_an_earlier_run_may_have_offered_the_credit_as_soon_as_it_was_claimed(
    passed_s: float, offered: bool
) -> None:
    """Killed while an offer was under way: the next run offers again within the memory only, by the wall clock.

    A wall clock that is put back before the claim tells nothing, so the credit is held.
    """
    world = make_world(takes_s=1000.0)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: bool(world.connector.offers))
        later = world.crashed()
    later.connector.offers.clear()
    later.connector.takes_s = 0.0
    claimed_at = later.attempts()[0].claimed_at
    async with run_at(later, lambda began: claimed_at + passed_s + anyio.current_time() - began):
        await until(lambda: later.account().incoming.open == 0)
    assert bool(later.connector.offers) is offered
    (attempt,) = later.attempts()
    assert attempt.state is (AttemptState.CLOSED if offered else AttemptState.HELD)
    assert offered or "an earlier run may have offered it from 1970-01-12 13:46:40 UTC on" in attempt.reason


def run_at(world: World, wall: Callable[[float], float]) -> Any:
    """Run one life of the core by this wall clock, which is given when the life began."""
    began = anyio.current_time()
    return open_core(
        world.connect,
        store=world.store,
        connector=world.connector,
        config=world.config,
        observer=world.ears,
        now=lambda: wall(began),
        chance=lambda: 0.0,
    )


async def test_a_released_credit_is_offered_again_and_its_time_begins_again() -> None:
    """The operator has looked at the connector; a crash after that is an earlier run that may have offered it."""
    world = make_world(*[LOST] * 10)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
        (held,) = world.attempts()
        world.connector.answers = [LOST] * 3
        await anyio.sleep(10_000)
        world.connector.first.clear()  # type: ignore[attr-defined]
        await core.decide(Release(account_id="alice", attempt_id=held.attempt_id, reason="not there", by="eve"))
        await until(lambda: world.account().incoming.settled == 3)
        assert len(world.connector.offers) == 14


async def test_a_released_credit_that_a_crash_cut_off_is_held_again() -> None:
    """What happened after the release is not known to the next run, and its claim is long ago."""
    world = make_world(Refused("400"))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
        (held,) = world.attempts()
        world.connector.takes_s = 10_000
        await anyio.sleep(1000)
        await core.decide(Release(account_id="alice", attempt_id=held.attempt_id, reason="not there", by="eve"))
        await until(lambda: len(world.connector.offers) == 2)
        later = world.crashed()
    later.connector.offers.clear()
    async with run_at(later, lambda began: held.claimed_at + 2000 + anyio.current_time() - began):
        await until(lambda: later.account().incoming.parked == 3)
    assert not later.connector.offers


async def test_what_was_never_sent_is_handed_back_at_a_shutdown() -> None:
    """A connector that is down at the end of one life is not a reason to hold the credit in the next."""
    world = make_world(*[NOT_SENT] * 10)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: len(world.connector.offers) == 3)
    assert world.account().incoming.queued == 3
    world.connector.answers.clear()
    await anyio.sleep(1000)
    async with world.core():
        await until(lambda: world.account().incoming.settled == 3)


async def test_a_refusal_is_held_with_the_offers_before_it() -> None:
    """A 409 after a lost answer means that the connector may have taken the credit: the books say so."""
    world = make_world(LOST, LOST, Refused("409 Conflict"))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
    reason = world.attempts()[0].reason
    assert reason.startswith("409 Conflict; before that offered 2 times since 1970-01-12 13:46:40 UTC")

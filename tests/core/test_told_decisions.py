"""What people decide is told once, with what it is about, who decided and why."""

from __future__ import annotations

from typing import Any

import pytest

from settlement_core.abc import Refused
from settlement_core.values.commands import Assign, Pause, Release, Resolve
from settlement_core.values.events import DecisionTaken
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio

PERSON: dict[str, Any] = {"reason": "saw it", "by": "carol"}


async def lose_sight(_: Any) -> Any:
    """Leave the outcome unclear."""
    raise ConnectionError("no answer")


def told(decision: str, about: str, account_id: str = "alice") -> DecisionTaken:
    """Return what is told of a decision."""
    return DecisionTaken(account_id=account_id, decision=decision, about=about, **PERSON)


async def test_decisions_about_attempts_name_them_and_are_told_once() -> None:
    """Repeated, they change nothing, and nobody is told again; the money goes where the person said."""
    world = World(MinimalEngine([lose_sight]), connector=FakeConnector([Refused("409")]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await until(lambda: world.account().outgoing.parked == 5 and world.account().incoming.parked == 3)
        ids = {str(attempt.direction): attempt.attempt_id for attempt in world.attempts()}
        resolve = Resolve(account_id="alice", attempt_id=ids["outgoing"], settled=D(5), **PERSON, at=1.0)
        release = Release(account_id="alice", attempt_id=ids["incoming"], **PERSON)
        for _ in range(2):
            await core.decide(resolve)
            await core.decide(release)
        await until(lambda: world.account().incoming.settled == 3)
    assert world.account().outgoing.settled == 5
    assert world.ears.of(DecisionTaken) == [told("resolve", ids["outgoing"]), told("release", ids["incoming"])]


async def test_decisions_about_money_and_accounts_are_told_once() -> None:
    """An assignment names the settlement; pausing is about the account itself."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].report_unattributed("lost", D(7), None)
        for decision in (
            Assign(settlement_id="lost", account_id="alice", **PERSON, at=1.0),
            Pause(account_id="alice", paused=True, **PERSON, at=2.0),
            Pause(account_id="alice", paused=False, **PERSON, at=3.0),
        ):
            for _ in range(2):
                await core.decide(decision)
        await until(lambda: world.account().incoming.settled == 7)
    assert world.ears.of(DecisionTaken) == [told("assign", "lost"), told("pause", ""), told("resume", "")]

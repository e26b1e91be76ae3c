"""What the connector answered to a credit stays known, in order, whatever happens between its answers."""

from __future__ import annotations

import anyio
import pytest

from settlement_core.abc import CreditOutcome, Refused, Unanswered
from settlement_core.core.credit_answers import FIRST, LAST, Answers
from settlement_core.values.command import OWN_VALUES
from settlement_core.values.commands import Get, Release, Values
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio

BROKEN = Unanswered("500 Internal Server Error")
SILENT = Unanswered("no answer within 30 s")
NOT_SENT = Unanswered("no answer: connection refused", sent=False)
CONFLICT = Refused("409 Conflict")


def held_reason(world: World) -> str:
    """Return what the books say of the one held credit."""
    (attempt,) = world.attempts()
    assert attempt.state is AttemptState.HELD
    return attempt.reason


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (
            [BROKEN, CONFLICT],
            "409 Conflict; before that offered once since 1970-01-12 13:46:40 UTC; answers in order: 500 ",
        ),
        (
            [SILENT, CONFLICT],
            "409 Conflict; before that offered once since 1970-01-12 13:46:40 UTC; answers in order: no ",
        ),
        ([NOT_SENT, CONFLICT], "no answer: connection refused (not sent)"),
    ],
)
async def test_the_answers_before_a_refusal_are_in_the_books(answers: list[CreditOutcome], told: str) -> None:
    """They need opposite decisions, which the refusal alone does not tell apart."""
    world = World(MinimalEngine(), connector=FakeConnector(list(answers)))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
    assert told in held_reason(world)


async def test_answers_outlive_a_restart_and_a_release() -> None:
    """A run that ended between them, and an operator's release, are part of the order; the money is offered once."""
    world = World(MinimalEngine(), connector=FakeConnector([SILENT, *[NOT_SENT] * 3]))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: len(world.connector.offers) == 2)
        await anyio.sleep(0.5)
    world.connector.answers = [CONFLICT]
    async with world.core() as core:
        await until(lambda: world.account().incoming.parked == 3)
        reason = held_reason(world)
        assert "an earlier run may have offered it from " in reason
        assert "answers in order: no answer within 30 s, then no answer: connection refused (not sent)" in reason
        world.connector.answers = [BROKEN, CONFLICT]
        (attempt,) = world.attempts()
        await core.decide(Release(account_id="alice", attempt_id=attempt.attempt_id, reason="mended", by="ann"))
        await until(lambda: len(world.connector.offers) == 5)
        await until(lambda: world.account().incoming.parked == 3)
        await anyio.sleep(1)
    reason = held_reason(world)
    assert reason.startswith("409 Conflict; before that offered once since ")
    assert "no answer within 30 s, then no answer: connection refused (not sent), then 409 Conflict, " in reason
    assert reason.endswith(", then released by ann: mended, then 500 Internal Server Error")
    assert world.connector.total() == 3


async def test_a_credit_that_is_taken_leaves_no_answers_behind() -> None:
    """Neither one that was taken at once nor one that was offered twice."""
    world = World(MinimalEngine(), connector=FakeConnector([SILENT]))
    async with world.core() as core:
        await core.create_account("alice")
        for key in ("a", "b"):
            await world.services[0].credit_settlement("alice", D(3), key)
            await until(lambda: not world.account().incoming.queued and not world.account().incoming.open)
            await anyio.sleep(1)
        assert await core.ask(Get(account_id=OWN_VALUES, key="clock")) is not None
        kept = await core.ask(Values())
        assert [value.account_id for value in kept if value.account_id.startswith("/alice")] == []
    assert world.account().incoming.settled == 6


def test_many_different_answers_keep_their_first_and_last() -> None:
    """In bounded space: the first one was about an unused key, the last ones are about now."""
    answers = Answers()
    for number in range(100):
        assert answers.add(f"answer {number}", wall=0.0)
        assert not answers.add(f"answer {number}", wall=1.0)
    told = str(Answers.from_json(answers.to_json()))
    assert told == str(answers)
    kept = [f"answer {number} (2 times from 1970-01-01 00:00:00 UTC on)" for number in (0, 1, 2, 96, 97, 98, 99)]
    kept.insert(FIRST, f"{2 * (100 - FIRST - LAST)} more")
    assert told == ", then ".join(kept)

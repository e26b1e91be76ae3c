"""Smaller promises of the core."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Settled, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.values.backoff import DAY_S
from settlement_core.values.commands import Close, Entries, History, OpenAccount, Overview
from settlement_core.values.errors import (
    ConnectorError,
    IdempotencyConflict,
    InvalidAmount,
    LocalError,
    SettlementFailed,
    UnknownAttempt,
)
from settlement_core.values.json_text import decode_json
from settlement_core.values.records import AttemptState, Direction, Payment
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"key_retention_s": DAY_S - 1}, "idempotency keys are kept at least 86400 s (RFC 38), not 86399"),
        (
            {"history_retention_s": DAY_S},
            "the history is kept at least as long as idempotency keys, 604800 s, not 86400",
        ),
        ({"connector_memory_s": -1.0}, "connector_memory_s is a number of seconds, not -1"),
        ({"stop_after_doubts": -1}, "stop_after_doubts is at least 0, not -1"),
        ({"connector_scale": 256}, "connector_scale is 0 to 255, not 256"),
        ({"connector_scale": -1}, "connector_scale is 0 to 255, not -1"),
        ({"credit_cap": D(0)}, "credit_cap is above zero"),
        ({"credit_cap": D(-1)}, "invalid credit_cap: -1 is negative; nothing was recorded"),
        (
            {"credit_cap": D("0.009"), "connector_scale": 2},
            "credit_cap 0.009 is less than one unit of connector_scale 2, so nothing would ever be credited",
        ),
        ({"max_entries": 0}, "max_entries is at least 1, not 0"),
        ({"poll_s": 0.0}, "poll_s is above 0 and at most a third of lease_s, not 0 of 10"),
        ({"poll_s": 3.5}, "poll_s is above 0 and at most a third of lease_s, not 3.5 of 10"),
    ],
    ids=repr,
)
def test_impossible_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    """When the configuration is made, not when money is on its way; the sentence says what is possible."""
    with pytest.raises((ValueError, InvalidAmount)) as caught:
        CoreConfig(**settings)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "settings",
    [
        {"key_retention_s": DAY_S},
        {"connector_scale": 0},
        {"connector_scale": 255},
        {"credit_cap": D("1E-255")},
        {"credit_cap": D("0.01"), "connector_scale": 2},
        {"credit_cap": D("1E+3"), "connector_scale": 0},
        {"max_entries": 1},
        {"poll_s": 1.0, "lease_s": 3.0},
    ],
    ids=repr,
)
def test_settings_may_be_whatever_is_just_possible(settings: dict[str, Any]) -> None:
    """Each bound belongs to what it bounds."""
    config = CoreConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


async def test_settling_nothing_is_refused() -> None:
    """Zero is no settlement; nothing is recorded and the engine is not asked."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        with pytest.raises(InvalidAmount, match="it is zero"):
            await core.request_settlement("alice", D("0.00"), "key")
    assert world.account().outgoing.entered == 0


@pytest.mark.parametrize("grouped", [False, True])
async def test_an_engine_may_know_already_while_preparing_that_nothing_can_move(grouped: bool) -> None:
    """`SettlementFailed` from prepare, alone or in a group, hands the money back; the back-off prepares it again."""
    attempts: list[str] = []

    class Unwilling(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
            attempts.append(attempt_id)
            if len(attempts) == 1:
                failed = SettlementFailed("peer has no address yet")
                raise ExceptionGroup("unhandled errors in a TaskGroup", [failed]) if grouped else failed
            return await super().prepare(account_id, amount, attempt_id)

    world = World(Unwilling(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "key")
        await until(lambda: world.account().outgoing.settled == 1)
    assert len(set(attempts)) == 2


async def test_a_payment_that_the_ledger_cut_short_is_made_up_for_after_a_back_off() -> None:
    """Settled for 3 of 10: the other 7 are queued and paid 5 s later."""

    class Short(VerifiableEngine):
        async def verify(self, payment: Payment) -> Any:
            verdict = await super().verify(payment)
            return Settled(D(3)) if payment.amount == 10 else verdict

    world = World(Short(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.account().outgoing.settled == 10)
        assert anyio.current_time() == pytest.approx(5, abs=0.02)
    assert [amount for _, _, amount in world.engine.prepared] == [D(10), D(7)]


async def test_a_configured_cap_bounds_every_credit() -> None:
    """10 with a cap of 4 leaves as 4, 4 and 2, each under its own key."""
    world = World(MinimalEngine(), config=CoreConfig(credit_cap=D(4)))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(10), "tx")
        await until(lambda: world.account().incoming.settled == 10)
    assert [amount for *_, amount in world.connector.offers] == [D(4), D(4), D(2)]
    assert len({key for _, _, key, _ in world.connector.offers}) == 3


async def test_engines_are_refused_what_cannot_be_written_or_read() -> None:
    """Notes and messages are JSON; an answer must at least be text."""

    class Binary(FakeConnector):
        async def send_message(self, account_id: str, message: bytes) -> bytes:
            return b"\xff\xfe"

    world = World(MinimalEngine(), connector=Binary())
    async with world.core() as core:
        await core.create_account("alice")
        services = world.services[0]
        for impossible in (b"raw", {1, 2}, float("nan"), object()):
            with pytest.raises(LocalError, match="cannot use this"):
                await services.save("key", impossible)
            with pytest.raises(LocalError, match="cannot use this message"):
                await services.send_message("alice", impossible)
        with pytest.raises(ConnectorError, match="2 bytes that are not text"):
            await services.send_message("alice", 1)
        assert await services.load("key") is None


async def test_settling_now_reaches_both_directions_of_an_account() -> None:
    """`try_settlement`, from the engine or an operator, ends every back-off of the account."""
    world = World(VerifiableEngine(MemoryLedger(), fail=["verify"]), connector=FakeConnector([Unanswered("503")]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await world.services[0].credit_settlement("alice", D(2), "b")
        await anyio.sleep(0.1)
        world.services[0].try_settlement("alice")
        await anyio.sleep(0.1)
        assert world.account().outgoing.settled == 1
        assert world.account().incoming.settled == 2
        world.services[0].try_settlement("nobody")
        await anyio.sleep(0.1)
        assert core.statistics().halted == {}


async def test_keys_are_forgotten_a_while_after_their_last_use_and_not_before() -> None:
    """Kept for the configured week since the most recent request, and then pruned; the sums stay."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "key")
        await until(lambda: world.account().outgoing.settled == 1)
        await anyio.sleep(6 * DAY_S)
        await core.request_settlement("alice", D(1), "key")
        await anyio.sleep(6 * DAY_S)
        with pytest.raises(IdempotencyConflict):
            await core.request_settlement("alice", D(2), "key")
        await anyio.sleep(2 * DAY_S)
        assert await core.ask(Entries(account_id="alice", direction=Direction.OUTGOING)) == []
        assert world.account().outgoing.entered == world.account().outgoing.settled == 1
        await core.request_settlement("alice", D(2), "key")
        await until(lambda: world.account().outgoing.settled == 3)


async def test_several_questions_are_answered_at_one_instant() -> None:
    """A refused one among them is answered with its error."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        answers = await core.ask_together(
            [Overview(), History(account_id="alice"), Entries(account_id="bob", direction=Direction.OUTGOING)]
        )
        assert [len(answer) for answer in answers] == [1, 0, 0]
        (refusal,) = await core.ask_together([Close(account_id="alice", attempt_id="x", settled=D(0), at=0.0)])
        assert isinstance(refusal, UnknownAttempt)


def test_infinite_constants_are_no_json() -> None:
    """What is read can always be written again."""
    for text in ("NaN", "-Infinity", "1e999"):
        with pytest.raises(ValueError, match=r"not JSON|too large"):
            decode_json(text)


async def test_a_claim_finds_the_attempt_of_an_earlier_life_first() -> None:
    """Money queued since then waits until what was open is dealt with."""
    world = World(VerifiableEngine(MemoryLedger(final_after_s=50.0)))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await anyio.sleep(1)
    async with world.core() as core:
        await core.request_settlement("alice", D(2), "b")
        await until(lambda: world.account().outgoing.settled == 3, every_s=1.0)
    assert [(a.amount, a.state) for a in world.attempts()] == [
        (D(1), AttemptState.CLOSED),
        (D(2), AttemptState.CLOSED),
    ]


async def test_a_connector_that_answers_nonsense_halts_the_credit_loudly() -> None:
    """None is neither "credited" nor "refused": nothing is recorded, and the other direction goes on."""

    class Odd(FakeConnector):
        async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> Any:
            return None

    world = World(MinimalEngine(), connector=Odd())
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(1), "tx")
        await until(lambda: bool(core.statistics().halted))
        assert "the connector broke its contract" in core.statistics().halted["alice incoming"]
    assert world.account().incoming.open == 1


async def test_two_may_wait_for_the_same_answer() -> None:
    """A handle's answer is for whoever asks, before it is there and after."""
    world = World(MinimalEngine())
    answers: list[bool] = []

    async def wait() -> None:
        answers.append((await handle.wait()).changed)

    async with world.core() as core, anyio.create_task_group() as tasks:
        handle = core._context.journal.submit(OpenAccount(account_id="alice", at=0.0))
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await until(lambda: len(answers) == 2)
        await wait()
    assert answers == [True] * 3


async def test_being_told_to_try_now_while_trying_means_once_more_at_once() -> None:
    """The operator's nudge arrives in the middle of a try that fails: the next one does not wait."""
    world = World(MinimalEngine())

    async def refusing(_: Decimal) -> Decimal:
        core.try_settlement("alice")
        return D(0)

    world.engine.script.append(refusing)
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.account().outgoing.settled == 1)
        assert anyio.current_time() < 1


async def test_an_engine_that_no_longer_sets_accounts_up_goes_on_without() -> None:
    """The set-up was pending when the engine was replaced by a simpler one."""

    class Fussy(MinimalEngine):
        async def setup_account(self, account_id: str) -> None:
            raise OSError("peer is not there")

    world = World(Fussy())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await anyio.sleep(1)
    world.engine = MinimalEngine()
    async with world.core():
        await until(lambda: world.account().outgoing.settled == 1)

"""What the core tells of money on its way, to every field: observers, operators and errors are shown the truth.

Small slips in these would move no money wrongly by themselves, but a person decides by them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NoReturn

import anyio
import pytest

from settlement_core.abc import Refused, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, CoreStatistics
from settlement_core.core.journal import JournalStatistics, open_journal
from settlement_core.core.lane import LaneStatus
from settlement_core.core.services import MAX_MESSAGE
from settlement_core.values import events as e
from settlement_core.values.commands import Suspense
from settlement_core.values.errors import (
    InvalidAmount,
    InvalidIdentifier,
    LocalError,
    MessageNotHandled,
    MessageRejected,
    SettlementFailed,
    StoreUnavailable,
    UnknownAccount,
)
from settlement_core.values.json_text import encode_json
from settlement_core.values.records import Attempt, Direction, Payment, Step
from tests.core.stores import FlakyStore
from tests.core.worlds import D, Ears, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio

ALICE: dict[str, Any] = {"account_id": "alice"}


def told(world: World) -> list[e.Event]:
    """Return what was told of accounts, durations to the microsecond."""
    of_the_core = (e.CoreStarted, e.RecoveryFinished, e.CoreStopped)
    return [_rounded(event) for _, event in world.ears.heard if not isinstance(event, of_the_core)]


def _rounded(event: e.Event) -> e.Event:
    if isinstance(event, (e.SettlementRecorded, e.CreditAcknowledged)):
        return replace(event, took_s=round(event.took_s, 6))
    return event


def claimed(attempt: Attempt, *, fresh: bool = True) -> e.AttemptClaimed:
    """Return what is told when this attempt is claimed."""
    return e.AttemptClaimed(
        account_id=attempt.account_id,
        direction=attempt.direction,
        attempt_id=attempt.attempt_id,
        amount=attempt.amount,
        fresh=fresh,
    )


def waiting(attempt: Attempt, reason: str, failures: int, delay_s: float) -> e.AttemptWaiting:
    """Return what is told when this attempt has to wait."""
    return e.AttemptWaiting(
        account_id=attempt.account_id,
        direction=attempt.direction,
        attempt_id=attempt.attempt_id,
        reason=reason,
        failures=failures,
        delay_s=delay_s,
    )


REQUESTED = e.SettlementRequested(account_id="alice", key="a", amount=D(5))


async def owe(core: Core, amount: int = 5, key: str = "a") -> None:
    """Have alice owe."""
    await core.create_account("alice")
    await core.request_settlement("alice", D(amount), key)


async def lose_sight(_: Decimal) -> NoReturn:
    """Leave the outcome unclear."""
    raise ConnectionError("no answer")


async def settle_2(_: Decimal) -> Decimal:
    """Settle less than asked."""
    return D(2)


# settling


async def test_a_settlement_is_told_from_its_request_to_its_record() -> None:
    """With its key, its attempt, its amount and how long it took."""
    world = World(MinimalEngine(takes_s=2))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 5)
    (attempt,) = world.attempts()
    ids: dict[str, Any] = ALICE | {"attempt_id": attempt.attempt_id}
    assert told(world) == [
        REQUESTED,
        claimed(attempt),
        e.SettlementRecorded(**ids, attempted=D(5), amount=D(5), took_s=2.0),
    ]
    assert world.ears.of(e.CoreStarted) == [e.CoreStarted(engine="MinimalEngine", verifiable=False)]
    assert world.ears.of(e.CoreStopped) == [e.CoreStopped(unfinished=0)]


async def test_a_shortfall_is_told_with_its_reason_and_its_delay() -> None:
    """2 of 5 settled, then nothing: each with its own words, counted until something is settled."""

    async def fail(_: Decimal) -> NoReturn:
        raise SettlementFailed("no route")

    world = World(MinimalEngine([settle_2, fail, fail]))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 5)
    first, second, third, last = world.attempts()
    waits = [event for event in told(world) if isinstance(event, e.AttemptWaiting)]
    assert [replace(event, attempt_id="") for event in waits] == [
        replace(waiting(first, "only 2 of 5 was settled", 1, 5.0), attempt_id=""),
        replace(waiting(second, "nothing was settled: no route", 2, 10.0), attempt_id=""),
        replace(waiting(third, "nothing was settled: no route", 3, 20.0), attempt_id=""),
    ]
    assert [event.attempt_id for event in waits] == [first.attempt_id, second.attempt_id, third.attempt_id]
    moved = [(a.amount, a.settled) for a in (first, second, third, last)]
    assert moved == [(D(5), D(2)), (D(3), D(0)), (D(3), D(0)), (D(3), D(3))]


async def test_money_in_doubt_is_told_and_kept_with_its_reason() -> None:
    """In the event and in the books alike."""
    world = World(MinimalEngine([lose_sight]))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.parked == 5)
    (attempt,) = world.attempts()
    reason = "settle did not answer but raised ConnectionError: no answer"
    doubt = e.SettlementInDoubt(**ALICE, attempt_id=attempt.attempt_id, amount=D(5), reason=reason)
    assert told(world) == [REQUESTED, claimed(attempt), doubt]
    assert attempt.reason == reason


async def test_a_settlement_from_before_a_crash_is_told_as_such() -> None:
    """The minimal engine cannot look it up: a person is told why."""
    world = World(MinimalEngine(takes_s=1e6))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.engine.calls != [])
        crashed = world.crashed()
    async with crashed.core():
        await until(lambda: crashed.account().outgoing.parked == 5)
    (attempt,) = crashed.attempts()
    reason = "it was under way when an earlier run ended, and this engine cannot look it up"
    doubt = e.SettlementInDoubt(**ALICE, attempt_id=attempt.attempt_id, amount=D(5), reason=reason)
    assert told(crashed) == [claimed(attempt, fresh=False), doubt]
    assert crashed.ears.of(e.RecoveryFinished) == [e.RecoveryFinished(accounts=1)]


async def test_a_rejected_payment_is_told_noted_rejected_and_waiting() -> None:
    """The next attempt begins with a note of its own."""
    world = World(VerifiableEngine(MemoryLedger(reject_next=1)))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 5)
    first, second = world.attempts()
    of_first: dict[str, Any] = ALICE | {"attempt_id": first.attempt_id}
    of_second: dict[str, Any] = ALICE | {"attempt_id": second.attempt_id}
    assert told(world) == [
        REQUESTED,
        claimed(first),
        e.PaymentNoted(**of_first, amount=D(5)),
        e.PaymentRejected(**of_first, amount=D(5), reason="nonce taken"),
        e.SettlementRecorded(**of_first, attempted=D(5), amount=D(0), took_s=0.0),
        waiting(first, "the payment was rejected: nonce taken", 1, 5.0),
        claimed(second),
        e.PaymentNoted(**of_second, amount=D(5)),
        e.SettlementRecorded(**of_second, attempted=D(5), amount=D(5), took_s=0.0),
    ]
    assert world.ears.of(e.CoreStarted) == [e.CoreStarted(engine="VerifiableEngine", verifiable=True)]


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        ("prepare", "prepare raised RuntimeError: prepare broke"),
        ("verify", "verify raised RuntimeError: verify broke"),
        ("unworthy", "the engine finds it not worth paying yet"),
    ],
)
async def test_a_look_up_that_fails_is_told_with_what_was_raised(fails: str, reason: str) -> None:
    """And tried again after the delay that is told."""
    world = World(VerifiableEngine(MemoryLedger(), fail=[fails]))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 5)
        assert round(anyio.current_time(), 1) == 5.0
    (told_waiting,) = world.ears.of(e.AttemptWaiting)
    assert told_waiting == waiting(world.attempts()[0], reason, 1, 5.0)


async def test_a_payment_that_was_refused_while_preparing_says_so() -> None:
    """In the words of the engine."""

    class Unwilling(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
            self.prepared.append((0, attempt_id, amount))
            if len(self.prepared) == 1:
                raise SettlementFailed("no address")
            return Payment(amount, {"tx": attempt_id})

    world = World(Unwilling(MemoryLedger()))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.account().outgoing.settled == 5)
    (told_waiting,) = world.ears.of(e.AttemptWaiting)
    assert told_waiting == waiting(world.attempts()[0], "nothing was prepared: no address", 1, 5.0)


# crediting


async def credited(world: World) -> None:
    """Have alice be paid 3, and wait for what becomes of it."""
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await until(lambda: world.account().incoming.settled + world.account().incoming.parked == 3)


async def test_a_credit_is_told_with_its_failures_and_how_long_it_took() -> None:
    """Half a second after an offer without an answer, which itself took two."""
    connector = FakeConnector([Unanswered("502 bad gateway")], takes_s=2.0)
    world = World(MinimalEngine(), connector=connector)
    await credited(world)
    (attempt,) = world.attempts()
    assert told(world) == [
        e.SettlementReceived(**ALICE, settlement_id="tx", amount=D(3)),
        claimed(attempt),
        waiting(attempt, "502 bad gateway", 1, 0.5),
        e.CreditAcknowledged(**ALICE, attempt_id=attempt.attempt_id, amount=D(3), took_s=4.5),
    ]


async def test_a_refused_credit_is_told_and_held_with_the_connectors_words() -> None:
    """In the event and in the books alike."""
    world = World(MinimalEngine(), connector=FakeConnector([Refused("409 conflict")]))
    await credited(world)
    (attempt,) = world.attempts()
    held = e.CreditHeld(**ALICE, attempt_id=attempt.attempt_id, amount=D(3), reason="409 conflict")
    received = e.SettlementReceived(**ALICE, settlement_id="tx", amount=D(3))
    assert told(world) == [received, claimed(attempt), held]
    assert attempt.reason == "409 conflict"


async def test_money_without_an_owner_is_told_once_and_kept_with_its_details() -> None:
    """A second report of the same is no news."""
    world = World(MinimalEngine())
    async with world.core():
        for _ in range(2):
            await world.services[0].report_unattributed("tx", D(7), {"memo": None})
    assert told(world) == [e.MoneyUnattributed(settlement_id="tx", amount=D(7))]
    ((item,),) = world.store.apply([Suspense()])
    assert (item.settlement_id, item.amount, item.details) == ("tx", D(7), {"memo": None})


# what operators see of the lanes


@dataclass
class Watched(VerifiableEngine):
    """Notes what the lanes are said to do whenever it is called."""

    seen: list[LaneStatus] = field(default_factory=list)
    core: Core | None = None
    refusals: int = 0

    def _look(self) -> None:
        assert self.core is not None
        # the other direction may be looking whether anything is due
        self.seen += [seen for seen in self.core.lanes() if seen.direction is Direction.OUTGOING]

    async def setup_account(self, account_id: str) -> None:
        """Look, then refuse as often as told."""
        self._look()
        if self.refusals:
            self.refusals -= 1
            raise OSError("peer is away")

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        """Look."""
        self._look()
        return await super().prepare(account_id, amount, attempt_id)

    async def submit(self, payment: Payment) -> None:
        """Look."""
        self._look()
        await super().submit(payment)

    async def verify(self, payment: Payment) -> Any:
        """Look."""
        self._look()
        return await super().verify(payment)


def lane(
    doing: str, *, attempt_id: str = "", failures: int = 0, error: str = "", left: float | None = None
) -> LaneStatus:
    """Return what is to be seen of alice's outgoing lane."""
    return LaneStatus(
        account_id="alice",
        direction=Direction.OUTGOING,
        doing=doing,
        attempt_id=attempt_id,
        failures=failures,
        last_error=error,
        next_try_in_s=left,
    )


async def test_each_step_of_a_payment_can_be_seen_while_it_is_done() -> None:
    """Set up, prepared, submitted, verified and pending, with the attempt it is about."""
    engine = Watched(MemoryLedger(final_after_s=3))
    world = World(engine)
    async with world.core() as core:
        engine.core = core
        await owe(core)
        await until(lambda: len(engine.seen) >= 4)
        await anyio.sleep(1)
        (attempt,) = world.attempts()
        (seen,) = core.lanes()
        assert seen.next_try_in_s == pytest.approx(2.0, abs=0.02)
        assert replace(seen, next_try_in_s=None) == lane("pending", attempt_id=attempt.attempt_id)
        await anyio.sleep(1.6)
        assert core.lanes()[0].next_try_in_s == pytest.approx(0.4, abs=0.02)
        await until(lambda: world.account().outgoing.settled == 5)
    steps = [lane(doing, attempt_id=attempt.attempt_id) for doing in ("preparing", "submitting", "verifying")]
    assert engine.seen[:4] == [lane("set_up"), *steps]


async def test_a_failing_set_up_can_be_seen_and_is_told() -> None:
    """With what went wrong, how often, and when it is tried again."""
    engine = Watched(MemoryLedger(), refusals=2)
    world = World(engine)
    async with world.core() as core:
        engine.core = core
        await core.create_account("alice")
        await until(lambda: bool(world.ears.of(e.StepFailed)))
        (seen,) = core.lanes()
        assert seen.next_try_in_s == pytest.approx(5.0, abs=0.02)
        error = "set_up failed: OSError: peer is away"
        assert replace(seen, next_try_in_s=None) == lane("backing off before set_up", failures=1, error=error)
        await until(lambda: bool(world.ears.of(e.AccountReady)))
        await until(lambda: core.lanes() == [])
    reason = "OSError: peer is away"
    assert told(world) == [
        e.StepFailed(**ALICE, step=Step.SET_UP, reason=reason, failures=1, delay_s=5.0),
        e.StepFailed(**ALICE, step=Step.SET_UP, reason=reason, failures=2, delay_s=10.0),
        e.AccountReady(**ALICE, step=Step.SET_UP),
    ]


async def test_a_settling_and_a_crediting_lane_can_be_seen_side_by_side() -> None:
    """And how they back off; a delay that is over is none."""
    connector = FakeConnector([Unanswered("no answer")], takes_s=3.0)
    world = World(MinimalEngine([settle_2], takes_s=2.0), connector=connector)
    async with world.core() as core:
        await owe(core)
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await anyio.sleep(1)
        outgoing, incoming = core.lanes()
        ids = {attempt.direction: attempt.attempt_id for attempt in world.attempts()}
        # what it fell short of is queued again: there is no attempt, but its failure
        assert replace(outgoing, next_try_in_s=None, attempt_id="") == lane(
            "backing off", failures=1, error="only 2 of 5 was settled"
        )
        assert incoming == replace(lane("crediting", attempt_id=ids[Direction.INCOMING]), direction=Direction.INCOMING)
        ((_, shown),) = [(item, repr(item)) for item in core._supervisor._lanes.values() if item.next_try is not None]
        assert shown == "<OutgoingLane 'alice' backing off, 1 failures, next in 4.0 s>"
        (busy,) = [item for item in core._supervisor._lanes.values() if item.next_try is None]
        assert repr(busy) == "<IncomingLane 'alice' crediting, 0 failures>"
        await anyio.sleep(2.1)
        seen = core.lanes()[1]
        assert (seen.doing, seen.failures, seen.last_error) == ("backing off", 1, "no answer")


async def test_statistics_are_the_truth_about_the_whole_core() -> None:
    """Before and during the shutdown; a broken contract shows which account halted, and why."""

    async def too_much(amount: Decimal) -> Decimal:
        return amount + 1

    world = World(MinimalEngine([too_much], takes_s=1e6))
    async with world.core(worker="w1") as core:
        await owe(core)
        await core.create_account("bob")
        await core.request_settlement("bob", D(1), "b")
        await until(lambda: bool(core.statistics().halted))
        await until(lambda: len(world.engine.calls) == 2)
        # what was left by earlier runs is looked for in its own time; lanes that only looked have ended
        await until(lambda: core.statistics().recovered)
        await until(lambda: core.statistics().active_lanes == 1 and core.statistics().journal.pending == 0)
        (attempt,) = [a for a in world.attempts() if a.account_id == "alice"]
        found = core.statistics()
        assert found.journal == JournalStatistics(
            pending=0,
            batches=found.journal.batches,
            commands=found.journal.commands,
            failures=0,
            commits_within=found.journal.commits_within,
            commits_s=found.journal.commits_s,
        )
        assert sum(found.journal.commits_within) == found.journal.batches
        reason = (
            f"EngineError: the engine broke its contract for attempt {attempt.attempt_id!r} of 5: settled 6, more "
            "than the 5 it may; nothing was recorded, account 'alice' halts with the attempt open"
        )
        expected = CoreStatistics(
            engine="MinimalEngine",
            verifiable=False,
            recovered=True,
            stopping=False,
            active_lanes=1,
            halted={"alice outgoing": reason},
            journal=found.journal,
            worker="w1",
            partitions=1,
            partitions_held=1,
            clock_jumped_s=None,
        )
        assert found == expected
        assert repr(core) == "<Core of MinimalEngine running, 1 active lanes>"
        core.refuse_new_work()
        assert core.statistics() == replace(expected, stopping=True, journal=core.statistics().journal)
        assert repr(core) == "<Core of MinimalEngine stopping, 1 active lanes>"
    halted = e.AccountHalted(
        account_id="alice", direction=Direction.OUTGOING, reason=reason, attempt_id=attempt.attempt_id
    )
    assert world.ears.of(e.AccountHalted) == [halted]


# messages


@dataclass
class Talking(MinimalEngine):
    """Does with a message what it is told."""

    does: Callable[[], Coroutine[Any, Any, Any]] | None = None

    async def handle_message(self, account_id: str, message: object) -> object:
        """Answer with the account and the message, or as told."""
        return [account_id, message] if self.does is None else await self.does()


async def test_a_message_that_fails_is_told_with_its_account_and_reason() -> None:
    """In the event and in the error alike."""

    async def fail() -> NoReturn:
        raise ValueError("what?")

    async def cannot_be_written() -> object:
        return {1, 2}

    world = World(Talking())
    async with world.core() as core:
        await core.create_account("alice")
        assert await core.handle_message("alice", b'{"a":1}') == b'["alice",{"a":1}]'
        reasons = []
        for does in (fail, cannot_be_written, anyio.sleep_forever):
            world.engine.does = does
            with pytest.raises(MessageNotHandled) as caught:
                await core.handle_message("alice", b"1")
            assert caught.value.account_id == "alice"
            reasons.append(caught.value.problem)
        with pytest.raises(MessageRejected, match="^cannot take this message: it is not JSON: "):
            await core.handle_message("alice", b"{")
        with pytest.raises(UnknownAccount) as unknown:
            await core.handle_message("bob", b"1")
        assert unknown.value.account_id == "bob"
        with pytest.raises(InvalidIdentifier, match="^invalid account id: it is empty$"):
            await core.handle_message("", b"1")
    assert reasons == [
        "ValueError: what?",
        "its answer is unusable: it cannot be written as JSON: Object of type set is not JSON serializable",
        "TimeoutError: no answer within 4 s",
    ]
    assert told(world) == [*(e.MessageFailed(**ALICE, reason=reason) for reason in reasons)]


async def test_errors_of_a_handler_that_is_cut_are_told_with_what_it_did() -> None:
    """Beside our cancellation nobody else would hear of them."""

    async def break_when_cut() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cut:
            raise BaseExceptionGroup("both", [cut, RuntimeError("while cleaning up")]) from None

    async def settle_then_break(_: Decimal) -> Any:
        await break_when_cut()

    world = World(Talking([settle_then_break], does=break_when_cut), config=CoreConfig(shutdown_s=1))
    async with world.core() as core:
        await owe(core)
        with pytest.raises(MessageNotHandled, match="no answer within 4 s"):
            await core.handle_message("alice", b"1")
    reason = "RuntimeError: while cleaning up"
    (attempt,) = world.attempts()
    assert world.ears.of(e.EngineMisbehaved) == [
        e.EngineMisbehaved(**ALICE, doing="handle_message", reason=reason),
        e.EngineMisbehaved(**ALICE, doing="settling", reason=reason, attempt_id=attempt.attempt_id),
    ]
    assert world.ears.of(e.CoreStopped) == [e.CoreStopped(unfinished=1)]


async def test_a_set_up_that_is_cut_tells_its_errors_too() -> None:
    """It is begun again by the next life."""

    class Careless(MinimalEngine):
        async def setup_account(self, account_id: str) -> None:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class() as cut:
                raise BaseExceptionGroup("both", [cut, RuntimeError("while cleaning up")]) from None

    world = World(Careless(), config=CoreConfig(shutdown_s=1))
    async with world.core() as core:
        await core.create_account("alice")
        await anyio.sleep(1)
    reason = "RuntimeError: while cleaning up"
    assert world.ears.of(e.EngineMisbehaved) == [e.EngineMisbehaved(**ALICE, doing="set_up", reason=reason)]


@dataclass
class Addressed(FakeConnector):
    """Remembers whom messages are for."""

    sent: list[tuple[str, int]] = field(default_factory=list)

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Echo."""
        self.sent.append((account_id, len(message)))
        return message


async def test_a_message_to_the_peer_may_be_as_long_as_connectors_carry() -> None:
    """To the byte; it goes to the account it is for."""
    connector = Addressed()
    world = World(MinimalEngine(), connector=connector)
    longest = "x" * (MAX_MESSAGE - 2)
    assert len(encode_json(longest)) == MAX_MESSAGE == 32_767
    async with world.core():
        services = world.services[0]
        assert await services.send_message("alice", longest) == longest
        too_long = f"message of {MAX_MESSAGE + 1} bytes: connectors carry {MAX_MESSAGE}; nothing was sent"
        with pytest.raises(LocalError, match=f"^{too_long}$"):
            await services.send_message("alice", longest + "x")
        with pytest.raises(LocalError, match=r"^cannot use this message: .*; nothing was recorded or sent$"):
            await services.send_message("alice", {1})
        with pytest.raises(InvalidIdentifier, match="^invalid account id: "):
            await services.send_message("", "x")
    assert connector.sent == [("alice", MAX_MESSAGE)]


async def test_what_an_engine_must_not_report_is_refused_by_its_name() -> None:
    """So that its author knows which argument was wrong."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        services = world.services[0]
        with pytest.raises(InvalidAmount, match="^invalid settlement amount: it is zero; nothing was recorded$"):
            await services.credit_settlement("alice", D(0), "tx")
        with pytest.raises(InvalidAmount, match="^invalid settlement amount: -1 is negative; nothing was recorded$"):
            await services.credit_settlement("alice", D(-1), "tx")
        with pytest.raises(InvalidIdentifier, match="^invalid settlement id: it is empty$"):
            await services.credit_settlement("alice", D(1), "")
        with pytest.raises(InvalidAmount, match="^invalid settlement amount: it is zero; nothing was recorded$"):
            await services.report_unattributed("tx", D(0), None)
        with pytest.raises(InvalidIdentifier, match="^invalid settlement id: it is empty$"):
            await services.report_unattributed(" ", D(1), None)
        with pytest.raises(LocalError, match=r"^cannot use this details: .*; nothing was recorded or sent$"):
            await services.report_unattributed("tx", D(1), {1})
        with pytest.raises(LocalError, match=r"^cannot use this value for 'k': .*; nothing was recorded or sent$"):
            await services.save("k", {1})
        with pytest.raises(InvalidIdentifier, match="^invalid Idempotency-Key: it is empty$"):
            await core.request_settlement("alice", D(1), " ")
        with pytest.raises(InvalidAmount, match="^invalid amount to settle: it is zero; nothing was recorded$"):
            await core.request_settlement("alice", D(0), "k")
        with pytest.raises(
            InvalidAmount, match="^invalid amount to settle: NaN is not a finite number; nothing was rec"
        ):
            await core.request_settlement("alice", D("NaN"), "k")
    assert told(world) == []


async def test_a_failing_store_is_told_with_its_words_and_count() -> None:
    """Until it answers again, which is told too."""
    ears = Ears()
    store = FlakyStore([StoreUnavailable("gone"), StoreUnavailable("still gone")])
    async with open_journal(store, observer=ears) as journal:
        journal._chance = lambda: 0.0
        await journal.submit(Suspense()).wait()
    assert [event for _, event in ears.heard] == [
        e.StoreFailed(failures=1, reason="gone", delay_s=0.05),
        e.StoreFailed(failures=2, reason="still gone", delay_s=0.1),
        e.StoreRecovered(failures=2),
    ]

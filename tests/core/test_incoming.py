"""Crediting: what the peer paid reaches the connector exactly once, under one key for ever."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, Inexact, Rounded, localcontext
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from settlement_core.abc import Acknowledged, CreditOutcome, Refused, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.core.dismissing import PAGE, dismiss_below
from settlement_core.values.backoff import Backoff
from settlement_core.values.commands import Assign, Dismiss, Release, Resolve, Suspense
from settlement_core.values.errors import (
    IdempotencyConflict,
    InvalidAmount,
    InvalidIdentifier,
    SuspenseConflict,
    UnknownAccount,
)
from settlement_core.values.events import AccountHalted, CreditBlocked, CreditHeld, MoneyDismissed, MoneyUnattributed
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


def make_world(*answers: CreditOutcome, **config: object) -> World:
    """Return a world whose connector answers as scripted."""
    return World(
        MinimalEngine(),
        connector=FakeConnector(list(answers)),
        config=CoreConfig(**config),  # type: ignore[arg-type]
    )


async def test_a_settlement_is_credited_once_however_often_the_engine_reports_it() -> None:
    """The same settlement id is one credit, also after a restart; another amount for it is refused."""
    world = make_world()
    for _ in range(2):
        async with world.core() as core:
            await core.create_account("alice")
            for _ in range(3):
                await world.services[-1].credit_settlement("alice", D("0.5"), "tx1:0")
            with pytest.raises(IdempotencyConflict):
                await world.services[-1].credit_settlement("alice", D("0.6"), "tx1:0")
            await until(lambda: world.account().incoming.settled == D("0.5"))
    assert world.connector.total() == D("0.5")
    assert len(world.connector.offers) == 1


async def test_without_an_id_every_call_is_a_credit_of_its_own() -> None:
    """Two reports, two amounts."""
    world = make_world()
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(1))
        await world.services[0].credit_settlement("alice", D(1))
        await until(lambda: world.account().incoming.settled == 2)
    assert world.connector.total() == 2


async def test_an_unanswered_credit_is_repeated_with_the_same_key_and_amount() -> None:
    """Lost answers never credit twice, though more money arrives meanwhile; tries come at exact times."""
    world = make_world(*[Unanswered("no answer")] * 4)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await anyio.sleep(0.1)
        await world.services[0].credit_settlement("alice", D(4), "b")
        await until(lambda: world.account().incoming.settled == 7)
    offers = world.connector.offers
    assert [round(b - a, 6) for (a, *_), (b, *_) in pairwise(offers[:5])] == [0.5, 1, 2, 4]
    assert len({key for _, _, key, _ in offers[:5]}) == 1
    assert [amount for *_, amount in offers] == [D(3)] * 5 + [D(4)]
    assert world.connector.total() == 7


async def test_a_connector_that_is_away_for_a_week_is_asked_at_least_every_hour() -> None:
    """For ever, and never more than one hour apart (RFC 38, "Retry behavior")."""
    world = make_world(*[Unanswered("connection refused")] * 175)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        with anyio.fail_after(14 * 24 * 3600):
            while world.account().incoming.settled != 3:
                await anyio.sleep(600)
    gaps = [b - a for (a, *_), (b, *_) in pairwise(world.connector.offers)]
    assert max(gaps) <= 3600
    assert len({key for _, _, key, _ in world.connector.offers}) == 1


async def test_one_refused_credit_is_held_and_nothing_else_of_the_account_is_offered_until_a_decision() -> None:
    """Ten payments to an account that the connector refuses are one credit for an operator; others go on."""
    world = make_world(Refused("400 Invalid AccountId"))
    async with world.core() as core:
        for account_id in ("alice", "bob"):
            await core.create_account(account_id)
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
        for number in range(9):
            await world.services[0].credit_settlement("alice", D(4), f"b{number}")
        await world.services[0].credit_settlement("bob", D(1), "c")
        await until(lambda: world.account("bob").incoming.settled == 1)
        await anyio.sleep(1_000_000)
        assert world.account().incoming.queued == 36
        (held,) = (attempt for attempt in world.attempts() if attempt.state is AttemptState.HELD)
        await core.decide(Release(account_id="alice", attempt_id=held.attempt_id, reason="opened", by="eve"))
        await until(lambda: world.account().incoming.settled == 39)
    assert [amount for _, account_id, _, amount in world.connector.offers if account_id == "alice"] == [3, 3, 36]
    (told,) = world.ears.of(CreditHeld)
    assert told.reason == held.reason == "400 Invalid AccountId"


MAYBE_PROXY = Refused("404 Not Found", maybe_proxy=True)


async def test_a_404_is_no_refusal_where_credits_went_through_before() -> None:
    """What stands before the connector may answer it: one alarm, and the same credit again until it is taken."""
    world = make_world()
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.settled == 3)
    world.connector.answers += [MAYBE_PROXY] * 4
    async with world.core() as core:
        await world.services[1].credit_settlement("alice", D(4), "b")
        await until(lambda: [lane.failures for lane in core.lanes()] == [3])
        (lane,) = core.lanes()
        assert (lane.doing, lane.last_error) == ("backing off", "404 Not Found")
        await until(lambda: world.account().incoming.settled == 7)
    offers = world.connector.offers[1:]
    assert [round(b - a, 6) for (a, *_), (b, *_) in pairwise(offers)] == [0.5, 1, 2, 4]
    assert len({key for _, _, key, _ in offers}) == 1
    (alarm,) = world.ears.of(CreditBlocked)
    assert (alarm.level, alarm.amount, alarm.reason) == ("error", 4, "404 Not Found")
    assert not world.ears.of(CreditHeld)


@pytest.mark.parametrize("answers", [[], [Acknowledged(D(0), 0)]], ids=["never", "nothing of a fraction"])
async def test_a_404_of_an_account_never_credited_is_a_refusal(answers: list[Any]) -> None:
    """The account may not exist there: one credit is held. A connector that took part of one has the account."""
    world = make_world(*answers, MAYBE_PROXY)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D("0.5"), "a")
        await until(lambda: not core.lanes())
        await world.services[0].credit_settlement("alice", D("0.5"), "b")
        await until(lambda: not core.lanes())
    incoming = world.account().incoming
    assert incoming.parked == (0 if answers else D("0.5"))
    assert incoming.settled == (1 if answers else 0)
    assert len(world.ears.of(CreditBlocked)) == len(answers)


async def test_a_connector_that_refuses_at_a_redeploy_takes_everything_afterwards() -> None:
    """200 payments to 40 accounts during 9 s of 404 and 403: nothing is held, and all of it is credited."""
    world = make_world()
    accounts = [f"peer-{number}" for number in range(40)]
    async with world.core() as core:
        for account_id in accounts:
            await core.create_account(account_id)
            await world.services[0].credit_settlement(account_id, D(1), "first")
        await until(lambda: world.connector.total() == 40)
        away = Away(world.connector, until=anyio.current_time() + 9)
        core._context.connector = away
        for number in range(5):
            for account_id in accounts:
                await world.services[0].credit_settlement(account_id, D(1), f"tx-{number}")
            await anyio.sleep(1)
        await until(lambda: world.connector.total() == 240)
        await until(lambda: not core.lanes())
    assert not world.ears.of(CreditHeld)


@dataclass
class Away:
    """What stands before a connector that is away until then."""

    connector: FakeConnector
    until: float

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Refuse, or pass on."""
        if anyio.current_time() < self.until:
            await anyio.lowlevel.checkpoint()
            return MAYBE_PROXY
        return await self.connector.credit(account_id, amount, idempotency_key)

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Pass on."""
        return await self.connector.send_message(account_id, message)


async def test_a_released_credit_is_offered_again_under_the_same_key() -> None:
    """Also if it is the only thing to do, and also across a restart."""
    world = make_world(Refused("404 no such account"))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
        (held,) = world.attempts()
        await core.decide(Release(account_id="alice", attempt_id=held.attempt_id, reason="opened there", by="eve"))
        await until(lambda: world.account().incoming.settled == 3)
    assert [key for _, _, key, _ in world.connector.offers] == [held.attempt_id] * 2
    assert world.attempts()[0].resolved_by == "eve"


@pytest.mark.parametrize(("settled", "credited"), [(3, 0), (0, 3), (1, 2)])
async def test_a_person_may_say_what_became_of_a_held_credit(settled: int, credited: int) -> None:
    """What they say was not credited is offered under a new key."""
    world = make_world(Refused("409"))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(3), "a")
        await until(lambda: world.account().incoming.parked == 3)
        (held,) = world.attempts()
        await core.decide(
            Resolve(
                account_id="alice", attempt_id=held.attempt_id, settled=D(settled), reason="looked", by="eve", at=1.0
            )
        )
        await until(lambda: world.account().incoming.settled == 3)
    assert world.connector.total() == credited


async def test_credits_wait_for_nothing_outgoing() -> None:
    """A settlement that hangs does not keep the peer's money from being credited."""
    world = World(MinimalEngine(takes_s=100_000.0))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: bool(world.engine.calls))
        await world.services[0].credit_settlement("alice", D(2), "b")
        await until(lambda: world.account().incoming.settled == 2)
        assert anyio.current_time() < 1
        world.engine.takes_s = 0.0


async def test_money_for_a_deleted_account_is_still_offered() -> None:
    """It is real money; only an account that never existed is refused, with the remedy at hand."""
    world = make_world()
    async with world.core() as core:
        await core.create_account("alice")
        await core.delete_account("alice")
        await world.services[0].credit_settlement("alice", D(2), "b")
        await until(lambda: world.account().incoming.settled == 2)
        with pytest.raises(UnknownAccount):
            await world.services[0].credit_settlement("nobody", D(2), "b")


async def test_unattributed_money_is_kept_until_a_person_assigns_it() -> None:
    """It is reported once, survives restarts, blocks nothing, and is credited once when assigned."""
    world = make_world()
    for _ in range(2):
        async with world.core():
            await world.services[-1].report_unattributed("tx9:1", D(5), {"from": "stranger"})
    async with world.core() as core:
        await core.create_account("alice")
        (item,) = await core.ask(Suspense())
        assert (item.amount, item.details) == (D(5), {"from": "stranger"})
        for _ in range(2):
            await core.decide(Assign(settlement_id="tx9:1", account_id="alice", reason="called them", by="eve", at=1.0))
        await until(lambda: world.account().incoming.settled == 5)
        assert await core.ask(Suspense()) == []
    assert world.connector.total() == 5
    assert len(world.ears.of(MoneyUnattributed)) == 1


async def test_credits_come_down_to_the_connectors_scale_and_keep_the_dust() -> None:
    """A connector of scale 2 never sees a third digit; the dust is credited once it makes a cent."""
    world = make_world(connector_scale=2)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D("1.005"), "a")
        await until(lambda: world.account().incoming.settled == 1)
        await world.services[0].credit_settlement("alice", D("0.005"), "b")
        await until(lambda: world.account().incoming.settled == D("1.01"))
    assert [str(amount) for *_, amount in world.connector.offers] == ["1", "0.01"]


async def test_a_large_credit_leaves_in_parts_below_the_cap() -> None:
    """No amount on the wire exceeds what a 64-bit connector can count; the sum is the same."""
    world = make_world(connector_scale=18)
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(20), "a")
        await until(lambda: world.account().incoming.settled == 20)
    assert [amount for *_, amount in world.connector.offers][:2] == [D("9.223372036854775807")] * 2
    assert world.connector.total() == 20


@pytest.mark.parametrize(
    ("asset_scale", "config", "paid", "offered"),
    [
        # the connector's scale is known to be 2, so the ledger's 18 or 30 do not bound what it counts
        (18, {"connector_scale": 2}, "1000000.5", ["1000000.5"]),
        (30, {"connector_scale": 2}, "92233720368547758.08", ["92233720368547758.07", "0.01"]),
        # the connector's scale is not known, and a credit travels with its own
        (18, {}, "1000000", ["1000000"]),
        (30, {}, "1", ["1"]),
        (0, {}, "1E+20", ["9223372036854775807"] * 10 + ["7766279631452241930"]),
        (None, {}, "1E+20", ["1E+20"]),
        (30, {}, "0.123456789012345678901", ["0.1234567890123456789", "1E-21"]),
        (30, {}, "0.987654321098765432109", ["0.987654321098765432", "1.09E-19"]),
        # a cap bounds the amount, and what is sent stays within 63 bits all the same
        (18, {"credit_cap": D(400_000)}, "1000000", ["400000", "400000", "200000"]),
        (30, {"credit_cap": D("0.25")}, "0.3", ["0.25", "0.05"]),
        (30, {"credit_cap": D(1)}, "0.123456789012345678901", ["0.1234567890123456789", "1E-21"]),
    ],
)
@pytest.mark.parametrize("ambient", [{}, {"prec": 18}, {"prec": 3, "traps": [Inexact, Rounded]}], ids=repr)
async def test_no_integer_that_is_sent_exceeds_63_bits_and_no_credit_is_smaller_than_it_must_be(
    asset_scale: int | None, config: dict[str, Any], paid: str, offered: list[str], ambient: dict[str, Any]
) -> None:
    """Whatever the ledger's scale, and whatever precision and traps the surrounding program gave its decimals."""
    world = make_world(**config)
    world.engine.asset_scale = asset_scale
    with localcontext(**ambient):
        async with world.core() as core:
            await core.create_account("alice")
            await world.services[0].credit_settlement("alice", D(paid), "a")
            await until(lambda: world.account().incoming.settled == D(paid))
    assert [amount for *_, amount in world.connector.offers] == list(map(D, offered))


@pytest.mark.parametrize("amount", [D(0), D(-1), D("NaN"), D("sNaN"), D("Infinity"), 1, 1.5, "1", None, D("1e-256")])
async def test_an_impossible_credit_is_refused_and_changes_nothing(amount: object) -> None:
    """The engine gets one clear sentence."""
    world = make_world()
    async with world.core() as core:
        await core.create_account("alice")
        with pytest.raises(InvalidAmount):
            await world.services[0].credit_settlement("alice", amount, "a")  # type: ignore[arg-type]
        with pytest.raises(InvalidIdentifier):
            await world.services[0].credit_settlement("alice", D(1), "a\nb")
    assert world.account().incoming.entered == 0


async def test_delays_between_offers_are_the_configured_ones() -> None:
    """A connector known to be slow can be given more time."""
    world = make_world(Unanswered("503"), Unanswered("503"), credit_backoff=Backoff(first_s=60, max_s=60))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(2), "b")
        await until(lambda: world.account().incoming.settled == 2, every_s=1.0)
    assert [round(b - a, 6) for (a, *_), (b, *_) in pairwise(world.connector.offers)] == [60, 60]


async def test_a_credit_under_way_when_the_core_died_is_repeated_under_its_key() -> None:
    """The connector sees the same key again, and credits it once."""
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=10))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(2), "b")
        await until(lambda: bool(world.connector.offers))
        later = world.crashed()
    async with later.core():
        await until(lambda: later.account().incoming.settled == 2)
    assert later.connector.total() == 2
    assert len({key for _, _, key, _ in later.connector.offers}) == 1
    assert later.attempts()[0].state is AttemptState.CLOSED


async def test_credits_are_offered_a_few_at_a_time_and_what_comes_up_meanwhile_leaves_together() -> None:
    """Ten payments a second for each of twenty accounts, to a connector that takes a second for each credit.

    In the end every unit is credited, by far fewer credits than there were payments.
    """
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=1.0))
    accounts = [f"peer-{number}" for number in range(20)]
    async with world.core() as core:
        for account_id in accounts:
            await core.create_account(account_id)
        for number in range(40):
            for account_id in accounts:
                await world.services[0].credit_settlement(account_id, D(1), f"tx-{number}")
            await anyio.sleep(0.1)
        await until(lambda: world.connector.total() == 800)
        begun = sorted(at for at, *_ in world.connector.offers)
        assert begun[8:], "there were more than can be offered at once"
        assert all(later - earlier > 0.999 for earlier, later in zip(begun, begun[8:], strict=False))
        assert len(begun) < 100
        await until(lambda: all(world.account(account_id).incoming.settled == 40 for account_id in accounts))


@pytest.mark.parametrize(("takes_s", "at_once"), [(0.004, 1), (0.009, 2), (0.2, 8)])
async def test_a_quick_connector_is_offered_one_credit_after_the_other(takes_s: float, at_once: int) -> None:
    """A slower one as many at a time as it needs; whoever waits for long meanwhile has its turn, too."""
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=takes_s))
    accounts = [f"peer-{number}" for number in range(40)]
    async with world.core() as core:
        for account_id in accounts:
            await core.create_account(account_id)
        for account_id in accounts:
            await world.services[0].credit_settlement(account_id, D(1), "tx")
        await until(lambda: world.connector.total() == 40)
    begun = sorted(at for at, *_ in world.connector.offers)
    busiest = max(sum(at <= begin < at + takes_s - 1e-9 for at in begun) for begin in begun)
    assert busiest == at_once


async def test_a_shutdown_does_not_wait_for_the_turns_of_credits_that_are_not_offered_yet() -> None:
    """Eight are on their way, twelve wait for theirs, and are credited after the next start."""
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=1.0), config=CoreConfig(shutdown_s=30.0))
    accounts = [f"peer-{number}" for number in range(20)]
    async with world.core() as core:
        for account_id in accounts:
            await core.create_account(account_id)
            await world.services[0].credit_settlement(account_id, D(1), "tx")
        await until(lambda: len(world.connector.offers) == 8)
    assert world.connector.total() == 8
    async with world.core():
        await until(lambda: all(world.account(account_id).incoming.settled == 1 for account_id in accounts))
    assert world.connector.total() == 20
    assert len(world.connector.offers) == 20


async def test_settlement_an_operator_assigned_is_not_credited_to_another_account() -> None:
    """The engine hears so; what nobody has assigned yet it may still attribute itself, once."""
    world = World(MinimalEngine())
    async with world.core() as core:
        for name in ("alice", "bob"):
            await core.create_account(name)
        (services,) = world.services
        await services.report_unattributed("tx1:0", D(5), None)
        await core.decide(Assign(settlement_id="tx1:0", account_id="bob", reason="r", by="b", at=1.0))
        with pytest.raises(SuspenseConflict, match="already assigned to account 'bob'"):
            await services.credit_settlement("alice", D(5), "tx1:0")
        await services.credit_settlement("bob", D(5), "tx1:0")
        await services.report_unattributed("tx2:0", D(7), None)
        with pytest.raises(SuspenseConflict, match="was first reported with 7, now with 8"):
            await services.credit_settlement("alice", D(8), "tx2:0")
        for _ in range(2):
            await services.credit_settlement("alice", D(7), "tx2:0")
        with pytest.raises(SuspenseConflict):
            await core.decide(Assign(settlement_id="tx2:0", account_id="bob", reason="r", by="b", at=1.0))
        await until(lambda: world.connector.total() == 12)
    assert world.account("alice").incoming.settled == 7
    assert world.account("bob").incoming.settled == 5


async def test_settlement_an_operator_dismissed_is_credited_to_nobody_until_one_assigns_it() -> None:
    """The engine is told so however often it scans again; a decision that is repeated is one event."""
    world = World(MinimalEngine())
    dismiss = Dismiss(settlement_id="tx1:0", reason="spam", by="ann", at=1.0)
    async with world.core() as core:
        await core.create_account("alice")
        (services,) = world.services
        for _ in range(2):
            await services.report_unattributed("tx1:0", D(5), None)
            await core.decide(dismiss)
            with pytest.raises(SuspenseConflict, match="dismissed as not ours by 'ann'"):
                await services.credit_settlement("alice", D(5), "tx1:0")
        assert await core.ask(Suspense()) == []
        await anyio.sleep(3600)
        assert world.connector.total() == 0
        assert [event.settlement_id for event in world.ears.of(MoneyDismissed)] == ["tx1:0"]
        for _ in range(2):
            await core.decide(Assign(settlement_id="tx1:0", account_id="alice", reason="r", by="b", at=2.0))
            await services.credit_settlement("alice", D(5), "tx1:0")
        await until(lambda: world.connector.total() == 5)
        with pytest.raises(SuspenseConflict, match="already assigned to account 'alice'"):
            await core.decide(dismiss)
    assert world.account().incoming.settled == 5
    assert len(world.ears.of(MoneyDismissed)) == 1


async def test_small_unattributed_money_is_dismissed_in_bulk_page_by_page() -> None:
    """Only what is below the amount, and what nobody decided otherwise meanwhile; the rest waits as before."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        (services,) = world.services
        async with anyio.create_task_group() as tasks:
            for number in range(PAGE + 200):
                amount = D("0.5") if number % 100 == 0 else D("0.001")
                tasks.start_soon(services.report_unattributed, f"tx{number:04}", amount, None)
        await core.decide(Assign(settlement_id="tx0001", account_id="alice", reason="r", by="b", at=1.0))
        told: dict[str, Any] = {"reason": "spam", "by": "ann", "at": 1.0}
        first = await dismiss_below(core, D("0.5"), after="", **told)
        # of the first page one is assigned, and six or five are not below
        assert first.after is not None
        second = await dismiss_below(core, D("0.5"), after=first.after, **told)
        assert second.after is None
        assert first.count + second.count == PAGE + 200 - 7 - 1
        assert [item.amount for item in await core.ask(Suspense(limit=1000))] == [D("0.5")] * 7
        again = await dismiss_below(core, D("0.5"), after="", **told)
        assert (again.count, again.after) == (0, None)
        await until(lambda: world.connector.total() == D("0.001"))


async def test_sums_of_more_digits_than_one_amount_may_have_are_credited_in_parts() -> None:
    """Peers that pay a thousand digits twice halt nothing: each credit is one that a quantity can hold."""
    largest = D("9" * 1000)
    world = World(MinimalEngine(), connector=FakeConnector(takes_s=1.0))
    async with world.core() as core:
        await core.create_account("alice")
        for number in range(3):
            await world.services[0].credit_settlement("alice", largest, f"tx-{number}")
        await until(lambda: world.account().incoming.queued == world.account().incoming.open == 0, within_s=60)
    assert [amount for _, _, _, amount in world.connector.offers] == [largest] * 3
    assert not world.ears.of(AccountHalted)

"""Settling with an engine that has only `settle`: never twice, and what is unclear is shown, not guessed."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any, NoReturn

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.values.errors import IdempotencyConflict, SettlementFailed, UnknownAccount
from settlement_core.values.events import (
    AccountHalted,
    AttemptWaiting,
    SettlementInDoubt,
    SettlementRecorded,
    SettlementRequested,
)
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


async def test_a_request_is_settled_and_recorded() -> None:
    """The engine gets the exact amount in the standard unit, and the books say it is settled."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        first = await core.request_settlement("alice", D("4.68200000"), "key")
        await until(lambda: world.account().outgoing.settled > 0)
    assert str(first) == "4.68200000"
    assert world.engine.paid == [D("4.682")]
    assert str(world.engine.paid[0]) == "4.682"
    assert world.account().outgoing.settled == D("4.682")


async def test_the_same_key_settles_once_and_answers_alike() -> None:
    """A repeated request gets the first answer; with another amount it is refused and nothing changes."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        answers = [await core.request_settlement("alice", D("1.50"), "key") for _ in range(3)]
        assert [str(a) for a in answers] == ["1.50"] * 3
        assert str(await core.request_settlement("alice", D("1.5"), "key")) == "1.50"
        with pytest.raises(IdempotencyConflict, match="tied to other input.*first used with 1.50, now with 2"):
            await core.request_settlement("alice", D(2), "key")
        await until(lambda: world.account().outgoing.settled == D("1.5"))
    assert world.engine.paid == [D("1.5")]
    assert world.account().outgoing.entered == D("1.5")


async def test_a_hundred_requests_at_once_settle_their_sum() -> None:
    """However requests are gathered into attempts, the sum is paid."""
    world = World(MinimalEngine(takes_s=0.5))
    async with world.core() as core:
        await core.create_account("alice")
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(core.request_settlement, "alice", D(1), str(number))
        await until(lambda: world.account().outgoing.settled == 100)
    assert sum(world.engine.paid) == 100
    assert len(world.engine.paid) <= 3


async def test_what_was_not_settled_joins_the_next_request() -> None:
    """3.6 of which 1.207 is settled, then 4.9001: the engine is asked for 7.2931 at once."""

    async def part(_: Decimal) -> Decimal:
        return D("1.207")

    world = World(MinimalEngine([part]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D("3.6"), "a")
        await until(lambda: len(world.engine.paid) == 1)
        await core.request_settlement("alice", D("4.9001"), "b")
        await until(lambda: len(world.engine.paid) == 2)
        now = anyio.current_time()
    assert world.engine.paid == [D("1.207"), D("7.2931")]
    assert now < 1


async def test_what_was_not_settled_is_offered_again_after_a_back_off() -> None:
    """Without new money the rest waits 5, then 10, then 20 s: exactly, with no jitter drawn."""

    async def nothing(_: Decimal) -> Decimal:
        return D(0)

    async def failing(_: Decimal) -> NoReturn:
        raise SettlementFailed("no route")

    world = World(MinimalEngine([nothing, failing, nothing]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(9), "a")
        await until(lambda: world.account().outgoing.settled == 9)
    times = [when for when, _, _ in world.engine.calls]
    assert [round(b - a, 6) for a, b in pairwise(times)] == [5, 10, 20]
    assert [amount for _, _, amount in world.engine.calls] == [9, 9, 9, 9]


async def test_a_settlement_that_failed_for_certain_inside_task_groups_is_tried_again() -> None:
    """Two nested task groups wrap `SettlementFailed` into groups; nothing is in doubt, and the back-off pays it."""

    async def fail(words: str) -> NoReturn:
        raise SettlementFailed(words)

    async def failing(_: Decimal) -> None:
        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            inner.start_soon(fail, "no route")
            outer.start_soon(fail, "no liquidity")

    world = World(MinimalEngine([failing]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(9), "a")
        await until(lambda: world.account().outgoing.settled == 9)
    assert [when for when, _, _ in world.engine.calls] == pytest.approx([0, 5], abs=0.02)
    (told,) = world.ears.of(AttemptWaiting)
    assert set(told.reason.removeprefix("nothing was settled: ").split("; ")) == {"no route", "no liquidity"}
    assert not world.ears.of(SettlementInDoubt)


_UNCLEAR = [
    RuntimeError("boom"),
    ExceptionGroup("several", [ValueError("a"), OSError("b")]),
    ExceptionGroup("several", [SettlementFailed("no route"), ExceptionGroup("more", [OSError("b")])]),
]


@pytest.mark.parametrize("error", _UNCLEAR, ids=repr)
async def test_an_unclear_outcome_is_in_doubt_and_never_paid_again(error: Exception) -> None:
    """The account goes on with new money; the unclear amount is shown with its reason."""

    async def breaking(_: Decimal) -> NoReturn:
        raise error

    world = World(MinimalEngine([breaking]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: world.account().outgoing.parked == 5)
        await core.request_settlement("alice", D(7), "b")
        await until(lambda: world.account().outgoing.settled == 7)
        await anyio.sleep(100_000)
    assert world.engine.paid == [7]
    (doubt,) = world.ears.of(SettlementInDoubt)
    assert "settle did not answer but raised" in doubt.reason
    assert world.attempts()[0].state is AttemptState.IN_DOUBT


async def test_a_settlement_under_way_when_the_core_died_is_in_doubt_at_the_next_start() -> None:
    """A crash in the middle of `settle` is not paid again by the next life, and new money is."""
    world = World(MinimalEngine(takes_s=1000))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: len(world.engine.calls) == 1)
        later = world.crashed()
    later.engine.takes_s = 0
    async with later.core() as core:
        await core.request_settlement("alice", D(2), "b")
        await until(lambda: later.account().outgoing.settled == 2)
    assert later.account().outgoing.parked == 5
    assert later.engine.paid == [2]


@pytest.mark.parametrize("returned", [D(11), D(-1), D("NaN"), D("Infinity"), 5, 5.0, None, "5", D("1e-300")], ids=repr)
async def test_an_impossible_answer_halts_the_account_with_its_attempt_open(returned: Any) -> None:
    """Nothing is recorded of it, the account stops loudly, and the other accounts go on."""

    async def impossible(_: Decimal) -> Any:
        return returned

    world = World(MinimalEngine([impossible]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.create_account("bob")
        await core.request_settlement("alice", D(10), "a")
        await until(lambda: bool(world.ears.of(AccountHalted)))
        await core.request_settlement("alice", D(3), "b")
        await core.request_settlement("bob", D(4), "a")
        await until(lambda: world.account("bob").outgoing.settled == 4)
        assert list(core.statistics().halted) == ["alice outgoing"]
        await anyio.sleep(100_000)
    books = world.account().outgoing
    assert (books.open, books.queued, books.settled) == (D(10), D(3), D(0))
    assert "the engine broke its contract" in world.ears.of(AccountHalted)[0].reason


async def test_dust_finer_than_the_ledger_waits_until_it_adds_up() -> None:
    """An engine of scale 2 is never asked for more digits; the rest is settled once it makes a cent."""
    engine = MinimalEngine()
    engine.asset_scale = 2  # type: ignore[attr-defined]
    world = World(engine)
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D("1.239"), "a")
        await until(lambda: world.account().outgoing.settled == D("1.23"))
        assert core.statistics().active_lanes == 0
        await core.request_settlement("alice", D("0.0005"), "b")
        await core.request_settlement("alice", D("0.0006"), "c")
        await until(lambda: world.account().outgoing.settled == D("1.24"))
    assert engine.paid == [D("1.23"), D("0.01")]
    assert world.account().outgoing.queued == D("0.0001")


async def test_an_attempt_gathers_a_bounded_number_of_requests() -> None:
    """With a bound of 10, 25 queued requests make 3 attempts."""
    world = World(MinimalEngine(takes_s=1), config=CoreConfig(max_entries=10))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "first")
        await until(lambda: len(world.engine.calls) == 1)
        for number in range(25):
            await core.request_settlement("alice", D(1), str(number))
        await until(lambda: world.account().outgoing.settled == 26)
    assert world.engine.paid == [1, 10, 10, 5]


async def test_an_idle_account_has_no_task() -> None:
    """Once everything is settled its lane ends; a new request starts it again."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        for number in range(3):
            await core.request_settlement("alice", D(1), str(number))
            await until(lambda: core.statistics().active_lanes == 0)
            assert world.account().outgoing.settled == number + 1


async def test_requests_for_unknown_accounts_change_nothing() -> None:
    """Unless accounts are made on their first request."""
    world = World(MinimalEngine())
    async with world.core() as core:
        with pytest.raises(UnknownAccount):
            await core.request_settlement("alice", D(1), "a")
    assert world.engine.calls == []
    world.config = CoreConfig(create_unknown_accounts=True)
    async with world.core() as core:
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.account().outgoing.settled == 1)
    assert world.ears.of(SettlementRequested) == [SettlementRequested(account_id="alice", key="a", amount=D(1))]


async def test_settlements_are_told_with_their_time() -> None:
    """An observer hears what was settled and how long it took."""
    world = World(MinimalEngine(takes_s=2.5))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: bool(world.ears.of(SettlementRecorded)))
    (event,) = world.ears.of(SettlementRecorded)
    assert (event.account_id, event.amount, event.took_s) == ("alice", 1, pytest.approx(2.5))
    assert str(event).startswith("account alice settled 1 of 1 in 2.500 s (attempt ")


async def test_after_a_success_delays_begin_anew() -> None:
    """0 of 9 settled, then a half, then 0: the delays are 5, 5 and 10 s, not 5, 10 and 20."""

    async def nothing(_: Decimal) -> Decimal:
        return D(0)

    async def a_half(_: Decimal) -> Decimal:
        return D("0.5")

    world = World(MinimalEngine([nothing, a_half, nothing]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(9), "a")
        await until(lambda: world.account().outgoing.settled == 9)
    assert [round(when, 6) for when, _, _ in world.engine.calls] == [0, 5, 10, 20]

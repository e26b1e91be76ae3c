"""What a claim takes, and what may follow what: decided alike for every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.values.amounts import MAX_DIGITS, Quantity, add, floor, total
from settlement_core.values.commands import Assign, Claim, Close, Hold, Note, Release, Resolve
from settlement_core.values.decisions import (
    ClaimPlan,
    may_assign,
    may_close,
    may_hold,
    may_note,
    may_release,
    may_resolve,
    parked_state,
    pending_step,
    plan_claim,
)
from settlement_core.values.errors import AttemptConflict, SuspenseConflict
from settlement_core.values.records import Attempt, AttemptState, Direction, Payment, Step, SuspenseItem

OPEN, IN_DOUBT, HELD = AttemptState.OPEN, AttemptState.IN_DOUBT, AttemptState.HELD
RELEASED, CLOSED = AttemptState.RELEASED, AttemptState.CLOSED

amounts = st.one_of(
    st.sampled_from(tuple(map(Decimal, ("1", "0.5", "0.001", "1e-255", "9" * 300, "12.5")))),
    st.decimals("0.000001", "1000000", places=6),
)


def _claim(
    *, max_entries: int = 1000, scale: int | None = None, cap: str | None = None, max_integer: int | None = None
) -> Claim:
    return Claim(
        account_id="alice",
        direction=Direction.OUTGOING,
        attempt_id="t",
        at=0.0,
        max_entries=max_entries,
        scale=scale,
        cap=None if cap is None else Decimal(cap),
        max_integer=max_integer,
    )


def _plan(count: int, amount: str, dust: str) -> ClaimPlan:
    return ClaimPlan(count, Decimal(amount), Decimal(dust))


@pytest.mark.parametrize(
    ("queue", "claim", "plan"),
    [
        ("", _claim(), None),
        ("1", _claim(), _plan(1, "1", "0")),
        ("1 2.50", _claim(), _plan(2, "3.5", "0")),
        ("1 2.55", _claim(scale=1), _plan(2, "3.5", "0.05")),
        ("0.4 0.4", _claim(scale=0), None),
        ("0.4 0.4 0.4", _claim(scale=0), _plan(3, "1", "0.2")),
        ("1 1 1", _claim(max_entries=2), _plan(2, "2", "0")),
        ("0.4 0.4 0.4 5", _claim(max_entries=1, scale=0), _plan(3, "1", "0.2")),
        ("10 1", _claim(cap="3"), _plan(2, "3", "8")),
        ("10 1", _claim(cap="3.75", scale=1), _plan(2, "3.7", "7.3")),
        ("10", _claim(cap="0.5", scale=0), None),
        ("10", _claim(cap="10"), _plan(1, "10", "0")),
        ("100.00", _claim(scale=0), _plan(1, "100", "0")),
        ("100", _claim(max_integer=100), _plan(1, "100", "0")),
        ("100.000", _claim(max_integer=100), _plan(1, "100", "0")),
        ("101", _claim(max_integer=100), _plan(1, "100", "1")),
        ("1.001", _claim(max_integer=100), _plan(1, "1", "0.001")),
        ("0.0123", _claim(max_integer=100), _plan(1, "0.012", "0.0003")),
        ("12.34 5", _claim(max_integer=100, cap="3.456"), _plan(2, "3.4", "13.94")),
        ("12.345", _claim(max_integer=200, scale=2), _plan(1, "12.3", "0.045")),
    ],
)
def test_a_claim_takes_what_can_go_and_leaves_the_dust(queue: str, claim: Claim, plan: ClaimPlan | None) -> None:
    """Oldest first, bounded in number, capped and floored; dust is told, and too little is left alone."""
    assert plan_claim(map(Decimal, queue.split()), claim) == plan


@given(
    st.lists(amounts, max_size=12),
    st.integers(1, 5),
    st.one_of(st.none(), st.sampled_from((0, 2, 255))),
    st.one_of(st.none(), amounts),
    st.one_of(st.none(), st.integers(9, 2**63)),
)
def test_a_claim_neither_makes_nor_loses_money(
    queue: list[Decimal], max_entries: int, scale: int | None, cap: Decimal | None, max_integer: int | None
) -> None:
    """Amount and dust are exactly what was taken; the amount keeps to its bounds; nothing payable is left behind."""
    claim = replace(_claim(max_entries=max_entries, scale=scale, max_integer=max_integer), cap=cap)
    plan = plan_claim(queue, claim)
    if plan is None:
        ceiling = total(queue) if cap is None else min(total(queue), cap)
        assert ceiling == 0 or (scale is not None and floor(ceiling, scale) == 0)
        return
    assert add(plan.amount, plan.dust) == total(queue[: plan.count])
    assert plan.amount > 0
    assert plan.dust >= 0
    assert cap is None or plan.amount <= cap
    assert scale is None or floor(plan.amount, scale) == plan.amount
    assert max_integer is None or int(Quantity.of(plan.amount).amount) <= max_integer
    # more than its bound only while what came before could not be paid
    fewer = queue[: plan.count - 1]
    assert plan.count <= max_entries or (scale is not None and floor(total(fewer), scale) == 0)


def test_a_claim_gathers_no_more_digits_than_an_amount_may_have() -> None:
    """Each entry has at most a thousand digits before the point; their sum could be no attempt that anybody can pay."""
    largest = Decimal("9" * MAX_DIGITS)
    assert plan_claim([largest, Decimal(1), Decimal(2)], _claim()) == ClaimPlan(1, largest, Decimal(0))
    half = Decimal("4" * MAX_DIGITS)
    assert plan_claim([half, half, half], _claim()) == ClaimPlan(2, add(half, half), Decimal(0))
    assert plan_claim([Decimal("0.4"), largest, Decimal(3)], _claim(scale=0)) == ClaimPlan(2, largest, Decimal("0.4"))


def test_a_claim_reads_no_further_than_it_takes() -> None:
    """A queue of millions is not read for a claim of a few."""
    read = 0

    def queue() -> Iterator[Decimal]:
        nonlocal read
        while True:
            read += 1
            yield Decimal(1)

    assert plan_claim(queue(), _claim(max_entries=5)) == _plan(5, "5", "0")
    assert read <= 6


def test_set_up_comes_before_tear_down() -> None:
    """An account deleted before it was set up is first set up, if it owes anything, then torn down."""
    assert pending_step(set_up=True, tear_down=True) is Step.SET_UP
    assert pending_step(set_up=False, tear_down=True) is Step.TEAR_DOWN
    assert pending_step(set_up=False, tear_down=False) is None


def test_parked_money_is_in_doubt_when_it_goes_and_held_when_it_comes() -> None:
    """Two words, each with one meaning."""
    assert parked_state(Direction.OUTGOING) is IN_DOUBT
    assert parked_state(Direction.INCOMING) is HELD


_MAY: dict[type, Callable[[Any, Any], bool]] = {
    Close: may_close,
    Note: may_note,
    Hold: may_hold,
    Release: may_release,
    Resolve: may_resolve,
}
ATTEMPT = Attempt(account_id="alice", direction=Direction.OUTGOING, attempt_id="t", amount=Decimal(10), claimed_at=0.0)
PAYMENT = Payment(Decimal(10), {"hash": "0x1"})
IDS = {"account_id": "alice", "attempt_id": "t"}
CLOSE = Close(**IDS, settled=Decimal(4), at=0.0)
NOTE = Note(**IDS, payment=PAYMENT)
HOLD = Hold(**IDS, reason="lost")
RELEASE = Release(**IDS, reason="fixed", by="carol")
RESOLVE = Resolve(**IDS, settled=Decimal(4), reason="seen", by="carol", at=0.0)


def _in(state: AttemptState, *, settled: str | None = None, reason: str = "", by: str = "") -> Attempt:
    amount = None if settled is None else Decimal(settled)
    return replace(ATTEMPT, state=state, settled=amount, reason=reason, resolved_by=by)


def test_what_may_be_done_in_each_state() -> None:
    """The whole table: an order is carried out in the states named here and refused in all others."""
    table = {
        OPEN: {"close", "note", "hold"},
        IN_DOUBT: {"resolve"},
        HELD: {"release", "resolve"},
        RELEASED: {"resolve"},
        CLOSED: set[str](),
    }
    orders: dict[str, Callable[[Attempt], bool]] = {
        "close": lambda attempt: may_close(attempt, CLOSE),
        "note": lambda attempt: may_note(attempt, NOTE),
        "hold": lambda attempt: may_hold(attempt, HOLD),
        "release": lambda attempt: may_release(attempt, RELEASE),
        "resolve": lambda attempt: may_resolve(attempt, RESOLVE),
    }
    for state, allowed in table.items():
        for name, may in orders.items():
            attempt = _in(state, settled="10" if state is CLOSED else None)
            if name in allowed:
                assert may(attempt)
            else:
                with pytest.raises(AttemptConflict, match=f"attempt 't': it is {state.value.replace('_', ' ')}"):
                    may(attempt)


def test_the_same_again_is_no_change() -> None:
    """Each order, repeated with the same content after it was carried out, already holds."""
    assert not may_close(_in(CLOSED, settled="4.0"), CLOSE)
    assert not may_note(replace(ATTEMPT, payment=PAYMENT), NOTE)
    assert not may_note(replace(_in(CLOSED, settled="4"), payment=PAYMENT), NOTE)
    assert not may_hold(_in(IN_DOUBT, reason="lost"), HOLD)
    for state in (RELEASED, OPEN, CLOSED):
        assert not may_release(_in(state, reason="fixed", by="carol"), RELEASE)
    assert not may_resolve(_in(CLOSED, settled="4", reason="seen", by="carol"), RESOLVE)


@pytest.mark.parametrize(
    ("attempt", "command", "sentence"),
    [
        (_in(CLOSED, settled="5"), CLOSE, "close attempt 't': it is closed with 5 of 10 settled"),
        (_in(CLOSED, settled="4", reason="seen", by="dave"), RESOLVE, "resolve attempt 't': it is closed with 4 of 10"),
        (
            _in(CLOSED, settled="5", reason="seen", by="carol"),
            RESOLVE,
            "resolve attempt 't': it is closed with 5 of 10",
        ),
        (_in(CLOSED, settled="4", reason="new", by="carol"), RESOLVE, "resolve attempt 't': it is closed with 4 of 10"),
        (_in(IN_DOUBT, reason="other"), HOLD, "park attempt 't': it is in doubt"),
        (replace(ATTEMPT, payment=Payment(Decimal(9), 1)), NOTE, "note attempt 't': another payment is noted for it"),
        (replace(ATTEMPT, direction=Direction.INCOMING), NOTE, "note attempt 't': it is incoming"),
        (ATTEMPT, replace(CLOSE, settled=Decimal("10.1")), "close attempt 't': 10.1 is not between 0 and its amount"),
        (ATTEMPT, replace(CLOSE, settled=Decimal(-1)), "close attempt 't': -1 is not between 0 and its amount of 10"),
        (ATTEMPT, replace(NOTE, payment=Payment(Decimal(11), 1)), "note attempt 't': 11 is not between 0 and"),
        (_in(HELD), replace(RESOLVE, settled=Decimal(11)), "resolve attempt 't': 11 is not between 0 and its amount"),
        (_in(RELEASED, reason="fixed", by="dave"), RELEASE, "release attempt 't': it is released"),
    ],
)
def test_the_same_attempt_with_other_content_is_refused(attempt: Attempt, command: object, sentence: str) -> None:
    """A second truth about one attempt is never recorded over the first."""
    with pytest.raises(AttemptConflict) as caught:
        _MAY[type(command)](attempt, command)
    assert str(caught.value).startswith(f"cannot {sentence}")
    assert str(caught.value).endswith("; nothing was recorded")


def assigning(account_id: str) -> Assign:
    """Return what an operator decides."""
    return Assign(settlement_id="s", account_id=account_id, reason="r", by="b", at=1.0)


def test_unattributed_money_is_assigned_once() -> None:
    """To the same account again is no change; to another is refused."""
    item = SuspenseItem(settlement_id="s", amount=Decimal(1), details=None, reported_at=0.0)
    assert may_assign(item, assigning("alice"))
    assert not may_assign(replace(item, account_id="alice"), assigning("alice"))
    with pytest.raises(SuspenseConflict) as caught:
        may_assign(replace(item, account_id="bob"), assigning("alice"))
    assert str(caught.value) == (
        "unattributed settlement 's' is already assigned to account 'bob'; nothing was recorded"
    )

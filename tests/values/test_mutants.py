"""What errors say and keep, to the letter; and what small slips in the values would change."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.stores.memory import create_memory_store
from settlement_core.values import decisions, errors
from settlement_core.values.amounts import Quantity, check_amount
from settlement_core.values.commands import (
    Claim,
    Close,
    Command,
    Enqueue,
    Get,
    Hold,
    Note,
    OpenAccount,
    Prune,
    Release,
    Resolve,
)
from settlement_core.values.errors import InvalidQuantity, LocalError, SettlementError
from settlement_core.values.json_text import MAX_DEPTH, encode_json
from settlement_core.values.records import Attempt, AttemptState, Direction, Payment
from settlement_core.values.reference import Books
from settlement_core.values.sealing import SEAL, refuse_sealed, seal

# made within each test: what is made while tests are collected says nothing about the code as it is when they run
_ERRORS: list[tuple[Callable[[], SettlementError], str, dict[str, object]]] = [
    (
        lambda: errors.InvalidQuantity("amount must hold digits only"),
        "invalid quantity: amount must hold digits only",
        {"problem": "amount must hold digits only"},
    ),
    (
        lambda: errors.InvalidAmount("credit_cap", "it is zero"),
        "invalid credit_cap: it is zero; nothing was recorded",
        {"what": "credit_cap", "problem": "it is zero"},
    ),
    (
        lambda: errors.InvalidIdentifier("account id", "it is empty"),
        "invalid account id: it is empty",
        {"what": "account id", "problem": "it is empty"},
    ),
    (
        lambda: errors.UnknownAccount("bob"),
        "account 'bob' does not exist; nothing was recorded",
        {"account_id": "bob"},
    ),
    (
        lambda: errors.IdempotencyConflict("bob", "k", first=Decimal("1E+3"), now=Decimal("1E-7")),
        (
            "provided idempotency key is tied to other input: 'k' of account 'bob' was first used with 1000, now with "
            "0.0000001; nothing was recorded"
        ),
        {"account_id": "bob", "entry_id": "k", "first": Decimal(1000), "now": Decimal("0.0000001")},
    ),
    (
        lambda: errors.UnknownAttempt("bob", "t"),
        "account 'bob' has no attempt 't'; nothing was recorded",
        {"account_id": "bob", "attempt_id": "t"},
    ),
    (
        lambda: errors.AttemptConflict("t", tried="close", problem="it is closed"),
        "cannot close attempt 't': it is closed; nothing was recorded",
        {"attempt_id": "t", "tried": "close", "problem": "it is closed"},
    ),
    (
        lambda: errors.LeaseLost("bob"),
        (
            "account 'bob' is another worker's by now; nothing was recorded, that worker finds out what became of the "
            "attempt"
        ),
        {"account_id": "bob"},
    ),
    (
        lambda: errors.LeadershipLost("w1"),
        (
            "worker 'w1' was silent for longer than its lease, and another one runs the engine by now; what was under "
            "way here stays open in the store and is looked at there; start again to stand by"
        ),
        {},
    ),
    (
        lambda: errors.UnknownSuspense("s"),
        "no unattributed settlement 's'; nothing was recorded",
        {"settlement_id": "s"},
    ),
    (
        lambda: errors.SuspenseConflict("s", "was first reported with 1, now with 2"),
        "unattributed settlement 's' was first reported with 1, now with 2; nothing was recorded",
        {"settlement_id": "s", "problem": "was first reported with 1, now with 2"},
    ),
    (
        lambda: errors.MessageNotHandled("bob", "too slow"),
        "message for account 'bob' was not handled: too slow",
        {"account_id": "bob", "problem": "too slow"},
    ),
    (
        lambda: errors.InvalidEngine("Toy", "no settle"),
        "Toy is no settlement engine: no settle",
        {"name": "Toy", "problem": "no settle"},
    ),
    (errors.ShuttingDown, "shutting down; nothing was recorded, try again later", {}),
    (
        lambda: errors.JournalEnded("Close"),
        "the journal has ended: Close may not have been recorded, try again later",
        {"command": "Close"},
    ),
]


@pytest.mark.parametrize(("make", "sentence", "facts"), _ERRORS)
def test_an_error_says_its_sentence_and_keeps_its_facts(
    make: Callable[[], SettlementError], sentence: str, facts: dict[str, Any]
) -> None:
    """Whoever catches it needs the facts, whoever reads it the sentence."""
    error = make()
    assert str(error) == sentence
    assert {name: getattr(error, name) for name in facts} == facts


def test_a_sealed_store_tells_why_it_may_not_be_served() -> None:
    """Until the mark is taken away; and it is no account's, whatever accounts are called."""
    store = create_memory_store()
    assert Get(account_id="/", key="sealed") == SEAL
    assert store.apply([SEAL]) == [None]
    refuse_sealed(None)
    store.apply([seal("its money was moved")])
    assert store.apply([SEAL]) == ["its money was moved"]
    with pytest.raises(LocalError, match="^its money was moved$"):
        refuse_sealed(*store.apply([SEAL]))
    store.apply([seal(None)])
    assert store.apply([SEAL]) == [None]


@pytest.mark.parametrize(
    ("scale", "shown"),
    [
        (256, "256"),
        (-1, "-1"),
        (2**64 - 1, "18446744073709551615"),
        (1 - 2**64, "-18446744073709551615"),
        (2**64, "a number far from it"),
        (-(2**64), "a number far from it"),
        (10**5000, "a number far from it"),
    ],
    ids=["above", "below", "64 bits", "64 bits below", "65 bits", "65 bits below", "unwritable"],
)
def test_a_scale_out_of_bounds_is_shown_if_it_can_be(scale: int, shown: str) -> None:
    """A number of thousands of digits cannot even be written."""
    with pytest.raises(InvalidQuantity) as caught:
        Quantity.parse({"amount": "1", "scale": scale})
    assert str(caught.value) == f"invalid quantity: scale must be 0 to 255, got {shown}"


@pytest.mark.parametrize(
    ("may", "command", "tried"),
    [
        (decisions.may_close, Close(account_id="a", attempt_id="t", settled=Decimal(4), at=0.0), "close"),
        (decisions.may_note, Note(account_id="a", attempt_id="t", payment=Payment(Decimal(4), 1)), "note"),
        (decisions.may_hold, Hold(account_id="a", attempt_id="t", reason="lost"), "park"),
        (decisions.may_release, Release(account_id="a", attempt_id="t", reason="r", by="b"), "release"),
        (
            decisions.may_resolve,
            Resolve(account_id="a", attempt_id="t", settled=Decimal(4), reason="r", by="b", at=0.0),
            "resolve",
        ),
    ],
)
def test_a_refusal_names_what_was_tried(may: Callable[[Attempt, Any], bool], command: Any, tried: str) -> None:
    """With the state the attempt is in, and how it ended."""
    closed = Attempt(
        account_id="a",
        direction=Direction.OUTGOING,
        attempt_id="t",
        amount=Decimal(10),
        state=AttemptState.CLOSED,
        settled=Decimal(10),
        claimed_at=0.0,
    )
    with pytest.raises(errors.AttemptConflict) as caught:
        may(closed, command)
    assert str(caught.value) == (
        f"cannot {tried} attempt 't': it is closed with 10 of 10 settled; nothing was recorded"
    )


@pytest.mark.parametrize("beside", [[1], {}, "text", None])
def test_what_is_too_deep_is_refused_whatever_is_beside_it(beside: object) -> None:
    """Before or after it, in arrays and in objects."""
    deep: object = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    for value in ([deep, beside], [beside, deep], {"a": deep, "b": beside}, {"a": beside, "b": deep}):
        with pytest.raises(ValueError, match="^it cannot be written as JSON: it is nested too deeply$"):
            encode_json(value)


def test_nothing_keeps_as_many_places_as_fit_the_wire() -> None:
    """And none if it has more, or is written in tens."""
    places = {
        exponent: check_amount(Decimal((0, (0,), exponent)), "amount").as_tuple().exponent for exponent in (-255, 0)
    }
    assert places == {-255: -255, 0: 0}
    assert [check_amount(Decimal((1, (0,), exponent)), "amount").as_tuple() for exponent in (-256, 1)] == [
        Decimal(0).as_tuple()
    ] * 2


def test_no_more_attempts_are_looked_at_once_enough_is_forgotten() -> None:
    """Attempts of one request each: as many are forgotten at a time as asked for, the oldest first."""
    books = Books()
    alice: dict[str, Any] = {"account_id": "alice"}
    lived: list[Command[Any]] = [OpenAccount(**alice, at=0.0)]
    for name in "abcde":
        lived += [
            Enqueue(**alice, direction=Direction.OUTGOING, entry_id=name, amount=Decimal(1), at=1.0),
            Claim(**alice, direction=Direction.OUTGOING, attempt_id=name, at=1.0),
            Close(**alice, attempt_id=name, settled=Decimal(1), at=1.0),
        ]
    books.apply(lived)
    forgotten = [books.apply([Prune(before=2.0, limit=limit)])[0] for limit in (1, 2, 5)]
    assert forgotten == [1, 2, 2]

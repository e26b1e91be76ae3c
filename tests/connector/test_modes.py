"""Each real connector's habits, one named test per deviation (WIRE, section 2)."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement_core.testing.connector import (
    MODES,
    Answer,
    Books,
    Mode,
)
from settlement_core.testing.connector._wire import DROP, Request

RS, JAVA, RAFIKI, RFC38 = (MODES[name] for name in ("interledger_rs", "java", "rafiki", "rfc38"))
ALICE = "58f9c44b-0f64-4b6f-9a4e-8b8f5f0a2a5e"
HOUR_S = 3600.0
JSON_HEADERS = {"content-type": "application/json", "accept": "application/json"}


class Shelf:
    """One mode's books with an account ALICE of scale 9, and credits at any time."""

    def __init__(self, mode: Mode, *, scale: int | None = 9) -> None:
        self.mode = mode
        self.books = Books()
        self.account = self.books.open(ALICE, scale=scale)

    def credit(
        self,
        amount: object = "1000000000",
        scale: object = 9,
        *,
        key: str | None = "key-1",
        at: float = 0.0,
        to: str = ALICE,
        headers: dict[str, str] = JSON_HEADERS,
    ) -> Answer:
        """Tell it of an incoming settlement, one unit unless said otherwise."""
        keyed = headers if key is None else {**headers, "idempotency-key": key}
        body = json.dumps({"amount": amount, "scale": scale}).encode()
        return self.mode.credit(self.books, Request(to, keyed, body, at))

    @property
    def credited(self) -> Decimal:
        """Return what is in the books."""
        return self.account.credited


# RFC 38


def test_rfc_38_remembers_keys_for_ever() -> None:
    """A replay after a month gets the first answer, and credits nothing."""
    shelf = Shelf(RFC38)
    first = shelf.credit()
    assert shelf.credit(at=30 * 24 * HOUR_S) == first
    assert shelf.credited == 1


def test_rfc_38_knows_a_quantity_by_how_it_is_written() -> None:
    """The same value at another scale is another body, and conflicts."""
    shelf = Shelf(RFC38)
    shelf.credit("1", 0)
    assert shelf.credit("10", 1).status == 409
    assert shelf.credited == 1


# Interledger.rs


def test_interledger_rs_answers_received_without_content_type() -> None:
    """201, and seven letters that are no JSON."""
    assert Shelf(RS).credit() == Answer(201, b"RECEIVED")


def test_interledger_rs_conflicts_with_any_replay_for_a_day() -> None:
    """Its Redis store cannot read back what a key was used for; after 24 h it has forgotten the key."""
    shelf = Shelf(RS)
    shelf.credit()
    assert shelf.credit(at=23 * HOUR_S).status == 409
    assert shelf.credited == 1
    assert shelf.credit(at=24 * HOUR_S).status == 201
    assert shelf.credited == 2


def test_interledger_rs_caches_errors_for_a_day() -> None:
    """A credit refused for want of an account cannot succeed under its key, though the account exists by then."""
    shelf = Shelf(RS)
    bob = str(uuid.uuid4())
    assert shelf.credit(to=bob).status == 404
    shelf.books.open(bob, scale=9)
    assert shelf.credit(to=bob, at=HOUR_S).status == 409
    assert shelf.credit(to=bob, at=24 * HOUR_S).status == 201


def test_interledger_rs_hangs_up_without_a_key() -> None:
    """The store panics, so the connection closes unanswered, and nothing is booked."""
    shelf = Shelf(RS)
    assert shelf.credit(key=None) == DROP
    assert shelf.credited == 0


def test_interledger_rs_wants_the_amount_as_text() -> None:
    """A number is 400 in plain text; text that is no number is 500."""
    shelf = Shelf(RS)
    assert shelf.credit(1000000000).status == 400
    assert shelf.credit(1000000000).headers["content-type"].startswith("text/plain")
    assert shelf.credit("ten", key="key-2").status == 500
    assert shelf.credited == 0


def test_interledger_rs_knows_only_uuids() -> None:
    """Any other account id is 400, a UUID it does not have 404."""
    shelf = Shelf(RS)
    shelf.books.open("alice", scale=9)
    refusal = shelf.credit(to="alice")
    assert (refusal.status, json.loads(refusal.body)["detail"]) == (400, "alice is an invalid account ID")
    bob = str(uuid.uuid4())
    refusal = shelf.credit(to=bob, key="key-2")
    assert (refusal.status, json.loads(refusal.body)["detail"]) == (404, f"Account {bob} was not found")


def test_interledger_rs_keeps_fractions_until_they_add_up() -> None:
    """What is finer than the account waits, and is credited with what makes it whole."""
    shelf = Shelf(RS)
    shelf.credit("1999", 12, key="key-1")
    assert shelf.credited == Decimal("1E-9")
    shelf.credit("1", 12, key="key-2")
    assert shelf.credited == Decimal("2E-9")


def test_interledger_rs_clamps_to_64_bits() -> None:
    """What does not fit is lost, behind a 201."""
    shelf = Shelf(RS)
    assert shelf.credit(str(2**64 + 5), 9).status == 201
    assert shelf.credited == Decimal(2**64 - 1).scaleb(-9)


def test_interledger_rs_takes_no_message_key_twice_in_a_day() -> None:
    """Messages share the store of keys with credits; without a key, they pass."""
    books = Books()
    keyed = {"idempotency-key": "key-1"}
    for headers, at, accepted in [({}, 0.0, True), ({}, 0.0, True), (keyed, 0.0, True), (keyed, HOUR_S, False)]:
        objection = RS.objection(books, Request(ALICE, headers, b"hello", at))
        assert (objection is None) is accepted
    assert RS.objection(books, Request(ALICE, keyed, b"hello", 24 * HOUR_S)) is None


# the Java connector


def test_java_answers_the_quantity_it_floored() -> None:
    """200 with its own scale; what is finer is lost, unless the engine reads the answer."""
    shelf = Shelf(JAVA)
    answer = shelf.credit("1999", 12)
    assert (answer.status, json.loads(answer.body)) == (200, {"amount": "1", "scale": 9})
    assert answer.headers["idempotency-key"] == "key-1"
    assert "location" in answer.headers
    assert shelf.credited == Decimal("1E-9")
    shelf.credit("1", 12, key="key-2")
    assert shelf.credited == Decimal("1E-9")


def test_java_fails_on_a_replay_for_five_minutes_and_then_credits_twice() -> None:
    """Two caches share one Redis key, and the shorter-lived one wins."""
    shelf = Shelf(JAVA)
    shelf.credit()
    assert shelf.credit(at=299.0).status == 500
    assert shelf.credited == 1
    assert shelf.credit(at=300.0).status == 200
    assert shelf.credited == 2


def test_java_tells_keys_but_not_amounts_apart() -> None:
    """Another amount under a key is no conflict; it fails like any replay."""
    shelf = Shelf(JAVA)
    shelf.credit("1", 0)
    assert shelf.credit("2", 0).status == 500
    assert shelf.credited == 1


def test_java_is_strict_about_headers() -> None:
    """Content type, Accept and key must be there; parameters do no harm to a credit."""
    shelf = Shelf(JAVA)
    assert shelf.credit(key=None).status == 400
    assert shelf.credit(headers={}).status == 415
    assert shelf.credit(headers={"content-type": "text/plain"}).status == 415
    assert shelf.credit(headers={"content-type": "application/json", "accept": "text/html"}).status == 406
    assert shelf.credited == 0
    assert shelf.credit(headers={"content-type": "application/json; charset=utf-8"}).status == 200


def test_java_takes_the_amount_as_number_too() -> None:
    """But not a negative one."""
    shelf = Shelf(JAVA)
    assert shelf.credit(5, 0).status == 200
    assert shelf.credit(-5, 0, key="key-2").status == 400
    assert shelf.credited == 5


def test_java_says_400_where_404_was_meant() -> None:
    """Its exception for an unknown account is itself invalid."""
    assert Shelf(JAVA).credit(to="bob").status == 400


def test_java_overflows_64_bits() -> None:
    """What does not fit wraps around, behind a 200."""
    shelf = Shelf(JAVA)
    assert shelf.credit(str(2**63), 9).status == 200
    assert shelf.credited == Decimal(-(2**63)).scaleb(-9)


# the Rafiki of 2019


def test_rafiki_knows_no_keys() -> None:
    """Every repetition is credited again, with a key or without."""
    shelf = Shelf(RAFIKI)
    for key in ("key-1", "key-1", None):
        assert shelf.credit(key=key) == Answer(200, b"OK", {"content-type": "text/plain"})
    assert shelf.credited == 3


def test_rafiki_says_ok_to_what_is_too_fine_and_credits_nothing() -> None:
    """A scale above the account's is dropped, even if the amount would fit."""
    shelf = Shelf(RAFIKI)
    assert shelf.credit("10000000000", 10).status == 200
    assert shelf.credited == 0
    assert shelf.credit("1", 0).status == 200
    assert shelf.credited == 1


def test_rafiki_takes_a_scale_as_text_but_no_amount_as_number() -> None:
    """The reverse of what the standard says."""
    shelf = Shelf(RAFIKI)
    assert shelf.credit("5", "0").status == 200
    assert shelf.credit(5, 0).status == 400
    assert shelf.credited == 5


def test_rafiki_takes_messages_of_one_content_type_string_only() -> None:
    """A parameter, however harmless, makes it another string. Java wants octets too, Interledger.rs takes anything."""
    octets = {"content-type": "application/octet-stream"}
    books = Books()
    for mode, headers, accepted in [
        (RAFIKI, octets, True),
        (RAFIKI, {"content-type": "application/octet-stream; charset=utf-8"}, False),
        (JAVA, octets, True),
        (JAVA, {"content-type": "application/json"}, False),
        (RFC38, {}, False),
        (RS, {}, True),
    ]:
        objection = mode.objection(books, Request(ALICE, headers, b"hello", 0.0))
        assert (objection is None) is accepted


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@settings(max_examples=150, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["amount", "scale"]), inner),
            max_leaves=5,
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {
                "amount": st.integers().map(str) | st.integers() | st.text("0123456789", max_size=1500),
                "scale": st.integers(-300, 2000) | st.integers() | st.integers().map(str),
            }
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_body_crashes_a_connector_or_is_booked_without_success(mode: Mode, body: bytes) -> None:
    """Whatever an engine sends gets an answer, and only a 2xx moves money."""
    shelf = Shelf(mode)
    answer = mode.credit(shelf.books, Request(ALICE, {**JSON_HEADERS, "idempotency-key": "key-1"}, body, 0.0))
    assert answer.status is not None
    assert shelf.account.events == [] or answer.ok

"""The public check passes for RFC 38, and names exactly what each real connector does otherwise."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from settlement_core.testing.connector import MODES, Answer, Mode, link_accounts, open_test_connector
from settlement_core.testing.connector_check import (
    CLAIMS,
    ConnectorPair,
    ConnectorSide,
    OpenPair,
    check_connector,
    find_deviations,
)

pytestmark = pytest.mark.anyio


def pairs_of(mode: Mode) -> OpenPair:
    """Return how to open two linked test connectors of one kind."""

    @asynccontextmanager
    async def open_pair(left_engine: str, right_engine: str) -> AsyncIterator[ConnectorPair]:
        async with (
            open_test_connector(mode, engine_url=left_engine, patience_s=5) as left,
            open_test_connector(mode, engine_url=right_engine, patience_s=5, base_path="/se") as right,
        ):
            bob, alice = str(uuid.uuid4()), str(uuid.uuid4())
            bob_there, alice_there = await left.create_account(bob), await right.create_account(alice)
            link_accounts(left, bob, right, alice)

            async def credited_left() -> Decimal:
                return left.account(bob).credited

            async def credited_right() -> Decimal:
                return right.account(alice).credited

            yield ConnectorPair(
                ConnectorSide(left.url, bob_there, credited_left),
                ConnectorSide(right.url, alice_there, credited_right),
            )

    return open_pair


async def test_the_rfc_38_connector_keeps_every_claim() -> None:
    """The fake cannot lie: it passes the check that real connectors are put to."""
    await check_connector(pairs_of(MODES["rfc38"]))


async def test_interledger_rs_deviates_exactly_here() -> None:
    """A replay conflicts, a missing key drops the connection, 64 bits are the limit, some refusals are 500 or none."""
    assert await find_deviations(pairs_of(MODES["interledger_rs"])) == {
        "replays_the_first_answer": "status 409 after 201",
        "refuses_a_credit_without_key": (
            "no answer to a credit without key: Server disconnected without sending a response."
        ),
        "refuses_zero": "status 201 instead of 400-499 to a credit of zero",
        "refuses_bad_quantities": 'status 500 instead of 400-499 to quantity b\'{"amount":"-5","scale":0}\'',
        "keeps_every_digit": (
            "credited 36893488148.419103230 instead of 1000000000000000000000000000000000000000000009007199254740993 "
            "after amounts beyond 64 bits"
        ),
    }


async def test_java_deviates_exactly_here() -> None:
    """A replay is 500, unknown accounts are 400, fractions are lost, and a failed message is an empty success."""
    assert await find_deviations(pairs_of(MODES["java"])) == {
        "replays_the_first_answer": "status 500 after 200",
        "refuses_another_amount_under_a_key": "status 500 instead of 409 to another amount under the same key",
        "refuses_an_unknown_account": "status 400 instead of 404 to a credit for an unknown account",
        "refuses_zero": "status 200 instead of 400-499 to a credit of zero",
        "refuses_bad_quantities": 'status 200 instead of 400-499 to quantity b\'{"amount":"5","scale":256}\'',
        "keeps_every_digit": (
            "credited 4611686019.427387904 instead of 1000000000000000000000000000000000000000000009007199254740993 "
            "after amounts beyond 64 bits"
        ),
        "keeps_every_fraction": "credited 9.999999999 instead of 10 after fractions that add up to 10",
        "tells_that_a_message_failed": "status 200 though the peer's engine answered 500",
        "refuses_messages_of_unknown_accounts": (
            "status 400 instead of 404 to a message for an unknown account"
        ),
    }  # fmt: skip


async def test_rafiki_deviates_exactly_here() -> None:
    """It knows no keys, and says OK to what is too fine without crediting it."""
    assert await find_deviations(pairs_of(MODES["rafiki"])) == {
        "credits_once_per_key": "credited 21 instead of 7 after 7 sent three times under one key",
        "credits_once_in_a_crowd": "credited 30 instead of 3 after 3 sent ten times at once under one key",
        "refuses_another_amount_under_a_key": "status 200 instead of 409 to another amount under the same key",
        "refuses_a_credit_without_key": "status 200 instead of 400 to a credit without key",
        "refuses_zero": "status 200 instead of 400-499 to a credit of zero",
        "refuses_bad_quantities": 'status 200 instead of 400-499 to quantity b\'{"amount":"5","scale":256}\'',
        "keeps_every_fraction": "credited 0 instead of 10 after fractions that add up to 10",
    }


async def test_a_connector_that_credits_nobody_is_found_out() -> None:
    """Saying 201 is not enough: the books are read."""
    lazy = replace(MODES["rfc38"], credit=lambda _books, _request: Answer(201))
    broken = await find_deviations(pairs_of(lazy))
    assert {"credits_what_it_is_told", "credits_every_key", "credits_once_per_key"} <= broken.keys()


async def test_a_connector_that_reads_messages_as_text_is_found_out() -> None:
    """One changed byte in an answer is enough."""
    textual = replace(MODES["rfc38"], carried=lambda body: Answer(201, body.decode("utf-8", "replace").encode()))
    assert (await find_deviations(pairs_of(textual))).keys() == {"carries_messages_byte_for_byte"}


async def test_the_check_tells_every_broken_claim_at_once() -> None:
    """One failure does not hide the others, and the sentence says how many there are."""
    with pytest.raises(AssertionError) as caught:
        await check_connector(pairs_of(MODES["rafiki"]))
    told = str(caught.value)
    assert told.startswith(f"this connector breaks 7 of {len(CLAIMS)} claims:")
    assert "\n- credits_once_per_key: credited 21 instead of 7" in told
    assert "\n- keeps_every_fraction: " in told

"""Each real connector over the wire: what a lost reply does to it, and how it calls an engine (WIRE, sections 1, 4)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import anyio.abc
import pytest

from settlement_core.abc import Acknowledged, Refused, Unanswered
from settlement_core.connector import HttpConnector, open_connector
from settlement_core.testing.connector import (
    MODES,
    EngineRefused,
    EngineSilent,
    Mode,
    TestConnector,
    link_accounts,
    lose_reply,
    open_test_connector,
)
from settlement_core.values.errors import ConnectorError
from tests.connector.raw import RawRequest, RawServer, always, http, open_raw_server

pytestmark = pytest.mark.anyio

RS, JAVA, RAFIKI, RFC38 = (MODES[name] for name in ("interledger_rs", "java", "rafiki", "rfc38"))
ALICE = "58f9c44b-0f64-4b6f-9a4e-8b8f5f0a2a5e"
JSON_HEADERS = {"content-type": "application/json", "accept": "application/json"}


# what a lost reply does, with our client


@asynccontextmanager
async def open_mode(mode: Mode) -> AsyncIterator[tuple[TestConnector, HttpConnector]]:
    """Open a connector with an account ALICE, and our client for it."""
    async with open_test_connector(mode) as connector, open_connector(connector.url, timeout_s=5) as client:
        connector.books.open(ALICE, scale=9)
        yield connector, client


async def test_a_lost_reply_of_interledger_rs_is_refused_when_repeated_and_credited_once() -> None:
    """409 is what it says after having credited: the credit is for a person to look at, never to be re-keyed."""
    async with open_mode(RS) as (connector, client):
        connector.faults = lambda incoming: lose_reply() if incoming.number == 0 else None
        assert isinstance(await client.credit(ALICE, Decimal(1), "key-1"), Unanswered)
        assert await client.credit(ALICE, Decimal(1), "key-1") == Refused(
            "409 Conflict: Could not process idempotent data in store"
        )
        assert connector.account(ALICE).credited == 1


async def test_a_lost_reply_of_java_stays_unanswered() -> None:
    """500 is what it says after having credited."""
    async with open_mode(JAVA) as (connector, client):
        connector.faults = lambda incoming: lose_reply() if incoming.number == 0 else None
        assert isinstance(await client.credit(ALICE, Decimal(1), "key-1"), Unanswered)
        assert isinstance(await client.credit(ALICE, Decimal(1), "key-1"), Unanswered)
        assert connector.account(ALICE).credited == 1


async def test_rafiki_is_told_by_its_singular_path() -> None:
    """The connector of 2019 names the path `/settlement`; the test connector takes both, others only the plural."""
    headers = {**JSON_HEADERS, "idempotency-key": "key-1"}
    for mode, credited in ((RAFIKI, 1), (RFC38, 0), (RS, 0), (JAVA, 0)):
        async with open_mode(mode) as (connector, _client):
            path = f"/accounts/{ALICE}/settlement"
            answer = await connector.respond("POST", path, headers, b'{"amount":"1","scale":0}')
            assert answer.ok is bool(credited)
            assert connector.account(ALICE).credited == credited


async def test_what_the_peer_rejected_looks_different_everywhere() -> None:
    """502 with words, an empty 200, or a plain 500: for our client, each is a failed message."""
    told = {
        "rfc38": "502 Bad Gateway: the peer rejected the message: T00 Settlement engine rejected",
        "interledger_rs": "502 Bad Gateway: Error sending message to peer settlement engine. Packet rejected with code",
        "java": "200 OK without content",
        "rafiki": "500 Internal Server Error: Settlement engine rejected",
    }
    for name, mode in MODES.items():
        async with (
            open_raw_server(always(http(500))) as engine,
            open_test_connector(replace(mode, message_tries=1), engine_url=engine.url) as peer,
            open_mode(mode) as (connector, client),
        ):
            peer.books.open("bob")
            link_accounts(connector, ALICE, peer, "bob")
            with pytest.raises(ConnectorError) as caught:
                await client.send_message(ALICE, b"hello")
            assert told[name] in str(caught.value)


# how they call an engine


@asynccontextmanager
async def open_calling(
    mode: Mode, answer: bytes | Any, **changes: Any
) -> AsyncIterator[tuple[TestConnector, RawServer]]:
    """Open a connector of this kind whose engine answers so, except that it creates accounts."""

    async def play(request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        if request.target == "/accounts":
            created = json.dumps({"id": json.loads(request.body)["id"] or "chosen-by-engine"}).encode()
            await stream.send(http(201, created))
        elif answer is None:
            await stream.aclose()
        else:
            await stream.send(answer)

    async with (
        open_raw_server(play) as engine,
        open_test_connector(replace(mode, **changes), engine_url=engine.url, patience_s=5) as connector,
    ):
        yield connector, engine


def quick(_failures: int, _chance: float, _answered: bool) -> float:
    """Pause almost not at all."""
    return 0.001


async def test_interledger_rs_makes_a_new_key_for_every_try_and_refunds_in_the_end() -> None:
    """Eleven requests, eleven keys: if one of them was taken, it pays twice."""
    async with open_calling(RS, http(500), pause_s=quick) as (connector, engine):
        await connector.create_account(ALICE)
        with pytest.raises(EngineSilent):
            await connector.settle(ALICE, Decimal(3))
        assert connector.account(ALICE).requested == 0
    keys = [request.header("idempotency-key")[0] for request in engine.requests[1:]]
    assert len(set(keys)) == len(keys) == 11


async def test_interledger_rs_never_deletes_and_gives_messages_new_keys() -> None:
    """DELETE is not in its vocabulary."""
    async with open_calling(RS, http(201, b"ok")) as (connector, engine):
        await connector.create_account(ALICE)
        await connector.delete_account(ALICE)
        for _ in range(2):
            assert await connector.send_message(ALICE, b"hello") == b"ok"
    messages = engine.requests[1:]
    assert [request.target for request in messages] == [f"/accounts/{ALICE}/messages"] * 2
    assert messages[0].header("idempotency-key") != messages[1].header("idempotency-key")


async def test_java_leaves_the_account_id_to_the_engine() -> None:
    """It posts no id, and from then on uses the one it was answered, in both directions."""
    async with open_calling(JAVA, http(201, b'{"amount":"3","scale":0}')) as (connector, engine):
        assert await connector.create_account("bob") == "chosen-by-engine"
        await connector.settle("bob", Decimal(3))
        assert connector.account("bob").requested == 3
        async with open_connector(connector.url) as client:
            assert await client.credit("chosen-by-engine", Decimal(2), "key-1") == Acknowledged()
            assert isinstance(await client.credit("bob", Decimal(2), "key-2"), Refused)
        assert connector.account("bob").credited == 2
    create, settle = engine.requests
    assert json.loads(create.body) == {"id": None}
    assert settle.target == "/accounts/chosen-by-engine/settlements"


@pytest.mark.parametrize("answer", [http(201), http(201, b"EXECUTED"), http(503), None])
async def test_java_refunds_at_once_whatever_is_not_a_quantity(answer: bytes | None) -> None:
    """One request; an empty success, a 5xx and no answer are all the same to it."""
    async with open_calling(JAVA, answer) as (connector, engine):
        await connector.create_account("bob")
        with pytest.raises((EngineRefused, EngineSilent)):
            await connector.settle("bob", Decimal(3))
        assert connector.account("bob").requested == 0
    assert len(engine.requests) == 2


async def test_java_needs_an_id_in_the_answer() -> None:
    """A 201 without one is a failure."""
    async with (
        open_raw_server(always(http(201))) as engine,
        open_test_connector("java", engine_url=engine.url) as connector,
    ):
        with pytest.raises(EngineRefused):
            await connector.create_account("bob")


async def test_rafiki_settles_once_at_a_singular_path_without_key() -> None:
    """One request that cannot be told from another."""
    async with open_calling(RAFIKI, http(200, b"{}")) as (connector, engine):
        await connector.create_account("bob")
        await connector.settle("bob", Decimal(3))
        assert connector.account("bob").requested == 3
    settle = engine.requests[-1]
    assert settle.target == "/accounts/bob/settlement"
    assert settle.header("idempotency-key") == []

"""The test connector keeps exact books, drives its engine as RFC 38 says, and fails exactly as scripted."""

from __future__ import annotations

import json
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest

from settlement_core.abc import Acknowledged, Refused, Unanswered
from settlement_core.connector import HttpConnector, open_connector
from settlement_core.testing.connector import (
    BookEvent,
    EngineRefused,
    EngineSilent,
    Fault,
    Incoming,
    TestConnector,
    answer_instead,
    answer_late,
    deliver_twice,
    link_accounts,
    lose_reply,
    lose_request,
    open_test_connector,
    random_faults,
    reply_garbage,
)
from settlement_core.values.errors import ConnectorError, InvalidAmount, LocalError
from tests.connector.raw import Play, RawRequest, always, http, open_raw_server

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def open_both(timeout_s: float = 5) -> AsyncIterator[tuple[TestConnector, HttpConnector]]:
    """Open a test connector with an account alice, and our client for it."""
    async with open_test_connector() as books, open_connector(books.url, timeout_s=timeout_s) as client:
        books.books.open("alice")
        yield books, client


# books


async def test_a_credit_is_booked_once_per_key() -> None:
    """The same again changes nothing; another amount, account or key is told apart."""
    async with open_both() as (connector, client):
        assert await client.credit("alice", Decimal("4.682"), "key-1") == Acknowledged()
        assert await client.credit("alice", Decimal("4.682"), "key-1") == Acknowledged()
        assert isinstance(await client.credit("alice", Decimal("4.683"), "key-1"), Refused)
        assert isinstance(await client.credit("bob", Decimal("4.682"), "key-1"), Refused)
        assert isinstance(await client.credit("bob", Decimal("4.682"), "key-2"), Refused)
        assert await client.credit("alice", Decimal("0.318"), "key-3") == Acknowledged()
        assert connector.account("alice").credited == 5
        assert connector.account("alice").events == [
            BookEvent("credited", Decimal("4.682"), "key-1"),
            BookEvent("credited", Decimal("0.318"), "key-3"),
        ]


async def test_an_unknown_account_may_become_known() -> None:
    """A credit refused for want of an account is taken under the same key once there is one."""
    async with open_both() as (connector, client):
        assert isinstance(await client.credit("bob", Decimal(1), "key-1"), Refused)
        connector.books.open("bob")
        assert await client.credit("bob", Decimal(1), "key-1") == Acknowledged()
        assert connector.account("bob").credited == 1


# faults


async def test_a_lost_request_credits_nobody() -> None:
    """The connection closes before the connector acts; the repetition is the first it hears of it."""
    async with open_both() as (connector, client):
        connector.faults = deque([lose_request()])
        outcome = await client.credit("alice", Decimal(1), "key-1")
        assert outcome == Unanswered("no answer: Server disconnected without sending a response.")
        assert connector.account("alice").credited == 0
        assert await client.credit("alice", Decimal(1), "key-1") == Acknowledged()
        assert connector.account("alice").credited == 1


async def test_a_lost_reply_credits_once() -> None:
    """The connector acts and the connection closes; the repetition changes nothing."""
    async with open_both() as (connector, client):
        connector.faults = deque([lose_reply()])
        outcome = await client.credit("alice", Decimal(1), "key-1")
        assert outcome == Unanswered("no answer: Server disconnected without sending a response.")
        assert connector.account("alice").credited == 1
        assert await client.credit("alice", Decimal(1), "key-1") == Acknowledged()
        assert connector.account("alice").credited == 1


async def test_a_late_answer_credits_before_the_client_gave_up_waiting() -> None:
    """Acting comes first, answering later: for the client, that is no answer."""
    async with open_both(timeout_s=0.3) as (connector, client):
        connector.faults = deque([answer_late(60)])
        assert await client.credit("alice", Decimal(1), "key-1") == Unanswered("no answer within 0.3 s")
        assert connector.account("alice").credited == 1


@pytest.mark.parametrize("acting", [False, True])
async def test_an_answer_may_be_given_with_or_without_acting(acting: bool) -> None:
    """A 503 alone does not tell whether money was credited."""
    async with open_both() as (connector, client):
        connector.faults = deque([answer_instead(503, b"later", acting=acting)])
        assert await client.credit("alice", Decimal(1), "key-1") == Unanswered("503 Service Unavailable: later")
        assert connector.account("alice").credited == int(acting)


async def test_a_duplicated_request_credits_once() -> None:
    """The network may repeat what the engine sent once."""
    async with open_both() as (connector, client):
        connector.faults = deque([deliver_twice()])
        assert await client.credit("alice", Decimal(1), "key-1") == Acknowledged()
        assert connector.account("alice").credited == 1


async def test_garbage_in_a_success_is_a_success() -> None:
    """The status counts, not what only claims to be JSON."""
    async with open_both() as (connector, client):
        connector.faults = deque([reply_garbage(201, seed=7)])
        assert await client.credit("alice", Decimal(1), "key-1") == Acknowledged()
        assert connector.account("alice").credited == 1


async def test_a_function_may_decide_what_befalls_each_request() -> None:
    """It sees kind, account, key and number; None lets the request pass."""

    def decide(incoming: Incoming) -> Fault | None:
        return lose_request() if incoming.key == "key-2" else None

    async with open_both() as (connector, client):
        connector.faults = decide
        for key in ("key-1", "key-2", "key-3"):
            await client.credit("alice", Decimal(1), key)
        assert connector.account("alice").credited == 2
        assert connector.received == [
            Incoming("credit", "alice", key, number) for number, key in enumerate(("key-1", "key-2", "key-3"))
        ]


async def test_random_faults_never_lose_or_double_a_repeated_credit() -> None:
    """Whoever repeats an unanswered credit under its key ends with exact books, whatever befell it."""
    async with open_both() as (connector, client):
        connector.faults = random_faults(20, rate=0.7, delay_s=0.0)
        for number in range(40):
            for _ in range(50):
                outcome = await client.credit("alice", Decimal("0.1"), f"key-{number}")
                if isinstance(outcome, Acknowledged):
                    break
                assert isinstance(outcome, Unanswered), "no honest connector refuses a good credit"
        assert connector.account("alice").credited == 4
        assert len(connector.received) > 60, "the faults did happen"


async def test_random_faults_are_the_same_for_the_same_seed() -> None:
    """A failure found by chance can be had again."""
    incoming = [Incoming("credit", "alice", None, number) for number in range(200)]
    first, again, other = (list(map(random_faults(seed), incoming)) for seed in (1, 1, 2))
    assert first == again != other
    assert 30 < sum(fault is not None for fault in first) < 90


async def test_it_ends_at_once_whatever_it_is_doing() -> None:
    """A request that waits for its late answer does not hold up the end of a test."""
    async with anyio.create_task_group() as tasks, open_both(timeout_s=30) as (connector, client):
        connector.faults = deque([answer_late(60)])
        tasks.start_soon(client.credit, "alice", Decimal(1), "key-1")
        while not connector.received:
            await anyio.sleep(0.01)
        started = anyio.current_time()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - started < 2.5


async def test_nothing_listens_after_the_end() -> None:
    """The port is given back."""
    async with open_test_connector() as connector:
        address = urlsplit(connector.url)
    assert address.hostname
    assert address.port
    with socket.socket() as probe:
        assert probe.connect_ex((address.hostname, address.port)) != 0


async def test_a_failure_in_the_block_is_raised_as_it_is() -> None:
    """The caller's own exception needs no group around it."""
    with pytest.raises(ZeroDivisionError):
        async with open_test_connector():
            raise ZeroDivisionError


# driving an engine


def echo_quantity(status: int = 201) -> Play:
    """Answer every request with the JSON it held."""

    async def play(request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(http(status, request.body, "content-type: application/json"))

    return play


def in_turn(*answers: bytes | None) -> Play:
    """Give these answers in turn, None closing the connection, and the last one from then on."""
    left = deque(answers)

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        answer = left.popleft() if len(left) > 1 else left[0]
        if answer is None:
            await stream.aclose()
        else:
            await stream.send(answer)

    return play


async def test_a_settlement_is_repeated_under_its_key_until_answered() -> None:
    """An engine that dies, is away or says later is asked the same again; the books hold it once."""
    engine = in_turn(http(201), None, http(503), http(429), None, http(201))
    async with open_raw_server(engine) as server, open_test_connector(engine_url=server.url) as connector:
        assert await connector.create_account("alice") == "alice"
        key = await connector.settle("alice", Decimal("1.50"))
        assert connector.account("alice").requested == Decimal("1.5")
    create, *asked = server.requests
    assert (create.target, json.loads(create.body)) == ("/accounts", {"id": "alice"})
    assert len(asked) == 5
    assert {request.target for request in asked} == {"/accounts/alice/settlements"}
    assert {tuple(request.header("idempotency-key")) for request in asked} == {(key,)}
    assert {request.body for request in asked} == {b'{"amount": "15", "scale": 1}'}


async def test_the_same_key_asks_for_the_same_settlement() -> None:
    """Asking again under a key is sent again and booked once; for something else it is refused."""
    async with (
        open_raw_server(echo_quantity()) as server,
        open_test_connector(engine_url=server.url) as connector,
    ):
        await connector.create_account("alice")
        for _ in range(2):
            await connector.settle("alice", Decimal(3), key="key-1", scale=9)
        with pytest.raises(LocalError, match="key-1"):
            await connector.settle("alice", Decimal(4), key="key-1")
        assert connector.account("alice").requested == 3
        assert json.loads(server.requests[-1].body) == {"amount": "3000000000", "scale": 9}
        with pytest.raises(InvalidAmount, match="finer than a scale of 2"):
            await connector.settle("alice", Decimal("0.001"), scale=2)


async def test_a_refused_settlement_is_not_booked() -> None:
    """A 4xx means that the engine will not settle: the money is taken back, and the refusal raised."""
    engine = in_turn(http(201), http(404, b"no such account"))
    async with open_raw_server(engine) as server, open_test_connector(engine_url=server.url) as connector:
        await connector.create_account("alice")
        with pytest.raises(EngineRefused, match=r"settle 3 with account 'alice': status 404, b'no such account'"):
            await connector.settle("alice", Decimal(3), key="key-1")
        assert connector.account("alice").requested == 0
        assert [event.happening for event in connector.account("alice").events] == ["requested", "refunded"]


async def test_patience_with_an_engine_is_bounded_and_the_debt_stays_booked() -> None:
    """An engine that never answers may have settled: the books keep the request, and the caller is told in time."""
    async with (
        open_raw_server(in_turn(http(201), None)) as server,
        open_test_connector(engine_url=server.url, patience_s=0.5) as connector,
    ):
        await connector.create_account("alice")
        started = anyio.current_time()
        with pytest.raises(EngineSilent, match=r"gave up asking the engine to settle 3 .* there was no answer"):
            await connector.settle("alice", Decimal(3))
        assert anyio.current_time() - started < 2
        assert connector.account("alice").requested == 3


async def test_deleting_asks_the_engine_and_keeps_the_books() -> None:
    """What was booked stays readable."""
    async with (
        open_raw_server(in_turn(http(201), http(201), http(204))) as server,
        open_test_connector(engine_url=server.url) as connector,
    ):
        await connector.create_account("alice")
        await connector.settle("alice", Decimal(3))
        await connector.delete_account("alice")
        assert connector.account("alice").requested == 3
        assert server.requests[-1].target == "/accounts/alice"


async def test_keys_are_never_the_same_twice() -> None:
    """Without a seed, two connectors never mistake each other's settlements for their own."""
    keys: Counter[str] = Counter()
    async with open_raw_server(always(http(201))) as server:
        for _ in range(2):
            async with open_test_connector(engine_url=server.url) as connector:
                await connector.create_account("alice")
                keys.update([await connector.settle("alice", Decimal(1)) for _ in range(5)])
    assert len(keys) == 10


async def test_a_message_travels_between_linked_connectors() -> None:
    """What the left engine sends, the right engine receives under its own name for the account, and back."""
    async with (
        open_raw_server(always(http(201, b"left says"))) as left_engine,
        open_raw_server(always(http(201, b"right says"))) as right_engine,
        open_test_connector(engine_url=left_engine.url) as left,
        open_test_connector(engine_url=right_engine.url) as right,
        open_connector(left.url) as left_client,
        open_connector(right.url) as right_client,
    ):
        await left.create_account("bob")
        await right.create_account("alice")
        link_accounts(left, "bob", right, "alice")
        assert await left_client.send_message("bob", b"\x00hello\xff") == b"right says"
        assert await right_client.send_message("alice", b"hi") == b"left says"
        assert await left.send_message("bob", b"as though from outside") == b"left says"
        assert right_engine.requests[-1].target == "/accounts/alice/messages"
        assert right_engine.requests[-1].body == b"\x00hello\xff"
        assert right_engine.requests[-1].header("content-type") == ["application/octet-stream"]
        assert right_engine.requests[-1].header("idempotency-key") == []


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (always(http(500)), "T00 Settlement engine rejected request with error code: 500"),
        (always(http(400)), "F00 Settlement engine rejected request with error code: 400"),
        (in_turn(None), "T00 the settlement engine did not answer"),
        (always(http(201, b"x" * 32_768)), "F08 the answer is too large for a packet"),
    ],
)
async def test_a_message_the_peer_cannot_take_fails(engine: Play, told: str) -> None:
    """The sender's engine learns that, and why, but none of the peer's error body."""
    async with (
        open_raw_server(engine) as right_engine,
        open_test_connector() as left,
        open_test_connector(engine_url=right_engine.url) as right,
        open_connector(left.url) as client,
    ):
        left.books.open("bob")
        right.books.open("alice")
        with pytest.raises(ConnectorError, match="no route to the peer"):
            await client.send_message("bob", b"hello")
        link_accounts(left, "bob", right, "alice")
        with pytest.raises(ConnectorError, match=told):
            await client.send_message("bob", b"hello")
        with pytest.raises(ConnectorError, match="F08 the message is too large for a packet"):
            await client.send_message("bob", b"x" * 32_768)


async def test_what_is_no_endpoint_is_404() -> None:
    """Other paths, a trailing slash, or no POST: answered, and not booked."""
    async with open_test_connector(base_path="/se") as connector, open_connector(connector.url + "/x") as astray:
        connector.books.open("alice")
        assert connector.url.endswith("/se")
        outcome = await astray.credit("alice", Decimal(1), "key-1")
        assert outcome == Refused("404 Not Found: no such endpoint", maybe_proxy=True)
        assert connector.account("alice").credited == 0
        assert connector.received == []

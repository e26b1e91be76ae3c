"""One call to the connector is one request and one verdict, whatever the connector does."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import anyio
import anyio.abc
import pytest

from settlement_core.abc import Acknowledged, CreditOutcome, Refused, Unanswered
from settlement_core.connector import MAX_EXPLANATION, open_connector
from settlement_core.values.errors import InvalidAmount, InvalidIdentifier
from tests.connector.raw import Play, RawRequest, always, http, open_raw_server

pytestmark = pytest.mark.anyio

ACKNOWLEDGED = (200, 201, 202, 203, 204, 206, 299)
LATER = (300, 301, 302, 303, 304, 307, 308, 408, 425, 429, 500, 501, 502, 503, 504, 507, 599, 600, 999)
NEVER = (400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 418, 421, 422, 428, 431, 451, 499)


async def credit(play: Play, *, timeout_s: float = 5) -> CreditOutcome:
    """Credit 1.5 once to a server that plays so."""
    async with open_raw_server(play) as server, open_connector(server.url, timeout_s=timeout_s) as connector:
        outcome = await connector.credit("alice", Decimal("1.5"), "key-1")
        assert len(server.requests) <= 1, "nothing is ever sent twice here"
        return outcome


# the outcome table, row by row


@pytest.mark.parametrize("status", ACKNOWLEDGED)
async def test_every_2xx_acknowledges(status: int) -> None:
    """The connector took the credit, by whatever success it says so."""
    assert await credit(always(http(status))) == Acknowledged()


@pytest.mark.parametrize("status", LATER)
async def test_redirects_5xx_and_later_are_unanswered(status: int) -> None:
    """Nobody refused the credit, so it may be offered again under the same key."""
    outcome = await credit(always(http(status)))
    assert isinstance(outcome, Unanswered)
    assert str(status) in outcome.reason


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 31 Dec 2099 23:59:59 GMT", 1e9, 1e10),
    ],
)
async def test_how_long_to_wait_is_read_as_seconds_or_a_date(value: str, least: float, most: float) -> None:
    """Retry-After has two forms (RFC 9110, 10.2.3)."""
    outcome = await credit(always(http(503, b"", f"Retry-After: {value}")))
    assert isinstance(outcome, Unanswered)
    assert outcome.retry_after_s is not None
    assert least <= outcome.retry_after_s <= most


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e3", "٣", "Wed, 99 Foo 2015 99:99:99 GMT"])
async def test_an_odd_time_to_wait_is_none(value: str) -> None:
    """The back-off decides alone."""
    outcome = await credit(always(http(429, b"", f"Retry-After: {value}")))
    assert isinstance(outcome, Unanswered)
    assert outcome.retry_after_s is None


@pytest.mark.parametrize("status", NEVER)
async def test_every_other_4xx_refuses(status: int) -> None:
    """The connector says never, 409 included: a person decides. 401, 403 and 404 a proxy may have said."""
    outcome = await credit(always(http(status)))
    assert isinstance(outcome, Refused)
    assert outcome.maybe_proxy == (status in {401, 403, 404})
    assert str(status) in outcome.reason


BODIES = {
    "interledger.rs": http(201, b"RECEIVED"),
    "java": http(200, b'{"amount":"15","scale":1}', "content-type: application/json"),
    "more": http(200, b'{"amount":"150000001","scale":8}', "content-type: application/json"),
    "other JSON": http(200, b'{"credited":"1","scale":0}', "content-type: application/json"),
    "a number": http(200, b'{"amount":1,"scale":0}', "content-type: application/json"),
    "a list": http(200, b'[{"amount":"1","scale":0}]', "content-type: application/json"),
    "below zero": http(200, b'{"amount":"-1","scale":0}', "content-type: application/json"),
    "two values": http(200, b'{"amount":"1","scale":0} {}', "content-type: application/json"),
    "compressed": http(200, gzip.compress(b'{"amount":"1","scale":0}'), "content-encoding: gzip"),
    "quantity and more": http(200, b'{"amount":"1","scale":0}' + b" " * MAX_EXPLANATION),
    "quantity broken off": b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"amount":"1","scale":0}',
    "garbage": http(200, b"\xff\x00{[", "content-type: application/json"),
    "too long": http(200, b"x" * (MAX_EXPLANATION * 2)),
    "broken off": b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\nonly this",
    "bad chunk": b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\nnot a chunk size\r\n",
    "not gzip": http(200, b"no gzip at all", "content-encoding: gzip"),
    "until closed": b"HTTP/1.0 200 OK\r\n\r\nwhatever",
}


@pytest.mark.parametrize("answer", BODIES.values(), ids=BODIES.keys())
async def test_a_2xx_acknowledges_all_of_a_credit_whatever_its_body(answer: bytes) -> None:
    """The status was sent because the credit was taken; only a whole quantity of less says otherwise."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(answer)
        await stream.aclose()

    assert await credit(play) == Acknowledged()


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    ("body", "credited", "scale"),
    [
        (b'{"amount":"1","scale":0}', "1", 0),
        (b' {"scale":6,"amount":"0000001234","id":7}', "0.001234", 6),
        (b'{"amount":"0","scale":6}', "0", 6),
        (b'{"amount":"14999999999999999999999999","scale":25}', "1.4999999999999999999999999", 25),
    ],
)
async def test_a_2xx_that_says_less_acknowledges_that(status: int, body: bytes, credited: str, scale: int) -> None:
    """The Java connector answers with what it credited; the content type does not matter."""
    assert await credit(always(http(status, body))) == Acknowledged(Decimal(credited), scale)


async def test_a_2xx_whose_body_never_ends_acknowledges_within_the_timeout() -> None:
    """A server that feeds the body drop by drop cannot hold us, nor take its acknowledgement back."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n")
        while True:
            await stream.send(b".")
            await anyio.sleep(0.02)

    started = anyio.current_time()
    assert await credit(play, timeout_s=0.3) == Acknowledged()
    assert anyio.current_time() - started < 2


async def test_an_explanation_is_waited_for_only_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is known with the status: a slow body must not hold up the account for the whole timeout."""
    monkeypatch.setattr("settlement_core.connector.EXPLANATION_S", 0.2)

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n")
        await anyio.sleep_forever()

    started = anyio.current_time()
    assert await credit(play, timeout_s=30) == Acknowledged()
    assert anyio.current_time() - started < 2


# no answer


async def test_nobody_listening_is_unanswered() -> None:
    """A connector that is down is asked again later."""
    async with open_raw_server(always(b"")) as server:
        url = server.url
    async with open_connector(url) as connector:
        outcome = await connector.credit("alice", Decimal(1), "key-1")
    assert isinstance(outcome, Unanswered)
    assert outcome.reason.startswith("no answer: ")


SILENCES = {
    "nothing": b"",
    "not HTTP": b"220 mail.example.com ESMTP\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half the headers": b"HTTP/1.1 201 Created\r\ncontent-le",
    "only informational": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "two lengths": b"HTTP/1.1 201 Created\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a status of five digits": b"HTTP/1.1 20100 Created\r\n\r\n",
    "endless headers": b"HTTP/1.1 201 Created\r\n" + b"x: y\r\n" * 50_000,
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("answer", SILENCES.values(), ids=SILENCES.keys())
async def test_what_is_not_an_answer_is_unanswered(answer: bytes) -> None:
    """Broken HTTP tells nothing about the credit, and never raises."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(answer)
        await stream.aclose()

    assert isinstance(await credit(play), Unanswered)


async def test_a_silent_connector_is_unanswered_within_the_timeout() -> None:
    """A server that takes the request and says nothing holds us no longer than asked."""

    async def play(_request: RawRequest, _stream: anyio.abc.ByteStream) -> None:
        await anyio.sleep_forever()

    started = anyio.current_time()
    assert await credit(play, timeout_s=0.3) == Unanswered("no answer within 0.3 s")
    assert 0.25 < anyio.current_time() - started < 2


async def test_headers_fed_drop_by_drop_cannot_hold_us() -> None:
    """Each byte would begin the HTTP library's own timeout anew; ours is for the whole exchange."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(b"HTTP/1.1 201 Created\r\n")
        while True:
            await stream.send(b"x: y\r\n")
            await anyio.sleep(0.02)

    started = anyio.current_time()
    assert await credit(play, timeout_s=0.3) == Unanswered("no answer within 0.3 s")
    assert anyio.current_time() - started < 2


async def test_waiting_for_a_free_connection_counts_as_waiting() -> None:
    """With the only connection taken, another credit is unanswered within its own timeout, not after both."""

    async def play(_request: RawRequest, _stream: anyio.abc.ByteStream) -> None:
        await anyio.sleep_forever()

    outcomes: list[CreditOutcome] = []
    async with (
        open_raw_server(play) as server,
        open_connector(server.url, timeout_s=0.8, max_connections=1) as connector,
    ):

        async def credit_one(key: str) -> None:
            outcomes.append(await connector.credit("alice", Decimal(1), key))

        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(credit_one, "key-1")
            tasks.start_soon(credit_one, "key-2")
        assert outcomes == [Unanswered("no answer within 0.8 s")] * 2
        assert anyio.current_time() - started < 1.5


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    """A server may close a kept connection between two credits; the second one opens another."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(http(201))
        await stream.aclose()

    async with open_raw_server(play) as server, open_connector(server.url) as connector:
        for key in ("key-1", "key-2", "key-3"):
            assert await connector.credit("alice", Decimal(1), key) == Acknowledged()
            await anyio.sleep(0.02)
        assert [request.header("idempotency-key") for request in server.requests] == [["key-1"], ["key-2"], ["key-3"]]


async def test_a_kept_connection_closed_on_the_next_credit_is_unanswered() -> None:
    """The server may have taken that credit before it closed, so it is told like any missing answer, and not resent."""
    seen = 0

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            await stream.send(http(201))
        else:
            await stream.aclose()

    async with open_raw_server(play) as server, open_connector(server.url) as connector:
        assert await connector.credit("alice", Decimal(1), "key-1") == Acknowledged()
        assert isinstance(await connector.credit("alice", Decimal(1), "key-2"), Unanswered)
        assert len(server.requests) == 2
        assert server.connections == 1


async def test_good_connections_are_kept() -> None:
    """Twenty credits in a row need one connection."""
    async with open_raw_server(always(http(201, b"RECEIVED"))) as server, open_connector(server.url) as connector:
        for number in range(20):
            assert await connector.credit("alice", Decimal(1), f"key-{number}") == Acknowledged()
        assert server.connections == 1


async def test_cancellation_passes_through_and_leaves_the_connector_usable() -> None:
    """A cancelled credit ends at once as cancelled, not as an outcome."""

    async def play(request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        if request.header("idempotency-key") == ["key-1"]:
            await anyio.sleep_forever()
        await stream.send(http(201))

    async with open_raw_server(play) as server, open_connector(server.url) as connector:
        outcomes: list[CreditOutcome] = []
        with anyio.move_on_after(0.1) as scope:
            outcomes.append(await connector.credit("alice", Decimal(1), "key-1"))
        assert scope.cancelled_caught
        assert outcomes == []
        assert await connector.credit("alice", Decimal(1), "key-2") == Acknowledged()


# what is sent


async def test_a_credit_is_sent_exactly_as_rfc_38_has_it() -> None:
    """One POST, exact content types, the key, and the quantity as text and number."""
    async with open_raw_server(always(http(201))) as server, open_connector(server.url) as connector:
        await connector.credit("alice-1_2.3~4", Decimal("4.6820"), "5e6f-KEY")
    [request] = server.requests
    assert request.target == "/accounts/alice-1_2.3~4/settlements"
    assert request.header("content-type") == ["application/json"]
    assert request.header("accept") == ["application/json"]
    assert request.header("idempotency-key") == ["5e6f-KEY"]
    assert request.header("authorization") == []
    assert json.loads(request.body) == {"amount": "4682", "scale": 3}


@pytest.mark.parametrize(
    ("amount", "quantity"),
    [
        ("1", {"amount": "1", "scale": 0}),
        ("1.500", {"amount": "15", "scale": 1}),
        ("1E+3", {"amount": "1000", "scale": 0}),
        ("1E-255", {"amount": "1", "scale": 255}),
        ("123456789012345678901234567890.123456789", {"amount": "123456789012345678901234567890123456789", "scale": 9}),
        ("9" * 900, {"amount": "9" * 900, "scale": 0}),
    ],
)
async def test_amounts_are_sent_to_the_last_digit(amount: str, quantity: dict[str, object]) -> None:
    """Nothing is rounded, whatever the size, and nothing is written longer than needed."""
    async with open_raw_server(always(http(201))) as server, open_connector(server.url) as connector:
        assert await connector.credit("alice", Decimal(amount), "key-1") == Acknowledged()
    assert json.loads(server.requests[0].body) == quantity


@pytest.mark.parametrize("path", ["", "/", "//", "/se", "/se/", "/se//", "/a/b/", "/A%2Fb"])
async def test_the_base_path_is_kept_and_trailing_slashes_absorbed(path: str) -> None:
    """A connector may live under a path, however its URL was typed."""
    async with open_raw_server(always(http(201, b"x"))) as server, open_connector(server.url + path) as connector:
        await connector.credit("alice", Decimal(1), "key-1")
        await connector.send_message("alice", b"hello")
    base = path.rstrip("/")
    assert [request.target for request in server.requests] == [
        f"{base}/accounts/alice/settlements",
        f"{base}/accounts/alice/messages",
    ]


async def test_redirects_are_not_followed() -> None:
    """Money is not credited at an address nobody configured."""
    async with open_raw_server(always(http(201))) as elsewhere:
        to = f"location: {elsewhere.url}/accounts/alice/settlements"
        for status in (301, 302, 303, 307, 308):
            outcome = await credit(always(http(status, b"", to)))
            assert isinstance(outcome, Unanswered)
            assert "redirects are not followed" in outcome.reason
        assert elsewhere.requests == []


async def test_cookies_are_not_kept() -> None:
    """No answer can change what the next credit looks like."""
    answer = http(201, b"", "set-cookie: session=1; path=/")
    async with open_raw_server(always(answer)) as server, open_connector(server.url) as connector:
        await connector.credit("alice", Decimal(1), "key-1")
        await connector.credit("alice", Decimal(1), "key-2")
        assert [request.header("cookie") for request in server.requests] == [[], []]


async def test_proxies_from_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was configured decides where money goes."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await credit(always(http(201))) == Acknowledged()


async def test_what_no_request_can_carry_is_refused_before_sending() -> None:
    """A negative amount or a key with a line break is our fault: it raises, and nothing is sent."""
    async with open_raw_server(always(http(201))) as server, open_connector(server.url) as connector:
        for amount in ("-1", "NaN", "Infinity"):
            with pytest.raises(InvalidAmount):
                await connector.credit("alice", Decimal(amount), "key-1")
        for key in ("", "a\r\nx: y", " a", "schlüssel"):
            with pytest.raises(InvalidIdentifier):
                await connector.credit("alice", Decimal(1), key)
        for account_id in ("", "..", "a/b", "a?b", "a b"):
            with pytest.raises(InvalidIdentifier):
                await connector.credit(account_id, Decimal(1), "key-1")
            with pytest.raises(InvalidIdentifier):
                await connector.send_message(account_id, b"hello")
        assert server.requests == []


# what a person reads


PROBLEM = "content-type: application/problem+json"
EXPLANATIONS = {
    "detail": (http(409, b'{"title":"Conflict","detail":"key is tied to other input"}', PROBLEM),
               "409 Conflict: key is tied to other input"),
    "title": (http(404, b'{"title":"No such account","detail":""}', PROBLEM), "404 Not Found: No such account"),
    "text": (http(400, b"bad\r\n  quantity\n", "content-type: text/plain"), "400 Bad Request: bad quantity"),
    "empty": (http(400), "400 Bad Request"),
    "own phrase ignored": (b"HTTP/1.1 404 \x1b[31mHack\r\ncontent-length: 0\r\n\r\n", "404 Not Found"),
    "controls": (http(400, "a\x1b[2J\u202eb\u2028c\x00d".encode()), "400 Bad Request: a [2J b c d"),
    "not text": (http(400, b"\xff\xfe\x00\x01"), "400 Bad Request: 4 bytes that are not text"),
    "unknown status": (http(499, b"gone"), "status 499: gone"),
    "JSON bomb": (http(400, b"[" * 60_000, PROBLEM), "400 Bad Request: " + "[" * 199 + "…"),
    "JSON list": (http(400, b"[1]", PROBLEM), "400 Bad Request: [1]"),
    "detail not text": (http(400, b'{"detail":{},"title":"T"}', PROBLEM), "400 Bad Request: T"),
    "long": (http(400, b"y" * 500), "400 Bad Request: " + "y" * 199 + "…"),
    "compressed": (http(400, gzip.compress(b"z" * 10_000_000), "content-encoding: gzip"), "400 Bad Request"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "reason"), EXPLANATIONS.values(), ids=EXPLANATIONS.keys())
async def test_a_reason_is_one_short_safe_line(answer: bytes, reason: str) -> None:
    """Status and an excerpt that cannot move a cursor, hide text or fill a screen."""
    if b" 404 \x1b" in answer:
        outcome = await credit(always(answer))
        assert isinstance(outcome, Refused | Unanswered)
        assert "\x1b" not in outcome.reason
    else:
        assert await credit(always(answer)) == Refused(reason, maybe_proxy=b" 404 " in answer)


async def test_a_refusal_whose_body_never_ends_still_refuses() -> None:
    """The status stands; the excerpt is what arrived in time."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(b"HTTP/1.1 400 Bad\r\ncontent-length: 1000\r\n\r\nbecause")
        await anyio.sleep_forever()

    assert await credit(play, timeout_s=0.3) == Refused("400 Bad Request: because")

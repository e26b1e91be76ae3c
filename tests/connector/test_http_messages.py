"""Messages cross the connector as raw bytes, and only a real answer counts as one."""

from __future__ import annotations

import gzip

import anyio
import anyio.abc
import pytest

from settlement_core.connector import MAX_MESSAGE, open_connector
from settlement_core.values.errors import ConnectorError
from tests.connector.raw import Play, RawRequest, always, http, open_raw_server

pytestmark = pytest.mark.anyio

EVERY_BYTE = bytes(range(256)) * 128


async def send(play: Play, message: bytes = b"hello", *, timeout_s: float = 5) -> bytes:
    """Send one message for alice to a server that plays so."""
    async with open_raw_server(play) as server, open_connector(server.url, timeout_s=timeout_s) as connector:
        return await connector.send_message("alice", message)


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("size", [1, 32_767, MAX_MESSAGE])
async def test_an_answer_comes_back_byte_for_byte(status: int, size: int) -> None:
    """Any 2xx that holds something is the peer's answer, unchanged."""
    answer = (EVERY_BYTE * 4)[:size]
    assert await send(always(http(status, answer))) == answer


@pytest.mark.parametrize("message", [b"", b"\x00\xff", EVERY_BYTE[:32_767]], ids=["empty", "two bytes", "32767 bytes"])
async def test_a_message_is_sent_exactly_as_rfc_38_has_it(message: bytes) -> None:
    """Octets both ways, no idempotency key (a connector may refuse one it saw), the bytes as they are."""
    async with open_raw_server(always(http(201, b"ok"))) as server, open_connector(server.url) as connector:
        await connector.send_message("alice", message)
    [request] = server.requests
    assert request.target == "/accounts/alice/messages"
    assert request.header("content-type") == ["application/octet-stream"]
    assert request.header("accept") == ["application/octet-stream"]
    assert request.header("idempotency-key") == []
    assert request.body == message


FAILURES = {
    "the peer rejected": (
        http(502, b'{"detail":"Packet rejected with code: F02"}', "content-type: application/problem+json"),
        "502 Bad Gateway: Packet rejected with code: F02",
    ),
    "unknown account": (http(404), "404 Not Found"),
    "redirect": (
        http(307, b"", "location: http://elsewhere"),
        "307 Temporary Redirect: redirects are not followed, so the connector URL should be corrected",
    ),
    "the first redirect": (
        http(300, b"not the peer's answer"),
        "300 Multiple Choices: redirects are not followed, so the connector URL should be corrected",
    ),
    "nothing in it": (http(200), "200 OK without content, so the peer's engine did not answer"),
    "204": (b"HTTP/1.1 204 No\r\n\r\n", "204 No Content without content, so the peer's engine did not answer"),
    "too long": (
        http(201, b"x" * (MAX_MESSAGE + 1)),
        "201 Created, but the answer is longer than 102400 bytes",
    ),
    "compressed": (
        http(201, gzip.compress(b"x"), "content-encoding: gzip"),
        "201 Created, but in a content encoding that was not asked for",
    ),
    "broken off": (
        b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\nonly this",
        "201 Created, but the answer broke off",
    ),
}


@pytest.mark.parametrize(("answer", "found"), FAILURES.values(), ids=FAILURES.keys())
async def test_anything_but_an_answer_raises_a_sentence(answer: bytes, found: str) -> None:
    """The error says what was tried, for which account, where, and what came back."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(answer)
        await stream.aclose()

    async with open_raw_server(play) as server, open_connector(server.url) as connector:
        with pytest.raises(ConnectorError) as caught:
            await connector.send_message("alice", b"hello")
        assert str(caught.value) == f"cannot send a message for account 'alice' through {server.url}: {found}"


async def test_no_connector_raises_a_sentence() -> None:
    """A connector that is down says so, and nothing was sent."""
    async with open_raw_server(always(b"")) as server:
        url = server.url
    async with open_connector(url) as connector:
        with pytest.raises(ConnectorError, match="cannot send a message for account 'alice' through .*: no answer: "):
            await connector.send_message("alice", b"hello")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n"], ids=["head", "body"])
async def test_an_answer_fed_drop_by_drop_cannot_hold_us(head: bytes) -> None:
    """Whether in the headers or in the body: after the timeout, the message has failed."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(head or b"HTTP/1.1 201 Created\r\n")
        while True:
            await stream.send(b"." if head else b"x: y\r\n")
            await anyio.sleep(0.02)

    started = anyio.current_time()
    with pytest.raises(ConnectorError, match=r"no answer within 0.3 s|did not end in time"):
        await send(play, timeout_s=0.3)
    assert anyio.current_time() - started < 2


async def test_messages_and_answers_never_mix() -> None:
    """Fifty messages at once over ten connections each get their own answer."""

    async def echo(request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await anyio.sleep(0.001 * (len(request.body) % 5))
        await stream.send(http(201, request.target.encode() + request.body))

    async with open_raw_server(echo) as server, open_connector(server.url, max_connections=10) as connector:

        async def exchange(number: int) -> None:
            message = b"m" * number
            answer = await connector.send_message(f"peer{number}", message)
            assert answer == f"/accounts/peer{number}/messages".encode() + message

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(exchange, number)
        assert server.connections <= 10

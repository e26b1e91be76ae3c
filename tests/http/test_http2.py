"""HTTP/2 connections in bounds, on real sockets: floods end alone, and no answer is lost because of another stream."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h11
import pytest
import trustme
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from settlement_core.http import guarding
from settlement_core.http.exchanges import Exchanges
from settlement_core.http.settings import MAX_STREAMS
from tests.core.worlds import MinimalEngine, World
from tests.http.sockets import HTTP_2, LOCAL, PATIENCE_S, connected, open_engine_server
from tests.http.test_server import Gated, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/openapi.json")]


def post(path: str, *fields: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the head of a POST."""
    pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
    return [*pseudo, *fields]


SETTLE = post("/accounts/alice/settlements", ("content-type", "application/json"))
MESSAGE = post("/accounts/alice/messages", ("content-type", "application/octet-stream"))
QUANTITY = b'{"amount":"1","scale":0}'

# A fresh encoder for each block: none refers to what an earlier one told.
ASK = Encoder().encode(GET)
BEGIN = Encoder().encode(SETTLE)


def head(stream: int, block: bytes = ASK, *, ends: bool = True) -> bytes:
    """Return a HEADERS frame."""
    return HeadersFrame(stream, block, flags=["END_HEADERS", *(["END_STREAM"] if ends else [])]).serialize()


def begin_once(stream: int) -> bytes:
    """Return the head of a request with a body for the first stream, else nothing."""
    return head(1, BEGIN, ends=False) if stream == 1 else b""


FLOODS: dict[str, Callable[[int], bytes]] = {
    "reset at once": lambda stream: head(stream) + RstStreamFrame(stream, 8).serialize(),
    "reset before the body": lambda stream: head(stream, BEGIN, ends=False) + RstStreamFrame(stream, 8).serialize(),
    "reset by us for the window": lambda stream: head(stream) + 2 * WindowUpdateFrame(stream, 2**31 - 1).serialize(),
    "reset by us for more data": lambda stream: head(stream) + DataFrame(stream, b"x").serialize(),
    "PING": lambda _: PingFrame(0, b"12345678").serialize(),
    "SETTINGS": lambda stream: SettingsFrame(0, {4: 65_535 + stream, 1: stream}).serialize(),
    "WINDOW_UPDATE": lambda _: WindowUpdateFrame(0, 1).serialize(),
    "PRIORITY": lambda stream: PriorityFrame(stream + 2, depends_on=stream, stream_weight=3).serialize(),
    "empty DATA": lambda stream: begin_once(stream) + DataFrame(1).serialize(),
    "tiny DATA": lambda stream: begin_once(stream) + DataFrame(1, b"x").serialize(),
    "padding": lambda stream: begin_once(stream) + DataFrame(1, pad_length=200, flags=["PADDED"]).serialize(),
    "CONTINUATION": lambda stream: (HeadersFrame(1) if stream == 1 else ContinuationFrame(1)).serialize(),
    "unknown frames": lambda _: b"\x00\x00\x00\xee\x00\x00\x00\x00\x00",
    "long frame": lambda _: b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1000),
    "heads that unpack": lambda stream: head(
        stream, b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 3000 if stream == 1 else b"\xbe" * 9000
    ),
}


async def flood(stream: anyio.abc.ByteStream, frames_of: Callable[[int], bytes]) -> int:
    """Send such frames until the connection is closed, reading what is answered; return how many could be sent."""
    sent = 0
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                while True:
                    await stream.receive()
            tasks.cancel_scope.cancel()

        tasks.start_soon(read)
        with suppress(anyio.BrokenResourceError):
            await stream.send(PREFACE + SettingsFrame(0).serialize())
            for number in count(1, 2):
                await stream.send(frames_of(number))
                sent += 1
            raise AssertionError
    return sent


@pytest.fixture
def most_alive(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return what will hold the largest number of application tasks that one connection had at once."""
    most = {"alive": 0}

    class Watched(Exchanges):
        """Remembers the largest number."""

        def count(self, *, alive: int = 0, owed: int = 0) -> None:
            super().count(alive=alive, owed=owed)
            most["alive"] = max(most["alive"], self.alive)

    monkeypatch.setattr(guarding, "Exchanges", Watched)
    return most


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_ends_its_connection_and_others_settle_meanwhile(kind: str, most_alive: dict[str, int]) -> None:
    """Three connections of it at once; a neighbour settles until the last has ended, and everything is paid once."""
    world = World(MinimalEngine())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        settled, ended = 0, 0

        async def attack() -> None:
            nonlocal ended
            async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                await flood(stream, FLOODS[kind])
            ended += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(attack)
            while ended < 3 or not settled:
                assert (await neighbour.settle("1", f"key {settled}")).status == 201
                settled += 1
        await until(lambda: world.account().outgoing.settled == settled)
    assert sum(world.engine.paid) == settled == world.account().outgoing.entered
    assert most_alive["alive"] <= MAX_STREAMS


async def test_a_flood_over_tls_ends_its_connection(tmp_path: Path) -> None:
    """HTTP/2 by ALPN, without any option."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    config = replace(LOCAL, certfile=str(tmp_path / "server.pem"), keyfile=str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    async with open_engine_server(World(MinimalEngine()), config) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port, ssl_context=context, tls_standard_compatible=False)
        async with stream:
            # what is on its way, and is not read any more, lies in the buffers of both sides
            assert await flood(stream, FLOODS["reset at once"]) < 100_000


@dataclass
class Client:
    """One HTTP/2 client, and what it was answered by stream."""

    stream: anyio.abc.ByteStream
    h2: h2.connection.H2Connection
    statuses: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    goaway: int | None = None
    closed: bool = False

    async def ask(self, stream: int, head: list[tuple[str, str]], body: bytes) -> None:
        """Send a whole request."""
        self.h2.send_headers(stream, head)
        self.h2.send_data(stream, body, end_stream=True)
        await self.flush()

    async def flush(self) -> None:
        """Send what is due."""
        await self.stream.send(self.h2.data_to_send())

    async def read(self) -> None:
        """Note what is answered until the connection is closed."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                for event in self.h2.receive_data(await self.stream.receive()):
                    self._note(event)
        self.closed = True

    def _note(self, event: Any) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.statuses[event.stream_id] = int(dict(event.headers or [])[b":status"])
            case h2.events.DataReceived():
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = int(event.error_code or 0)
            case h2.events.ConnectionTerminated():
                self.goaway = int(event.error_code or 0)
            case _:
                pass


@asynccontextmanager
async def http2(port: int) -> AsyncIterator[Client]:
    """Connect for the block, without reading anything before the first request."""
    config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = h2.connection.H2Connection(config=config)
    connection.initiate_connection()
    async with await anyio.connect_tcp("127.0.0.1", port) as stream, anyio.create_task_group() as tasks:
        client = Client(stream, connection)
        await client.flush()
        tasks.start_soon(client.read)
        with anyio.fail_after(PATIENCE_S):
            yield client
        tasks.cancel_scope.cancel()


async def test_requests_in_the_core_are_answered_before_a_flood_ends_their_connection() -> None:
    """Four messages are handled when the flood comes on their connection: each is answered, then it is closed."""
    world = World(Gated())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            for number in range(4):
                await client.ask(2 * number + 1, MESSAGE, b'"hi"')
            await until(lambda: len(world.engine.begun) == 4)
            for number in range(200):
                client.h2.send_headers(2 * number + 9, GET)
                client.h2.reset_stream(2 * number + 9)
            await client.flush()
            await anyio.sleep(0.1)
            assert not client.closed
            world.engine.gate.set()
            await until(lambda: client.closed)
            assert client.statuses == dict.fromkeys((1, 3, 5, 7), 201)
            assert client.ended == {1, 3, 5, 7}
            assert client.goaway == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_task_counts_until_it_has_ended_even_if_its_request_was_reset(most_alive: dict[str, int]) -> None:
    """The engine holds 32 messages whose streams were reset; the next request waits until one of them ends."""
    world = World(Gated())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            for number in range(MAX_STREAMS):
                await client.ask(2 * number + 1, MESSAGE, b'"hi"')
            await until(lambda: len(world.engine.begun) == MAX_STREAMS)
            for number in range(MAX_STREAMS):
                client.h2.reset_stream(2 * number + 1)
            await client.ask(101, [*SETTLE, ("idempotency-key", "k")], QUANTITY)
            await anyio.sleep(0.1)
            assert client.statuses == {}
            world.engine.gate.set()
            await until(lambda: client.statuses == {101: 201})
    assert most_alive["alive"] == MAX_STREAMS
    assert world.account().outgoing.entered == 1


async def test_a_client_that_opens_a_hundred_streams_at_first_loses_no_answer() -> None:
    """It cannot know our limit yet: what is beyond it is refused, to be asked again, and the others are answered."""
    world = World(MinimalEngine())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            for number in range(100):
                client.h2.send_headers(2 * number + 1, [*SETTLE, ("idempotency-key", f"key {number}")])
            for number in range(100):
                client.h2.send_data(2 * number + 1, QUANTITY, end_stream=True)
            await client.flush()
            await until(lambda: len(client.ended) + len(client.resets) == 100)
            assert set(client.statuses.values()) == {201}
            assert len(client.ended) >= MAX_STREAMS
            assert set(client.resets.values()) == {h2.errors.ErrorCodes.REFUSED_STREAM}
            answered = len(client.ended)
            # which does not end the connection
            await client.ask(301, [*SETTLE, ("idempotency-key", "later")], QUANTITY)
            await until(lambda: 301 in client.ended)
        await until(lambda: world.account().outgoing.settled == answered + 1)
    assert world.account().outgoing.entered == answered + 1


async def test_a_connection_serves_any_number_of_requests() -> None:
    """1,200 in turn: hypercorn would end the connection with the 1,001st, which it had begun."""
    world = World(MinimalEngine())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            for number in range(0, 1200, 20):
                for stream in range(number, number + 20):
                    await client.ask(2 * stream + 1, [*SETTLE, ("idempotency-key", f"key {stream}")], QUANTITY)
                await until(lambda: len(client.ended) == number + 20)  # noqa: B023 - awaited within the turn
            assert set(client.statuses.values()) == {201}
    assert world.account().outgoing.entered == 1200


async def test_bodies_that_are_taken_back_leave_the_window_open() -> None:
    """Ninety requests with 2,000 bytes each, reset at once: more than the connection's window; then one is answered."""
    world = World(MinimalEngine())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            for number in range(90):
                await until(lambda: client.h2.outbound_flow_control_window > 2000)
                client.h2.send_headers(2 * number + 1, SETTLE)
                client.h2.send_data(2 * number + 1, b" " * 2000)
                client.h2.reset_stream(2 * number + 1)
                await client.flush()
            await client.ask(301, [*SETTLE, ("idempotency-key", "k")], QUANTITY)
            await until(lambda: client.statuses.get(301) == 201)
    assert world.account().outgoing.entered == 1


async def test_a_client_that_says_goodbye_still_has_its_answer() -> None:
    """GOAWAY ends what it asks, and not what it was promised."""
    world = World(Gated())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            await client.ask(1, MESSAGE, b'"hi"')
            await client.stream.send(b"\x00\x00\x08\x07\x00" + bytes(12))
            await until(lambda: len(world.engine.begun) == 1)
            world.engine.gate.set()
            await until(lambda: client.ended == {1})
            assert client.statuses == {1: 201}


async def test_the_end_of_the_server_lets_an_answer_end() -> None:
    """A message is handled when the server is asked to end: the client receives all of the answer, and its end."""
    for _ in range(5):
        world = World(Gated())
        async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
            await neighbour.create()
            async with http2(server.port) as client:
                await client.ask(1, MESSAGE, b'"hi"')
                await until(lambda: len(world.engine.begun) == 1)  # noqa: B023 - awaited within the turn
                server.stop.set()
                await anyio.sleep(0.01)
                world.engine.gate.set()
                await until(lambda: client.closed)
                assert client.statuses == {1: 201}
                assert client.ended == {1}


BROKEN = {
    "a path beyond ASCII": post("/accounts/\xff"),
    "a method beyond ASCII": [(":method", "P\xffST"), *SETTLE[1:]],
    "a tunnel": [(":method", "CONNECT"), (":authority", "localhost:443")],
    "a WebSocket": [(":method", "CONNECT"), (":protocol", "websocket"), *SETTLE[1:]],
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_request_that_is_none_ends_its_stream_alone(kind: str) -> None:
    """A message on the same connection is answered."""
    world = World(Gated())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with http2(server.port) as client:
            await client.ask(1, MESSAGE, b'"hi"')
            client.h2.send_headers(3, [(name.encode(), value.encode("latin-1")) for name, value in BROKEN[kind]])
            await client.flush()
            await until(lambda: 3 in client.resets)
            world.engine.gate.set()
            await until(lambda: client.statuses == {1: 201})


UPGRADE = (
    b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\n"
    b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
)


async def test_http_2_without_tls_is_refused_unless_it_is_asked_for() -> None:
    """Prior knowledge is 400; an upgrade is not taken, and the request answered over HTTP/1.1."""
    async with open_engine_server(World(MinimalEngine())) as server:
        async with connected(server.port) as client:
            await client.stream.send(PREFACE + SettingsFrame(0).serialize())
            assert (await client.receive()).status == 400
            assert await client.closed()
        async with connected(server.port) as client:
            client.parser.send(h11.Request(method="GET", target="/openapi.json", headers=[("host", "localhost")]))
            client.parser.send(h11.EndOfMessage())
            await client.stream.send(UPGRADE)
            assert (await client.receive()).status == 200
            assert (await client.request("GET", "/openapi.json")).status == 200


async def test_http_2_without_tls_is_taken_by_upgrade_where_it_is_asked_for() -> None:
    """The answer to the request that asks for it comes over HTTP/2."""
    async with open_engine_server(World(MinimalEngine()), HTTP_2) as server, connected(server.port) as client:
        await client.stream.send(UPGRADE)
        connection = h2.connection.H2Connection()
        connection.initiate_upgrade_connection()
        received = b""
        while b"\r\n\r\n" not in received:
            received += await client.stream.receive()
        answer, _, rest = received.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101")
        await client.stream.send(connection.data_to_send())
        events = connection.receive_data(rest)
        with anyio.fail_after(PATIENCE_S):
            while not any(isinstance(event, h2.events.StreamEnded) for event in events):
                events += connection.receive_data(await client.stream.receive())
        (begun,) = [event for event in events if isinstance(event, h2.events.ResponseReceived)]
        assert dict(begun.headers or [])[b":status"] == b"200"

"""Connections that break hypercorn's own code: each ends alone, and everybody else is served."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress

import anyio
import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import DataFrame

from tests.core.worlds import MinimalEngine, World
from tests.http.sockets import HTTP_2, connected, open_engine_server
from tests.http.test_server import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


def head(path: bytes = b"/accounts/alice/settlements", method: bytes = b"POST") -> list[tuple[bytes, bytes]]:
    """Return the head of a settlement request, but for what is given."""
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", path)]
    return [*pseudo, (b"content-type", b"application/json"), (b"idempotency-key", b"k")]


def _new_client() -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    client = h2.connection.H2Connection(config=config)
    client.initiate_connection()
    return client


def path_beyond_ascii(client: h2.connection.H2Connection) -> None:
    """Name a path that is no URL."""
    client.send_headers(1, head(b"/accounts/\xff"), end_stream=True)


def connect_without_a_path(client: h2.connection.H2Connection) -> None:
    """Ask for a tunnel."""
    client.send_headers(1, [(":method", "CONNECT"), (":authority", "engine:443")])


def method_beyond_ascii(client: h2.connection.H2Connection) -> None:
    """Name a method that is none."""
    client.send_headers(1, head(method=b"P\xffST"), end_stream=True)


def nothing_of_http_2(client: h2.connection.H2Connection) -> None:
    """Send frames that are none."""
    client.clear_outbound_data_buffer()
    client._data_to_send = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 600)


def reset_at_once(client: h2.connection.H2Connection) -> None:
    """Ask, and take it back before the body."""
    client.send_headers(1, head())
    client.reset_stream(1)


@pytest.mark.parametrize(
    "attack",
    [path_beyond_ascii, connect_without_a_path, method_beyond_ascii, nothing_of_http_2, reset_at_once],
    ids=lambda attack: attack.__name__,
)
async def test_a_broken_http_2_connection_is_nobody_elses_affair(
    attack: Callable[[h2.connection.H2Connection], None],
) -> None:
    """Over plain TCP, which anybody on the machine can do. One who was connected before goes on settling."""
    world = World(MinimalEngine())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        for turn in range(3):
            client = _new_client()
            attack(client)
            async with connected(server.port) as attacker:
                await attacker.stream.send(client.data_to_send())
                with anyio.move_on_after(0.1), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await attacker.stream.receive()
            assert (await neighbour.settle("1", f"key {turn}")).status == 201
        await until(lambda: world.account().outgoing.settled == 3)
    assert world.account().outgoing.entered == 3


async def test_data_after_the_answer_of_its_request_harms_nobody() -> None:
    """A body without end over HTTP/2 is answered 413 and reset; the next request on its connection is answered."""
    world = World(MinimalEngine())
    async with open_engine_server(world, HTTP_2) as server, connected(server.port) as neighbour:
        await neighbour.create()
        client = _new_client()
        client.send_headers(1, head())
        statuses: dict[int, bytes] = {}
        was_reset = False
        async with connected(server.port) as attacker, anyio.create_task_group() as tasks:

            async def read() -> None:
                nonlocal was_reset
                while True:
                    for event in client.receive_data(await attacker.stream.receive()):
                        if isinstance(event, h2.events.ResponseReceived):
                            statuses[event.stream_id] = dict(event.headers or [])[b":status"]
                        was_reset = was_reset or isinstance(event, h2.events.StreamReset)

            tasks.start_soon(read)
            while not was_reset:
                room = min(client.local_flow_control_window(1), 16_384)
                for _ in range(0, room, 1024):
                    client.send_data(1, b" " * min(room, 1024))
                    room -= 1024
                await attacker.stream.send(client.data_to_send() or b"")
                await anyio.sleep(0.001)
            # of the stream that was reset, which the client may not know yet
            await attacker.stream.send(DataFrame(1, b" " * 10).serialize() * 3)
            # what was thrown away has opened the window of the connection again
            await until(lambda: client.outbound_flow_control_window > 100)
            client.send_headers(3, head())
            client.send_data(3, b'{"amount":"1","scale":0}', end_stream=True)
            await attacker.stream.send(client.data_to_send())
            await until(lambda: 3 in statuses)
            tasks.cancel_scope.cancel()
        assert statuses == {1: b"413", 3: b"201"}
        await until(lambda: world.account().outgoing.settled == 1)
    assert world.account().outgoing.entered == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /accounts HTTP/1.1\r\nhost: [::1]\r\ncontent-length: x\r\n\r\n",
        b"POST /accounts HTTP/1.1\r\nhost: [::1]\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /accounts HTTP/1.1\r\nhost: [::1]\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /accounts\xff HTTP/1.1\r\nhost: [::1]\r\n\r\n",
        b"POST /accounts HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: [::1]\r\nupgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: !!\r\n\r\n",
        b"GET /accounts HTTP/1.1\r\nhost: [::1]\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"\x00" * 100_000,
    ],
    ids=lambda garbage: repr(garbage[:24]),
)
async def test_garbage_over_http_1_is_refused_and_harms_nobody(garbage: bytes) -> None:
    """What it gets is a 4xx or the end of its connection."""
    world = World(MinimalEngine())
    async with open_engine_server(world) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with connected(server.port) as attacker:
            received = b""
            try:
                await attacker.stream.send(garbage)
                with anyio.move_on_after(0.3):
                    while True:
                        received += await attacker.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
        assert b" 201 " not in received[:40]
        assert not received.startswith(b"HTTP/1.1 5")
        assert (await neighbour.settle("1", "good")).status == 201
        await until(lambda: world.account().outgoing.settled == 1)
    assert world.account().outgoing.entered == 1


async def test_a_tls_handshake_that_goes_wrong_harms_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Garbage, silence and a hang-up in the middle of it."""
    from dataclasses import replace

    import trustme

    from tests.http.sockets import LOCAL

    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    config = replace(LOCAL, certfile=str(folder / "server.pem"), keyfile=str(folder / "server.key"))
    world = World(MinimalEngine())
    async with open_engine_server(world, config) as server:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b""):
            async with connected(server.port) as attacker:
                if garbage:
                    await attacker.stream.send(garbage)
        async with connected(server.port):
            context = ssl.create_default_context()
            authority.configure_trust(context)
            stream = await anyio.connect_tcp(
                "127.0.0.1", server.port, ssl_context=context, tls_standard_compatible=False
            )
            async with stream:
                await stream.send(b"GET /accounts HTTP/1.1\r\nhost: [::1]\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 405")

"""What a request leaves behind: nothing, without the garbage collector, whatever it asked and however it ended."""

from __future__ import annotations

import gc
import socket
import ssl
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType, FunctionType, MethodType

import anyio
import anyio.to_thread
import pytest
import trustme

from settlement_core.http import asgi
from tests.core.worlds import MinimalEngine, World
from tests.http.sockets import HTTP_2, LOCAL, PATIENCE_S, connected, open_engine_server
from tests.http.test_server import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


JSON = ("content-type", "application/json")
OCTETS = ("content-type", "application/octet-stream")
KEY = ("idempotency-key", "k")
QUANTITY = b'{"amount":"1","scale":0}'

REQUESTS = {
    "a new settlement": ("POST", "/accounts/alice/settlements", (JSON,), QUANTITY),
    "a repeated settlement": ("POST", "/accounts/alice/settlements", (JSON, KEY), QUANTITY),
    "a conflict": ("POST", "/accounts/alice/settlements", (JSON, KEY), b'{"amount":"2","scale":0}'),
    "no JSON": ("POST", "/accounts/alice/settlements", (JSON, KEY), b"{"),
    "no key": ("POST", "/accounts/alice/settlements", (JSON,), QUANTITY),
    "a body that is too large": ("POST", "/accounts/alice/settlements", (JSON, KEY), b" " * 20_000),
    "a message of nobody": ("POST", "/accounts/bob/messages", (OCTETS,), b'"' + b"x" * 90_000 + b'"'),
    "a message that is not handled": ("POST", "/accounts/alice/messages", (OCTETS,), b'"hi"'),
    "a method that is not allowed": ("PUT", "/accounts", (), b"x" * 10_000),
    "an unknown path": ("GET", "/nothing", (), b""),
    "a body for an unknown path": ("POST", "/nothing", (), b"x" * 90_000),
    "a target that is none": ("GET", "?", (), b""),
    "an unknown host": ("GET", "http://evil.example/", (), b""),
    "the description": ("GET", "/openapi.json", (), b""),
}


SERVERS = ("settlement_core", "hypercorn", "quart", "quart_trio", "h11", "h2")


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that what the block leaves behind, and only the collector would free, is nothing of the server's."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        left = Counter(origin for one in gc.garbage if (origin := origin_of(one)).startswith(SERVERS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == {}


def origin_of(one: object) -> str:
    """Return the module of an object's class, or of the function that it is or runs."""
    if isinstance(one, FrameType):
        return str(one.f_globals.get("__name__"))
    if isinstance(one, FunctionType | MethodType):
        return str(one.__module__)
    return type(one).__module__


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_request_leaves_no_garbage(kind: str) -> None:
    """Twenty of it, or what they were answered with."""
    method, target, headers, body = REQUESTS[kind]
    async with open_engine_server(World(MinimalEngine())) as server, connected(server.port) as client:
        await client.create()
        await client.request(method, target, *headers, body=body)
        with nothing_left():
            for number in range(20):
                # each a new one, which is paid
                more = (("idempotency-key", f"k{number}"),) if kind == "a new settlement" else ()
                await client.request(method, target, *headers, *more, body=body)
            await anyio.sleep(0.1)


async def test_a_connection_leaves_nothing_of_ours_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that was answered, nor one whose body was too slow, or no HTTP; over HTTP/2 neither."""
    monkeypatch.setattr(asgi, "BODY_DEADLINE_S", 0.1)
    async with open_engine_server(World(MinimalEngine()), HTTP_2) as server:
        with nothing_left():
            for wire in (
                b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
                b"POST /accounts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{",
                b"GET / HTTP/9.9\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4]) + bytes(5),
            ):
                async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                    await stream.send(wire)
                    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                        await stream.receive()
            await anyio.sleep(0.1)


async def test_a_flood_over_tls_leaves_nothing_of_ours_behind(tmp_path: Path) -> None:
    """The connection is closed while the client sends, on which asyncio keeps an error with its context."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    config = replace(LOCAL, certfile=str(tmp_path / "server.pem"), keyfile=str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4]) + bytes(5)

    def flood(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE_S) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as client,
            suppress(OSError),
        ):
            client.sendall(wire + bytes([0, 0, 8, 6, 0, 0, 0, 0, 0] + [0] * 8) * 40_000)

    async with open_engine_server(World(MinimalEngine()), config) as server:
        with nothing_left():
            for _ in range(5):
                await anyio.to_thread.run_sync(flood, server.port)
            await anyio.sleep(0.1)


@pytest.mark.parametrize("target", ["/nothing", "/accounts/alice/nothing", "/accounts/alice/messages"])
async def test_bodies_are_bounded_before_anything_of_them_is_kept(target: str) -> None:
    """Thirty of which a byte is missing of each MiB; half of that is sent until the clients wait."""
    async with open_engine_server(World(MinimalEngine())) as server, connected(server.port) as neighbour:
        await neighbour.create()
        head = f"POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n"
        wire = head.encode() + b"content-length: 1048576\r\n\r\n" + b"x" * 524_288
        with ExitStack() as stack:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            async with anyio.create_task_group() as tasks:
                sent = 0

                async def send() -> None:
                    # by a socket without buffers of its own
                    nonlocal sent
                    view = memoryview(wire)
                    with socket.create_connection(("127.0.0.1", server.port)) as client:
                        client.setblocking(False)
                        with anyio.move_on_after(1), suppress(ConnectionError):
                            while view:
                                with suppress(BlockingIOError):
                                    view = view[client.send(view) :]
                                await anyio.sleep(0.001)
                        sent += 1
                        await anyio.sleep_forever()

                for _ in range(30):
                    tasks.start_soon(send)
                await until(lambda: sent == 30)
                assert (await neighbour.settle("1", "k")).status == 201
                kept, _ = tracemalloc.get_traced_memory()
                tasks.cancel_scope.cancel()
        # 100 KiB of each message may be kept, and up to 16 KiB in buffers
        assert kept < 30 * 140_000

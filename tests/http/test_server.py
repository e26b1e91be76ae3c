"""The server on real sockets, on both loops: answers arrive, and it ends in order whatever happens."""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from settlement_core.abc import AccountServices
from settlement_core.core.config import CoreConfig
from settlement_core.server import ServerConfig, start_server
from settlement_core.values.errors import LocalError
from settlement_core.values.events import CoreStopped
from tests.core.worlds import D, MinimalEngine, World
from tests.http.sockets import LOCAL, PATIENCE_S, Running, connected, open_engine_server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


async def until(condition: Callable[[], bool]) -> None:
    """Wait in real time until the condition holds."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():
            await anyio.sleep(0.005)


class Gated(MinimalEngine):
    """Settles, and answers messages, once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.begun: list[object] = []

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Wait for the gate."""
        self.begun.append(amount)
        await self.gate.wait()
        return await super().settle(account_id, amount)

    async def handle_message(self, account_id: str, message: object) -> object:
        """Wait for the gate."""
        self.begun.append(message)
        await self.gate.wait()
        return message


async def test_a_settlement_goes_over_one_connection_and_is_paid_once() -> None:
    """Create, settle, repeat and delete over a kept connection; the address is the one the system chose."""
    world = World(MinimalEngine())
    async with open_engine_server(world) as server, connected(server.port) as client:
        assert server.addresses.url == f"http://127.0.0.1:{server.port}"
        assert (await client.create()).json() == {"id": "alice"}
        for _ in range(2):
            answer = await client.settle("5", "one key")
            assert (answer.status, answer.json()) == (201, {"amount": "5", "scale": 0})
        assert answer.headers["content-type"] == "application/json"
        assert "server" not in answer.headers
        await until(lambda: world.account().outgoing.settled == 5)
        answer = await client.request("DELETE", "/accounts/alice")
        assert (answer.status, answer.body) == (204, b"")
    assert world.engine.paid == [D(5)]
    assert world.ears.of(CoreStopped) == [CoreStopped(unfinished=0)]


async def test_an_idle_connection_is_closed_at_once_and_nothing_delays_the_shutdown() -> None:
    """Connectors keep connections for minutes; a shutdown does not wait for them."""
    world = World(MinimalEngine())
    async with open_engine_server(world) as server, connected(server.port) as client, connected(server.port) as silent:
        await client.create()
        began = anyio.current_time()
        server.stop.set()
        assert await client.closed()
        assert await silent.closed()
        await until(lambda: world.ears.of(CoreStopped) != [])
        assert anyio.current_time() - began < 1


class Telling(MinimalEngine):
    """Tells of its ledger once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.asked = False

    async def status(self) -> dict[str, str]:
        """Wait for the gate."""
        self.asked = True
        await self.gate.wait()
        return {"balance": "5"}


async def test_an_operators_connection_is_closed_when_its_last_request_is_answered() -> None:
    """Quart's task for a request is cancelled at its end, in the middle of closing the connection as it may be."""
    engine = Telling()
    world = World(engine)
    config = ServerConfig(port=0, admin_port=0, drain_s=60)
    async with open_engine_server(world, config) as server, connected(_admin_port(server)) as client:
        assert (await client.request("GET", "/accounts")).status == 200
        await client.send("GET", "/engine")
        await until(lambda: engine.asked)
        server.stop.set()
        await anyio.sleep(0.1)
        engine.gate.set()
        assert (await client.receive()).json()["status"] == {"balance": "5"}
        began = anyio.current_time()
        assert await client.closed()
        await until(lambda: world.ears.of(CoreStopped) != [])
        assert anyio.current_time() - began < 5


def _admin_port(server: Running) -> int:
    assert server.addresses.admin_url is not None
    return int(server.addresses.admin_url.rsplit(":", 1)[1])


async def test_shutdown_lets_requests_and_payments_under_way_end_and_takes_no_more() -> None:
    """With a message and a payment in flight, a further request is 503; the one is answered, the other recorded."""
    engine = Gated()
    world = World(engine)
    async with open_engine_server(world) as server:
        async with connected(server.port) as client, connected(server.port) as other, connected(server.port) as late:
            await client.create()
            assert (await client.settle("5", "a")).status == 201
            octets = ("content-type", "application/octet-stream")
            await other.send("POST", "/accounts/alice/messages", octets, body=b'"hi"')
            # the head only: its connection is not idle any more
            body = b'{"amount":"1","scale":0}'
            head = "POST /accounts/alice/settlements HTTP/1.1\r\nhost: [::1]\r\ncontent-type: application/json\r\n"
            head += f"idempotency-key: late\r\ncontent-length: {len(body)}\r\n\r\n"
            late.parser.send(_request_like(head))
            await late.stream.send(head.encode())
            await until(lambda: len(engine.begun) == 2)
            await anyio.sleep(0.05)
            server.stop.set()
            await anyio.sleep(0.05)
            await late.stream.send(body)
            answer = await late.receive()
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["detail"] == "shutting down; nothing was recorded, try again later"
            engine.gate.set()
            answer = await other.receive()
            assert (answer.status, answer.body) == (201, b'"hi"')
        await until(lambda: world.ears.of(CoreStopped) != [])
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", server.port)
    assert world.engine.paid == [D(5)]
    assert world.account().outgoing.settled == world.account().outgoing.entered == 5


def _request_like(head: str) -> Any:
    """Return h11's event for a request head that is sent by hand."""
    import h11

    lines = head.strip().split("\r\n")
    method, target, _ = lines[0].split(" ")
    return h11.Request(
        method=method,
        target=target,
        headers=[(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])],
    )


async def test_a_request_that_does_not_end_is_cut_at_the_deadline() -> None:
    """After `drain_s` its connection is closed, without an answer or with a 500, and the core still ends in order."""
    engine = Gated()
    world = World(engine, config=CoreConfig(message_deadline_s=60))
    config = replace(LOCAL, drain_s=0.2)
    async with open_engine_server(world, config) as server, connected(server.port) as client:
        await client.create()
        octets = ("content-type", "application/octet-stream")
        await client.send("POST", "/accounts/alice/messages", octets, body=b'"hi"')
        await until(lambda: engine.begun == ["hi"])
        began = anyio.current_time()
        server.stop.set()
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            assert (await client.receive()).status == 500
        await until(lambda: world.ears.of(CoreStopped) != [])
        assert 0.15 < anyio.current_time() - began < 2.5


@pytest.mark.filterwarnings("error::ResourceWarning")
async def test_an_engine_that_dies_ends_the_server_and_is_named() -> None:
    """Connections are open, and a payment is under way: all are closed, and the real exception comes in a group."""
    died = anyio.Event()

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[MinimalEngine]:
        async def listen() -> None:
            await died.wait()
            raise ConnectionError("the ledger went away")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            yield world.engine
            tasks.cancel_scope.cancel()

    engine = Gated()
    world = World(engine)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_engine_server(world, connect=connect) as server:
            async with connected(server.port) as client, connected(server.port) as idle:
                await client.create()
                assert (await client.settle("5", "a")).status == 201
                await until(lambda: engine.begun != [])
                with anyio.CancelScope(shield=True):
                    died.set()
                    assert await client.closed()
                    assert await idle.closed()
            await anyio.sleep_forever()
    assert _leaves(caught.value) == ["the ledger went away"]
    assert world.account().outgoing.open == 5, "what was under way is looked at, at the next start"
    await anyio.lowlevel.checkpoint()
    gc.collect()  # an open socket would be told here


async def test_a_request_waiting_for_the_store_is_still_answered_when_the_engine_dies() -> None:
    """It is durable, or will be: a connection cut would have the connector ask again under a new key."""
    import threading

    from settlement_core.stores.memory import MemoryStore, create_memory_store
    from settlement_core.values.commands import Enqueue

    class Slow(MemoryStore):
        threaded = True
        release = threading.Event()
        waiting = threading.Event()

        def apply(self, commands: Any) -> Any:
            if any(isinstance(command, Enqueue) for command in commands):
                self.waiting.set()
                assert self.release.wait(PATIENCE_S)
            return super().apply(commands)

    died = anyio.Event()

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[MinimalEngine]:
        yield MinimalEngine()

    async def die() -> None:
        await died.wait()
        raise ConnectionError("gone")

    @asynccontextmanager
    async def mortal(services: AccountServices) -> AsyncIterator[MinimalEngine]:
        async with connect(services) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(die)
            yield engine
            tasks.cancel_scope.cancel()

    store = Slow()
    world = World(MinimalEngine(), store=create_memory_store())
    with pytest.raises(ExceptionGroup) as caught:
        async with open_engine_server(world, connect=mortal, store=store) as server:
            async with connected(server.port) as client:
                await client.create()
                await client.send_settlement("5", "a")
                await until(store.waiting.is_set)
                with anyio.CancelScope(shield=True):
                    died.set()
                    await anyio.sleep(0.1)
                    store.release.set()
                    answer = await client.receive()
                    assert (answer.status, answer.json()) == (201, {"amount": "5", "scale": 0})
            await anyio.sleep_forever()
    assert _leaves(caught.value) == ["gone"]


def _leaves(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [str(error)]


@pytest.mark.filterwarnings("error::ResourceWarning")
async def test_a_server_that_is_cancelled_closes_every_connection() -> None:
    """As at a second SIGTERM: within two seconds, though a request and a payment hang, and with nothing left open."""
    engine = Gated()
    world = World(engine, config=CoreConfig(message_deadline_s=60))
    async with anyio.create_task_group() as tasks:

        async def serve(*, task_status: Any) -> None:
            await start_server(
                world.connect,
                store=world.store,
                connector=world.connector,
                config=LOCAL,
                core_config=world.config,
                observer=world.ears,
                task_status=task_status,
            )

        addresses = await tasks.start(serve)
        async with connected(int(addresses.url.rsplit(":", 1)[1])) as client:
            await client.create()
            await client.settle("5", "a")
            octets = ("content-type", "application/octet-stream")
            await client.send("POST", "/accounts/alice/messages", octets, body=b'"hi"')
            await until(lambda: len(engine.begun) == 2)
            began = anyio.current_time()
            with anyio.CancelScope(shield=True):
                tasks.cancel_scope.cancel()
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    assert (await client.receive()).status == 500
    assert anyio.current_time() - began < 2.5
    assert world.account().outgoing.open == 5
    gc.collect()


@pytest.mark.parametrize("admin", [False, True])
async def test_a_port_in_use_is_one_sentence_before_anything_is_opened(*, admin: bool) -> None:
    """A `LocalError` that names the port and the option; the engine was never made."""
    world = World(MinimalEngine())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = ServerConfig(port=0, admin_port=port) if admin else ServerConfig(port=port, admin_port=None)
        with pytest.raises(LocalError) as caught:
            await start_server(world.connect, store=world.store, connector=world.connector, config=config)
    option = "--admin-port" if admin else "--port"
    assert str(caught.value).startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert str(caught.value).endswith(f"choose another with {option}")
    assert world.services == []


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.0.0.1", "192.0.2.1"])
async def test_an_address_that_is_not_ours_is_one_sentence(host: str) -> None:
    """Unknown, malformed or somebody else's."""
    world = World(MinimalEngine())
    with pytest.raises(LocalError, match=f"cannot listen on {host}:0: .*; choose another with --port"):
        await start_server(
            world.connect, store=world.store, connector=world.connector, config=replace(LOCAL, host=host)
        )


async def test_the_operators_api_is_on_a_port_of_its_own() -> None:
    """It ends with the server, and the connector's port knows nothing of it."""
    world = World(MinimalEngine())
    async with open_engine_server(world, ServerConfig(port=0, admin_port=0)) as server:
        assert server.addresses.admin_url is not None
        admin_port = int(server.addresses.admin_url.rsplit(":", 1)[1])
        async with connected(server.port) as client, connected(admin_port) as operator:
            await client.create()
            answer = await operator.request("GET", "/accounts")
            assert [account["id"] for account in answer.json()] == ["alice"]
            assert (await client.request("GET", "/statistics")).status == 404
            assert (await client.request("GET", "/accounts")).status == 405


@pytest.mark.parametrize(
    ("target", "at_once", "status"),
    [("/accounts/a%20b/settlements", 0, b"400"), ("/accounts/alice/settlements", 16 * 1024 - 100, b"413")],
)
async def test_a_refused_body_in_many_tiny_chunks_leaves_no_connection_hanging(
    target: str, at_once: int, status: bytes
) -> None:
    """Hypercorn's queue of ten body parts is full when we answer: it goes out, and the shutdown is immediate.

    What is too large comes all but the last hundred bytes at once, so that the limit is met among the tiny chunks.
    """
    world = World(MinimalEngine())
    async with open_engine_server(world) as server:
        for more in range(1, 11):  # so that one of them meets the limit where a full queue begins
            first = at_once + more
            async with connected(server.port) as client:
                head = f"POST {target} HTTP/1.1\r\nhost: [::1]\r\ncontent-type: application/json\r\n"
                head += f"idempotency-key: k\r\ntransfer-encoding: chunked\r\n\r\n{first:x}\r\n{' ' * first}\r\n"
                await client.stream.send(head.encode() + b"1\r\n \r\n" * 300 + b"0\r\n\r\n")
                assert (await client.stream.receive()).startswith(b"HTTP/1.1 " + status)
        began = anyio.current_time()
        server.stop.set()
        await until(lambda: world.ears.of(CoreStopped) != [])
        assert anyio.current_time() - began < 1


async def test_pipelined_requests_are_answered_in_order_and_settled_once_each() -> None:
    """Twenty requests in one write over one connection."""
    world = World(MinimalEngine())
    async with open_engine_server(world) as server, connected(server.port) as client:
        await client.create()
        wire = b""
        for number in range(20):
            body = b'{"amount":"%d","scale":0}' % (number + 1)
            wire += b"POST /accounts/alice/settlements HTTP/1.1\r\nhost: [::1]\r\ncontent-type: application/json\r\n"
            wire += b"idempotency-key: k%d\r\ncontent-length: %d\r\n\r\n%s" % (number, len(body), body)
        await client.stream.send(wire)
        received = b""
        while received.count(b"HTTP/1.1 201") < 20 or not received.endswith(b'"20","scale":0}'):
            received += await client.stream.receive()
        places = [received.index(b'{"amount":"%d",' % (number + 1)) for number in range(20)]
        assert places == sorted(places)
        await until(lambda: world.account().outgoing.settled == 210)
    assert sum(world.engine.paid) == 210


async def test_a_request_cut_off_in_its_body_asks_for_nothing() -> None:
    """The client hangs up after all but the last byte."""
    world = World(MinimalEngine())
    async with open_engine_server(world) as server:
        async with connected(server.port) as client:
            await client.create()
        async with connected(server.port) as client:
            head = b"POST /accounts/alice/settlements HTTP/1.1\r\nhost: [::1]\r\ncontent-type: application/json\r\n"
            head += b"idempotency-key: k\r\ncontent-length: 25\r\n\r\n"
            await client.stream.send(head + b'{"amount":"1","scale":0}')
        async with connected(server.port) as client:
            assert (await client.settle("2", "k")).status == 201
            await until(lambda: world.account().outgoing.settled == 2)
    assert world.account().outgoing.entered == 2


async def test_64_connections_of_20_settlements_each_are_all_settled_exactly_once() -> None:
    """1,280 requests, some under keys that others use as well: every key once, to the last unit."""
    world = World(MinimalEngine())
    accepted: dict[tuple[str, str], int] = {}

    async def connector(number: int, port: int) -> None:
        account_id = f"account-{number % 4}"
        async with connected(port) as client:
            assert (await client.create(account_id)).status == 201
            for turn in range(20):
                key = f"shared-{turn}" if turn % 5 == 0 else f"{number}-{turn}"
                answer = await client.settle(str(turn + 1), key, account_id)
                assert answer.status == 201
                accepted[account_id, key] = turn + 1

    async with open_engine_server(world) as server:
        async with anyio.create_task_group() as tasks:
            for number in range(64):
                tasks.start_soon(connector, number, server.port)
        total = sum(accepted.values())
        await until(lambda: sum(world.account(f"account-{n}").outgoing.settled for n in range(4)) == total)
    assert sum(world.engine.paid) == total
    assert len(accepted) == 64 * 16 + 4 * 4
    assert sum(world.account(f"account-{n}").outgoing.entered for n in range(4)) == total


async def test_connections_are_refused_until_the_engine_is_there_to_answer() -> None:
    """While it connects slowly, or stands by, nobody waits in vain, and health checks do not take it for alive."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    world, connecting, gate = World(MinimalEngine()), anyio.Event(), anyio.Event()

    async def connect(services: AccountServices) -> MinimalEngine:
        connecting.set()
        await gate.wait()
        return world.engine  # type: ignore[no-any-return]

    async with anyio.create_task_group() as tasks:
        config = ServerConfig(port=port, admin_port=None)
        opened = anyio.Event()

        async def serve() -> None:
            await tasks.start(
                partial(start_server, connect, store=world.store, connector=world.connector, config=config)
            )
            opened.set()

        tasks.start_soon(serve)
        await connecting.wait()
        with pytest.raises(OSError, match="attempts|refused"):
            await anyio.connect_tcp("127.0.0.1", port)
        gate.set()
        await opened.wait()
        async with await anyio.connect_tcp("127.0.0.1", port):
            pass
        tasks.cancel_scope.cancel()

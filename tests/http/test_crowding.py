"""Which connection makes room for another: never one that is owed an answer. Pure bookkeeping, then real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.abc
import pytest

from settlement_core.http import crowding
from settlement_core.http import settings as settings_module
from settlement_core.http.crowding import Connections
from settlement_core.http.exchanges import Exchanges
from settlement_core.http.gate import AccessRules
from tests.core.worlds import MinimalEngine, World
from tests.http.sockets import LOCAL, PATIENCE_S, connected, open_engine_server
from tests.http.test_server import Gated, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


@dataclass(eq=False)
class Fake:
    """A connection that remembers what was done to it."""

    was_cut: bool = False
    writing: bool = False
    since: int | None = None

    def cut(self) -> None:
        """Remember it."""
        self.was_cut = True

    def is_writing(self) -> bool:
        """Return what the test says."""
        return self.writing

    def unread_since(self, sweep: int) -> int:
        """Return what the test says."""
        return sweep if self.since is None else self.since


def crowd_of(number: int) -> tuple[Connections, list[Fake]]:
    """Return a full crowd of idle connections."""
    connections, members = Connections(number), [Fake() for _ in range(number)]
    for member in members:
        assert connections.enter(member)
        connections.note_idle(member)
    return connections, members


def leaves_first(connections: Connections) -> Fake | None:
    """Have a new connection enter, and return which one made room; None if the new one was refused."""
    before = {one for one in [*connections._sending, *connections._idle, *connections._owed] if isinstance(one, Fake)}
    new = Fake()
    if not connections.enter(new):
        assert not any(one.was_cut for one in before)
        return None
    connections.note_owed(new)
    (cut,) = [one for one in before if one.was_cut]
    return cut


def test_slow_senders_make_room_first_and_then_idle_ones_the_longest_first() -> None:
    """Heads that have begun, bodies that have not ended; those owed an answer never, and the new one is refused."""
    connections, (idle, later, body, head, owed) = crowd_of(5)
    connections.note_sending(body)
    connections.note_begun(head)
    connections.note_owed(owed)
    connections.note_idle(idle)  # moves nothing: it was idle before
    assert [leaves_first(connections) for _ in range(5)] == [body, head, idle, later, None]
    assert not owed.was_cut


def test_an_answered_request_leaves_its_connection_idle() -> None:
    """It makes room again once it is owed nothing."""
    connections, (member,) = crowd_of(1)
    connections.note_owed(member)
    assert leaves_first(connections) is None
    connections.note_idle(member)
    assert leaves_first(connections) is member


def test_what_is_still_being_written_is_not_cut() -> None:
    """The end of an answer may lie in a buffer of ours after the application has ended."""
    connections, (first, second) = crowd_of(2)
    first.writing = True
    assert leaves_first(connections) is second
    assert leaves_first(connections) is None


def test_a_client_that_does_not_read_makes_room_after_a_while() -> None:
    """Its answer waits for it and not for us."""
    connections, (stalled, owed) = crowd_of(2)
    for member in (stalled, owed):
        connections.note_owed(member)
    stalled.since = 0
    connections.sweeps = int(crowding.STALLED_S / crowding.SWEEP_S)
    assert leaves_first(connections) is None
    connections.sweeps += 1
    assert leaves_first(connections) is stalled
    assert not owed.was_cut


def test_bodies_that_have_not_ended_are_bounded_in_all() -> None:
    """16 MiB; those that have been sending for longest are closed, and those owed an answer stay."""
    connections, (owed, first, second) = crowd_of(3)
    connections.note_owed(owed)
    for sender in (first, second):
        connections.note_sending(sender)
    connections.note_held(crowding.MAX_HELD)
    assert not first.was_cut
    connections.note_held(1)
    assert [owed.was_cut, first.was_cut] == [False, True]


async def test_a_crowd_costs_no_request_that_was_accepted_its_answer() -> None:
    """Two hundred messages are handled slowly while five times as many connections come and send half a request each.

    On a server for twenty connections, eight of whose clients wait for answers.
    """
    world = World(Slow())
    config = replace(LOCAL, access=AccessRules(max_connections=20))
    answered = refused = 0
    async with open_engine_server(world, config) as server:
        async with connected(server.port) as client:
            await client.create()
        done = anyio.Event()

        async def ask() -> None:
            nonlocal answered, refused
            for _ in range(25):
                try:
                    async with connected(server.port) as client:
                        octets = ("content-type", "application/octet-stream")
                        answer = await client.request("POST", "/accounts/alice/messages", octets, body=b'"hi"')
                        assert answer.status == 201
                        answered += 1
                except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                    refused += 1  # before it had been sent whole

        async def crowd() -> None:
            held: list[anyio.abc.SocketStream] = []
            while not done.is_set():
                with suppress(OSError, anyio.BrokenResourceError):
                    held.append(await anyio.connect_tcp("127.0.0.1", server.port))
                    await held[-1].send(HALF)
                if len(held) > 50:
                    await anyio.aclose_forcefully(held.pop(0))
            for stream in held:
                await anyio.aclose_forcefully(stream)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(crowd)
            async with anyio.create_task_group() as asking:
                for _ in range(8):
                    asking.start_soon(ask)
            done.set()
    assert answered + refused == 200
    assert answered == world.engine.handled > 0


HALF = (
    b"POST /accounts/alice/messages HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/octet-stream\r\ncontent-length: 9000\r\n\r\nx"
)


class Slow(MinimalEngine):
    """Takes its time for each message."""

    handled = 0

    async def handle_message(self, account_id: str, message: object) -> object:
        """Count it."""
        await anyio.sleep(0.02)
        self.handled += 1
        return message


async def test_a_connection_is_refused_where_all_others_are_owed_an_answer() -> None:
    """Three of three wait for the engine; a fourth is closed at once, and the three are answered."""
    world = World(Gated())
    async with open_engine_server(world, replace(LOCAL, access=AccessRules(max_connections=3))) as server:
        async with connected(server.port) as client:
            await client.create()
        async with connected(server.port) as one, connected(server.port) as two, connected(server.port) as three:
            for client in (one, two, three):
                octets = ("content-type", "application/octet-stream")
                await client.send("POST", "/accounts/alice/messages", octets, body=b'"hi"')
            await until(lambda: len(world.engine.begun) == 3)
            for _ in range(5):
                async with connected(server.port) as fourth:
                    with anyio.fail_after(PATIENCE_S):
                        assert await fourth.closed()
            world.engine.gate.set()
            for client in (one, two, three):
                assert (await client.receive()).status == 201


async def test_nothing_more_is_taken_from_a_connection_that_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty settlements lie behind a message that is handled, some received and some not, when the server cuts it."""
    made: list[Connections] = []

    class Known(Connections):
        """Can be found by the test."""

        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            made.append(self)

    monkeypatch.setattr(settings_module, "Connections", Known)
    world = World(Gated())
    message = HALF.replace(b"9000", b"4").replace(b"\r\n\r\nx", b'\r\n\r\n"hi"')
    head = b"POST /accounts/alice/settlements HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    behind = [
        head + b'idempotency-key: k%d\r\ncontent-length: 24\r\n\r\n{"amount":"1","scale":0}' % number
        for number in range(20)
    ]
    async with open_engine_server(world) as server, connected(server.port) as neighbour:
        await neighbour.create()
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(message + b"".join(behind))
            await until(lambda: len(world.engine.begun) == 1)
            (member,) = made[0]._owed
            member.cut()
            world.engine.gate.set()
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                while True:
                    await stream.receive()
        async with connected(server.port) as other:
            assert (await other.settle("1", "later")).status == 201
        await until(lambda: world.account().outgoing.settled == 1)
    assert world.account().outgoing.entered == 1


async def test_a_body_that_ends_after_the_cut_is_not_taken() -> None:
    """And no application is started for a request that was parsed after it."""
    started: list[str] = []
    passed: list[MutableMapping[str, Any]] = []

    class Tasks:
        """Hypercorn's task group."""

        async def spawn_app(self, app: str, *_: object) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
            started.append(app)

            async def put(event: MutableMapping[str, Any]) -> None:
                passed.append(event)

            return put

    exchanges = Exchanges(Tasks(), 32, lambda: None)

    async def send(_message: object) -> None:
        """Send nothing."""

    part = {"type": "http.request", "body": b"x", "more_body": True}
    put = await exchanges.spawn_app("first", None, None, send)
    await put(part)
    exchanges.stop()
    await put({"type": "http.request", "body": b"", "more_body": False})
    await put({"type": "http.disconnect"})
    assert exchanges.owed == 0
    await (await exchanges.spawn_app("second", None, None, send))(part)
    assert started == ["first"]
    assert passed == [part, {"type": "http.disconnect"}]

"""Server-sent events over real sockets, on both loops: nothing is missed unsaid, and nobody holds the server up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest

from settlement_core.http import crowding, events
from settlement_core.http.gate import AccessRules
from settlement_core.http.tokens import hash_line
from settlement_core.server import ServerConfig
from settlement_core.values.events import CoreStopped
from tests.core.worlds import MinimalEngine, World
from tests.http.sockets import PATIENCE_S, Running, connected, open_engine_server
from tests.http.test_server import until

pytestmark = pytest.mark.anyio

ADMIN = ServerConfig(port=0, admin_port=0)


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


@dataclass
class Listener:
    """A client that follows events, or does not read."""

    stream: anyio.abc.ByteStream
    text: str = ""
    head: str = ""
    raw: str = ""
    comments: int = 0
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, *lines: str) -> None:
        """Send the request, with these lines in its head."""
        head = "\r\n".join(("GET /events HTTP/1.1", "host: localhost", *lines))
        await self.stream.send(f"{head}\r\n\r\n".encode())

    async def begin(self, *lines: str) -> None:
        """Ask, and read the head of the answer."""
        await self.ask(*lines)
        while "\r\n\r\n" not in self.text:
            self.text += (await self.stream.receive()).decode()
        self.head, _, self.text = self.text.partition("\r\n\r\n")
        self.take()

    async def read(self) -> None:
        """Take what comes next, without the sizes of chunks."""
        come = (await self.stream.receive()).decode()
        self.text += come
        self.raw = (self.raw + come)[-100:]
        self.take()

    def take(self) -> None:
        """Understand what has come."""
        *blocks, self.text = self.text.split("\n\n")
        for block in blocks:
            lines = [line for line in block.splitlines() if ": " in line or line.startswith(":")]
            self.comments += sum(line.startswith(":") for line in lines)
            parts = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if "data" in parts:
                self.heard.append({"id": parts["id"], "kind": parts["event"], **json.loads(parts["data"])})

    async def hear(self, kind: str) -> dict[str, Any]:
        """Return the next event of a type."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                while self.heard:
                    event = self.heard.pop(0)
                    if event["kind"] == kind:
                        return event
                await self.read()

    async def hear_all(self) -> None:
        """Read until the server has closed the connection."""
        with anyio.fail_after(PATIENCE_S), suppress(anyio.EndOfStream):
            while True:
                await self.read()


def admin_port(server: Running) -> int:
    """Return the port of the operator's API."""
    port = urlsplit(str(server.addresses.admin_url)).port
    assert port is not None
    return port


@asynccontextmanager
async def listening(server: Running, *lines: str) -> AsyncIterator[Listener]:
    """Follow events for the block."""
    async with await anyio.connect_tcp("127.0.0.1", admin_port(server)) as stream:
        listener = Listener(stream)
        await listener.begin(*lines)
        yield listener


async def settle(server: Running, world: World, amount: int) -> None:
    """Have alice's engine settle an amount, once for each."""
    async with connected(server.port) as client:
        await client.create()
        assert (await client.settle(str(amount), f"key {amount}")).status == 201
    await until(lambda: amount in world.engine.paid and world.account().outgoing.open == 0)


async def test_a_settlement_is_told_as_it_happens() -> None:
    """First `resync`, then the request and its record, with what the log would say."""
    world = World(MinimalEngine())
    async with open_engine_server(world, ADMIN) as server, listening(server) as listener:
        assert listener.head.startswith("HTTP/1.1 200")
        assert "content-type: text/event-stream" in listener.head.lower()
        assert "cache-control: no-store" in listener.head.lower()
        await listener.hear("resync")
        await settle(server, world, 5)
        requested = await listener.hear("SettlementRequested")
        assert (requested["account_id"], requested["amount"], requested["key"]) == ("alice", "5", "key 5")
        recorded = await listener.hear("SettlementRecorded")
        assert (recorded["amount"], recorded["attempted"], recorded["level"]) == ("5", "5", "info")
        assert recorded["text"].startswith("account alice settled 5 of 5 in ")


async def test_who_comes_back_hears_what_it_missed_and_no_more() -> None:
    """With the id of the last event it saw; with an id that is none of this run, `resync` instead."""
    world = World(MinimalEngine())
    async with open_engine_server(world, ADMIN) as server:
        async with listening(server) as listener:
            await listener.hear("resync")
            await settle(server, world, 1)
            last = (await listener.hear("SettlementRecorded"))["id"]
        await settle(server, world, 2)
        async with listening(server, f"last-event-id: {last}") as again:
            recorded = await again.hear("SettlementRecorded")
            assert recorded["amount"] == "2"
            assert not any(event["kind"] == "resync" for event in again.heard)
        async with listening(server, "last-event-id: another-7") as stranger:
            await stranger.hear("resync")
            await settle(server, world, 3)
            assert (await stranger.hear("SettlementRecorded"))["amount"] == "3"


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody between us takes the connection for dead."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    world = World(MinimalEngine())
    async with open_engine_server(world, ADMIN) as server, listening(server) as listener:
        with anyio.fail_after(PATIENCE_S):
            while listener.comments < 3:
                await listener.read()


async def test_listeners_end_at_once_when_the_server_stops() -> None:
    """Ten of them, although requests may drain for a minute; each is told that it is over by an end without error."""
    world = World(MinimalEngine())
    async with open_engine_server(world, replace(ADMIN, drain_s=60)) as server, AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(server)) for _ in range(10)]
        began = anyio.current_time()
        server.stop.set()
        for listener in listeners:
            await listener.hear_all()
            assert listener.raw.endswith("0\r\n\r\n"), "the last chunk, which says that nothing is missing"
        await until(lambda: world.ears.of(CoreStopped) == [CoreStopped(unfinished=0)])
        assert anyio.current_time() - began < 5


async def test_a_listener_that_does_not_read_is_cut_and_costs_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Money moves on beside it; what it is sent is bounded by one part, whatever happens meanwhile."""
    monkeypatch.setattr(crowding, "SWEEP_S", 0.05)
    monkeypatch.setattr(crowding, "SEND_S", 0.5)
    world = World(MinimalEngine())
    async with (
        open_engine_server(world, ADMIN) as server,
        await anyio.connect_tcp("127.0.0.1", admin_port(server)) as stream,
    ):
        await Listener(stream).ask()
        async with connected(server.port) as client:
            await client.create()
            for number in range(300):
                await client.settle("1", f"key {number:0200}")
        await until(lambda: world.account().outgoing.settled == 300)
        async with listening(server) as other:
            await other.hear("resync")
            await settle(server, world, 7)
            assert (await other.hear("SettlementRecorded"))["amount"] == "7"


async def test_there_are_never_too_many_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is answered 503, and the next one is let in when another has gone."""
    monkeypatch.setattr(events, "MAX_LISTENERS", 2)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    world = World(MinimalEngine())
    async with (
        open_engine_server(world, ADMIN) as server,
        listening(server),
        connected(admin_port(server)) as client,
    ):
        async with listening(server):
            answer = await client.request("GET", "/events")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["detail"] == "2 listen already; try again later"
        with anyio.fail_after(PATIENCE_S):
            while True:
                async with listening(server) as next_one:
                    if next_one.head.startswith("HTTP/1.1 200"):
                        break
                await anyio.sleep(0.02)
        assert (await client.request("GET", "/events?since=3")).status == 400
        assert (await client.request("POST", "/events")).status == 405


async def test_nothing_is_told_without_a_token(tmp_path: Path) -> None:
    """The gate is asked of events as of everything else; the page that asks with a token is served without one."""
    tokens = tmp_path / "tokens"
    tokens.write_text(hash_line("alice", "a-good-token"))
    config = replace(ADMIN, admin_access=AccessRules(tokens=str(tokens)))
    world = World(MinimalEngine())
    async with open_engine_server(world, config) as server:
        async with connected(admin_port(server)) as client:
            for path in ("/events", "/summary", "/activity", "/accounts", "/page", "/page/../summary", "/Page/app.js"):
                assert (await client.request("GET", path)).status == 401
            for path in ("/", "/page/app.js", "/page/uplot/uPlot.esm.js"):
                assert (await client.request("GET", path)).status == 200
        async with listening(server, "authorization: Bearer a-good-token") as listener:
            await listener.hear("resync")
        async with listening(server, "authorization: Bearer another") as stranger:
            assert stranger.head.startswith("HTTP/1.1 401")

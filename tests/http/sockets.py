"""A whole server on a loopback socket, and connections to it byte by byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import h11

from settlement_core.server import ServerAddresses, ServerConfig, start_server
from tests.core.worlds import World

PATIENCE_S = 20.0
"""How long anything may take on a busy machine before a test gives up."""

LOCAL = ServerConfig(port=0, admin_port=None)
HTTP_2 = replace(LOCAL, h2c=True)
"""HTTP/2 without TLS, too."""


@dataclass
class Running:
    """A server that runs, and how it is told to end."""

    addresses: ServerAddresses
    stop: anyio.Event

    @property
    def port(self) -> int:
        """Return the port of the Settlement Engine HTTP API."""
        port = urlsplit(self.addresses.url).port
        assert port is not None
        return port


@asynccontextmanager
async def open_engine_server(world: World, config: ServerConfig = LOCAL, **options: Any) -> AsyncIterator[Running]:
    """Serve a world's engine until the block ends; what goes wrong with the server is raised in groups."""
    options.setdefault("connector", world.connector)
    options.setdefault("store", world.store)
    connect = options.pop("connect", world.connect)
    stop = anyio.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            serve = partial(
                start_server,
                connect,
                config=config,
                core_config=world.config,
                observer=world.ears,
                shutdown_trigger=stop.wait,
                **options,
            )
            addresses = await tasks.start(serve)
            yield Running(addresses, stop)
            stop.set()


@dataclass
class Response:
    """An answer over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the JSON value of the body."""
        return json.loads(self.body)


@dataclass
class Connection:
    """One connection of a client that keeps it open. `parser` knows how far the exchange has got."""

    stream: anyio.abc.ByteStream
    parser: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    async def send(self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> None:
        """Send a whole request."""
        fields = [("host", "localhost"), ("content-length", str(len(body))), *headers]
        content = self.parser.send(h11.Request(method=method, target=target, headers=fields))
        for event in (h11.Data(data=body), h11.EndOfMessage()):
            content += self.parser.send(event) or b""
        await self.stream.send(content)

    async def receive(self) -> Response:
        """Return the next answer; `anyio.EndOfStream` or a `BrokenResourceError` if there is none."""
        start, body = None, b""
        while True:
            event = self.parser.next_event()
            if event is h11.NEED_DATA:
                self.parser.receive_data(await self.stream.receive())
            elif isinstance(event, h11.Response):
                start = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise anyio.EndOfStream
        assert start is not None
        if self.parser.our_state is self.parser.their_state is h11.DONE:
            self.parser.start_next_cycle()
        headers = {name.decode(): value.decode() for name, value in start.headers}
        return Response(start.status_code, headers, body)

    async def request(self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> Response:
        """Send a request and return its answer."""
        await self.send(method, target, *headers, body=body)
        return await self.receive()

    async def create(self, account_id: str = "alice") -> Response:
        """Create an account as RFC 38 says."""
        body = json.dumps({"id": account_id}).encode()
        return await self.request("POST", "/accounts", ("content-type", "application/json"), body=body)

    async def send_settlement(self, amount: str, key: str, account_id: str = "alice") -> None:
        """Ask for a settlement, without waiting for the answer."""
        body = json.dumps({"amount": amount, "scale": 0}).encode()
        headers = (("content-type", "application/json"), ("idempotency-key", key))
        await self.send("POST", f"/accounts/{account_id}/settlements", *headers, body=body)

    async def settle(self, amount: str, key: str, account_id: str = "alice") -> Response:
        """Ask for a settlement as RFC 38 says."""
        await self.send_settlement(amount, key, account_id)
        return await self.receive()

    async def closed(self) -> bool:
        """Wait until the server has closed the connection, and tell whether it did so without another word."""
        try:
            while await self.stream.receive():
                return False
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
        raise AssertionError("an empty receive")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Open a connection for the block."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield Connection(stream)

"""A server that answers whatever bytes a test wants, at the pace it wants."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
import anyio.abc
import h11
from anyio.streams.tls import TLSListener


@dataclass(frozen=True)
class RawRequest:
    """A request as it came over the wire."""

    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for found, value in self.headers if found == name]


Play: TypeAlias = Callable[[RawRequest, anyio.abc.ByteStream], Awaitable[None]]
"""Answers a request on its stream; whatever it does not close stays open."""


@dataclass
class RawServer:
    """Where it is, and what it was sent."""

    url: str
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Return a complete response."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(answer: bytes) -> Play:
    """Answer every request with the same bytes, and keep the connection."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(answer)

    return play


async def _converse(server: RawServer, play: Play, stream: anyio.abc.ByteStream) -> None:
    server.connections += 1
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    async with stream:
        while True:
            request, body = None, b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive())
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
            assert request is not None
            headers = [(name.decode(), value.decode()) for name, value in request.headers]
            server.requests.append(RawRequest(request.target.decode(), headers, body))
            await play(server.requests[-1], stream)
            # a new parser for the next request: the answer was none of h11's business
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)


@asynccontextmanager
async def open_raw_server(play: Play, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve on a loopback socket until the block ends, then cut everything."""
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = plain.extra(anyio.abc.SocketAttribute.local_port)
    listener = plain if tls is None else TLSListener(plain, tls, standard_compatible=False)
    server = RawServer(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}")

    async def serve_one(stream: anyio.abc.ByteStream) -> None:
        # the client left, or the script closed
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
            await _converse(server, play, stream)

    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve_one)
            try:
                yield server
            except Exception as error:  # noqa: BLE001
                failure = error
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await listener.aclose()
    if failure is not None:
        raise failure

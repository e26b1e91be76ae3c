"""An authority that only a file names, servers under it, and an egress proxy that counts."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.abc
import trustme

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


class Authority:
    """A private authority, and the file that names it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.file = folder / "authority.pem"
        self.ca.cert_pem.write_to_path(str(self.file))

    def server(self, name: str = "127.0.0.1", *, expired: bool = False) -> ssl.SSLContext:
        """Return the TLS of a server that it vouches for under this name."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(name, not_after=LONG_AGO if expired else None).configure_cert(context)
        return context


@dataclass
class Proxy:
    """An egress proxy: where it is, and the first line of each request that it was sent."""

    port: int
    lines: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def url(self, user: str = "") -> str:
        """Return its URL, with a user name and a password if they are given."""
        return f"http://{user}127.0.0.1:{self.port}"


@asynccontextmanager
async def open_proxy(*, user: str | None = None) -> AsyncIterator[Proxy]:
    """Serve a proxy that opens tunnels, and answers other requests itself; `user` is NAME:PASSWORD, if it wants one."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy = Proxy(listener.extra(anyio.abc.SocketAttribute.local_port))
    wanted = None if user is None else "Basic " + base64.b64encode(user.encode()).decode()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await stream.receive()
                line, *fields = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
                proxy.lines.append(line)
                headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
                if wanted is not None and headers.get("proxy-authorization") != wanted:
                    await stream.send(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                elif line.startswith("CONNECT "):
                    host, _, port = line.split()[1].rpartition(":")
                    async with await anyio.connect_tcp(host, int(port)) as beyond, anyio.create_task_group() as tasks:
                        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
                        tasks.start_soon(_pump, beyond, stream)
                        await _pump(stream, beyond)
                        tasks.cancel_scope.cancel()
                else:
                    await stream.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield proxy
        tasks.cancel_scope.cancel()


async def _pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream) -> None:
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for part in source:
            await sink.send(part)

"""Serve the suite's connector on a socket, on whichever loop is running, and end in bounded time."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import sniffio

from settlement_core.conformance.connector import Connector, Reply
from settlement_core.values.errors import LocalError

__all__ = ["ListenFailed", "open_listener"]

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request body; what is longer is dropped unanswered."""

GRACE_S: Final = 1.0
"""Seconds for open connections once the suite has ended; every answer is given at once."""

END_S: Final = 10.0
"""Seconds after which the server is cancelled."""

_log = logging.getLogger(__name__)


class ListenFailed(LocalError):
    """The address for the engine's calls cannot be listened on."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot listen on {address}, where the engine is to find its connector: {reason}")


@asynccontextmanager
async def open_listener(connector: Connector, host: str, port: int) -> AsyncIterator[None]:
    """Serve the connector until the block ends. Raises `ListenFailed`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]  # Python repeats the address in brackets
        raise ListenFailed(f"{host}:{port}", reason) from None
    stop = anyio.Event()
    ending = anyio.CancelScope(shield=True)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, connector, listener, stop, ending, name=f"connector on port {port}")
        try:
            # bound and listening already, so whoever connects before the first accept only waits for it
            yield
        except Exception as error:  # noqa: BLE001  raised below: the caller's own failure needs no group around it
            failure = error
        finally:
            stop.set()
            ending.deadline = anyio.current_time() + END_S
    if failure is not None:
        raise failure


async def _serve(connector: Connector, listener: socket.socket, stop: anyio.Event, ending: anyio.CancelScope) -> None:
    from hypercorn.config import Config  # noqa: PLC0415  only who serves pays for it

    config = Config()
    config.accesslog = None
    config.errorlog = _log
    config.graceful_timeout = GRACE_S
    config.bind = [f"fd://{listener.fileno()}"]
    if sniffio.current_async_library() == "trio":
        from hypercorn.trio import serve  # noqa: PLC0415
    else:
        from hypercorn.asyncio import serve  # type: ignore[assignment]  # noqa: PLC0415

    run: Any = partial(serve, _App(connector), config, shutdown_trigger=stop.wait, mode="asgi")  # type: ignore[arg-type]
    # cancelled from outside, hypercorn for asyncio leaves its sockets open: it is only ever asked to end
    with ending:
        listener.detach()  # hypercorn makes the descriptor its own
        await run()


class _App:
    """An ASGI application in front of the connector."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            body = await _read(receive)
            if body is not None:
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
                path = scope["raw_path"].decode("latin-1")
                now = anyio.current_time()
                await _answer(self._connector.respond(scope["method"], path, headers, body, now), send)


async def _read(receive: Any) -> bytes | None:
    """Return the whole body, or None if it never ends or the engine went away."""
    body = b""
    more = True
    while more:
        event = await receive()
        if event["type"] != "http.request" or len(body) > MAX_BODY:
            return None
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


async def _answer(reply: Reply, send: Any) -> None:
    if reply.status is None:
        # Hypercorn answers 500 for an application that ends before it begins a response. An informational response
        # counts as a beginning, but leaves the exchange unfinished, so it can only close the connection.
        await send({"type": "http.response.start", "status": 103, "headers": []})
        return
    headers = [(b"content-type", reply.content_type.encode()), (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})

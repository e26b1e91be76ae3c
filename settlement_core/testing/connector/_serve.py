"""Serve answers on a loopback socket, on whichever loop is running, and end in bounded time."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import anyio
import sniffio

from settlement_core.testing.connector._wire import DROP, Answer

__all__ = ["Handler", "open_server"]

Handler: TypeAlias = Callable[[str, str, dict[str, str], bytes], Awaitable[Answer]]
"""Method, path, headers by lower-case name, and body, to an answer."""

MAX_BODY = 1024 * 1024
"""Bytes of a request body; far above any message, so that refusing one is the handler's decision."""

GRACE_S = 3.0
"""Seconds for open connections once the server ends; what was being answered is cut before."""

END_S = 10.0
"""Seconds after which an ending server is cancelled."""

_log = logging.getLogger("settlement_core.testing")


class _App:
    """An ASGI application that turns requests into answers, and can be cut short."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._at_work: set[anyio.CancelScope] = set()
        self.crashes: list[Exception] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self._respond(scope, receive, send)

    async def _respond(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request" or len(body) > MAX_BODY:
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answer = DROP
        with anyio.CancelScope() as work:
            self._at_work.add(work)
            try:
                # not scope["path"]: a slash inside an id must not become one between segments
                answer = await self._handler(scope["method"], scope["raw_path"].decode("latin-1"), headers, body)
            except Exception as error:  # noqa: BLE001  raised by open_server: a fake that breaks must be loud
                self.crashes.append(error)
            finally:
                self._at_work.discard(work)
        await _send(answer, send)

    def cut(self) -> None:
        """Drop everything that is still being answered."""
        for work in self._at_work:
            work.cancel()


async def _send(answer: Answer, send: Any) -> None:
    if answer.status is None:
        # Hypercorn answers 500 for an application that ends or fails before it begins a response. An informational
        # response counts as a beginning, but leaves the exchange unfinished, so it can only close the connection;
        # the client sees it end without a response.
        await send({"type": "http.response.start", "status": 103, "headers": []})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


@asynccontextmanager
async def open_server(handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve on a socket of our own, yield its URL, and end gracefully within `END_S` seconds."""
    listener = socket.create_server((host, port), backlog=256)
    bound = listener.getsockname()[1]
    app = _App(handler)
    stop = anyio.Event()
    ending = anyio.CancelScope(shield=True)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, app, listener, stop, ending, name=f"test server on port {bound}")
        try:
            # bound and listening already, so whoever connects before the first accept only waits for it
            yield f"http://{host}:{bound}"
        except Exception as error:  # noqa: BLE001  raised below: the caller's own failure needs no group around it
            failure = error
        finally:
            app.cut()
            stop.set()
            ending.deadline = anyio.current_time() + END_S
    if app.crashes:
        raise ExceptionGroup("the test server crashed while answering", app.crashes) from failure
    if failure is not None:
        raise failure


async def _serve(app: _App, listener: socket.socket, stop: anyio.Event, ending: anyio.CancelScope) -> None:
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

    run: Any = partial(serve, app, config, shutdown_trigger=stop.wait, mode="asgi")  # type: ignore[arg-type]
    # Cancelled from outside, hypercorn for asyncio leaves its sockets open: it is only ever asked to end.
    with ending:
        listener.detach()  # hypercorn makes the descriptor its own
        await run()

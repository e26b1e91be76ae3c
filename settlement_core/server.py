"""One settlement engine as a server: hypercorn runs as a child of our nursery, never the other way round.

Shutdown is the same every time: new work is answered 503, HTTP drains, nothing more is claimed, effects in flight end
or are cut at the deadline, the engine closes, the journal drains.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import hypercorn
import sniffio
from anyio.abc import TaskStatus

from settlement_core.abc import ConnectEngine, Connector, Observer, Store
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import open_core
from settlement_core.http.admin import create_admin_app
from settlement_core.http.app import create_app
from settlement_core.http.requests import Dialect
from settlement_core.values.errors import LocalError

__all__ = ["ServerAddresses", "ServerConfig", "start_server"]

BACKLOG = 1024
"""Connections the system may hold for us: a burst of connectors reconnecting after a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where and how a server listens.

    Attributes:
        host, port: of the Settlement Engine HTTP API; port 0 takes a free one.
        admin_host, admin_port: of the operator's API; None does not serve it.
        certfile, keyfile: PEM files; with them the API speaks TLS, and HTTP/2 by ALPN.
        ca_certs: PEM file of authorities; with it clients must show a certificate of theirs.
        drain_s: how long requests under way may take at shutdown.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    admin_host: str = "127.0.0.1"
    admin_port: int | None = 3001
    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None
    drain_s: float = 3.0
    dialect: Dialect = field(default_factory=Dialect)


@dataclass(frozen=True, slots=True)
class ServerAddresses:
    """Where a started server listens."""

    url: str
    admin_url: str | None


async def start_server(
    connect_engine: ConnectEngine,
    *,
    store: Store,
    connector: Connector,
    config: ServerConfig | None = None,
    core_config: CoreConfig | None = None,
    observer: Observer | None = None,
    shutdown_trigger: Callable[[], Awaitable[object]] = anyio.sleep_forever,
    task_status: TaskStatus[ServerAddresses] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a settlement engine until `shutdown_trigger` returns, then shut down in order.

    Runs on trio and asyncio; start it in a task group to learn the addresses once it listens:
    `addresses = await tasks.start(partial(start_server, connect_engine, store=…, connector=…))`.

    Raises `LocalError` if it cannot listen; what breaks the engine or the store for good is raised in a group.
    """
    config = config or ServerConfig()
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(_listen(config.host, config.port, "--port"))
        admin_listener = None
        if config.admin_port is not None:
            admin_listener = sockets.enter_context(_listen(config.admin_host, config.admin_port, "--admin-port"))
        async with (
            open_core(connect_engine, store=store, connector=connector, config=core_config, observer=observer) as core,
            anyio.create_task_group() as tasks,
        ):
            stop = anyio.Event()
            app = create_app(core, dialect=config.dialect)
            tasks.start_soon(_serve, app, _hypercorn(config, listener), stop, name="http")
            admin_url = None
            if admin_listener is not None:
                admin_url = _url(admin_listener, tls=False)
                settings = _hypercorn(ServerConfig(drain_s=config.drain_s), admin_listener)
                tasks.start_soon(_serve, create_admin_app(core), settings, stop, name="admin http")
            task_status.started(ServerAddresses(_url(listener, tls=config.certfile is not None), admin_url))
            await shutdown_trigger()
            core.refuse_new_work()
            stop.set()


def _hypercorn(config: ServerConfig, listener: socket.socket) -> hypercorn.Config:
    """Return hypercorn's settings for a listening socket, of which it gets a copy of its own."""
    settings = hypercorn.Config()
    settings.bind = [f"fd://{listener.dup().detach()}"]
    settings.backlog = BACKLOG
    settings.graceful_timeout = config.drain_s
    settings.certfile, settings.keyfile, settings.ca_certs = config.certfile, config.keyfile, config.ca_certs
    if config.ca_certs is not None:
        settings.verify_mode = ssl.CERT_REQUIRED
    settings.include_server_header = False
    settings.errorlog = logging.getLogger("settlement_core.http")
    settings.loglevel = "WARNING"
    return settings


async def _serve(app: Any, settings: hypercorn.Config, stop: anyio.Event) -> None:
    if sniffio.current_async_library() == "trio":
        import hypercorn.trio as loop  # noqa: PLC0415 - of the loop that runs
    else:
        import hypercorn.asyncio as loop  # type: ignore[no-redef]  # noqa: PLC0415 - of the loop that runs
    await loop.serve(app, settings, shutdown_trigger=stop.wait, mode="asgi")


def _listen(host: str, port: int, option: str) -> socket.socket:
    """Return a socket that listens, so that a port in use is one clear sentence before anything is opened."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as problem:
        raise LocalError(f"cannot listen on {host}:{port}: {problem}; choose another with {option}") from None


def _url(listener: socket.socket, *, tls: bool) -> str:
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{port}"

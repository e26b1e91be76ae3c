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
from anyio.abc import TaskStatus

from settlement_core.abc import ConnectEngine, Connector, Observer, Store
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import open_core
from settlement_core.http.admin import create_admin_app
from settlement_core.http.app import create_app
from settlement_core.http.connections import load_hypercorn
from settlement_core.http.requests import Dialect
from settlement_core.values.errors import LocalError

__all__ = ["ServerAddresses", "ServerConfig", "listen", "start_server"]

BACKLOG = 1024
"""Connections the system may hold for us: a burst of connectors reconnecting after a restart."""

CUT_S = 1.0
"""Once we are cancelled, how long HTTP may take to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where and how a server listens.

    Attributes:
        host, port: of the Settlement Engine HTTP API; port 0 takes a free one.
        admin_host, admin_port: of the operator's API; None does not serve it.
        certfile, keyfile: PEM files; with them the API speaks TLS, and HTTP/2 by ALPN.
        ca_certs: PEM file of authorities; with it clients must show a certificate of theirs.
        drain_s: how long requests under way may take at shutdown; the core answers each within 4 s by itself.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    admin_host: str = "127.0.0.1"
    admin_port: int | None = 3001
    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None
    drain_s: float = 5.0
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
    listener: socket.socket | None = None,
    admin_listener: socket.socket | None = None,
    shutdown_trigger: Callable[[], Awaitable[object]] = anyio.sleep_forever,
    task_status: TaskStatus[ServerAddresses] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a settlement engine until `shutdown_trigger` returns, then shut down in order.

    Runs on trio and asyncio; start it in a task group to learn the addresses once it listens:
    `addresses = await tasks.start(partial(start_server, connect_engine, store=…, connector=…))`.

    Sockets that listen already, `listener` and `admin_listener`, take the place of hosts and ports, and are closed at
    the end.

    Raises `LocalError` if it cannot listen; what breaks the engine or the store for good is raised in a group.
    """
    config = config or ServerConfig()
    settings, admin_settings = _hypercorn(config), _hypercorn(ServerConfig(drain_s=config.drain_s))
    with contextlib.ExitStack() as sockets:
        # a port in use is told before anything is opened; connections are refused until there is somebody to answer
        listener = sockets.enter_context(listener or _bind(config.host, config.port, "--port"))
        if admin_listener is None and config.admin_port is not None:
            admin_listener = _bind(config.admin_host, config.admin_port, "--admin-port")
        if admin_listener is not None:
            sockets.enter_context(admin_listener)
        async with (
            open_core(connect_engine, store=store, connector=connector, config=core_config, observer=observer) as core,
            anyio.create_task_group() as tasks,
        ):
            for ready in (listener, admin_listener):
                if ready is not None:
                    _listen(ready)
            stop = anyio.Event()
            app = create_app(core, dialect=config.dialect)
            tasks.start_soon(_serve, app, settings, listener, stop, name="http")
            admin_url = None
            if admin_listener is not None:
                admin_url = _url(admin_listener, tls=False)
                tasks.start_soon(
                    _serve, create_admin_app(core), admin_settings, admin_listener, stop, name="admin http"
                )
            task_status.started(ServerAddresses(_url(listener, tls=config.certfile is not None), admin_url))
            try:
                await shutdown_trigger()
            finally:
                core.refuse_new_work()
            stop.set()


def _hypercorn(config: ServerConfig) -> hypercorn.Config:
    """Return hypercorn's settings, having checked the TLS files: it would serve plain HTTP if one were missing."""
    settings = hypercorn.Config()
    settings.backlog = BACKLOG
    settings.graceful_timeout = config.drain_s
    settings.certfile, settings.keyfile, settings.ca_certs = config.certfile, config.keyfile, config.ca_certs
    if config.ca_certs is not None:
        settings.verify_mode = ssl.CERT_REQUIRED
    settings.include_server_header = False
    settings.errorlog = logging.getLogger("settlement_core.http")
    if (config.certfile is None) != (config.keyfile is None):
        raise LocalError("TLS needs a certificate and its key: give both --certfile and --keyfile, or neither")
    if config.ca_certs is not None and config.certfile is None:
        raise LocalError("clients can only show a certificate over TLS: --client-ca needs --certfile and --keyfile")
    try:
        settings.create_ssl_context()
    except (OSError, ValueError) as problem:
        files = ", ".join(name for name in (config.certfile, config.keyfile, config.ca_certs) if name)
        raise LocalError(f"cannot serve TLS with {files}: {problem}") from None
    return settings


async def _serve(app: Any, settings: hypercorn.Config, listener: socket.socket, stop: anyio.Event) -> None:
    """Serve until `stop` is set, then let requests under way end for `graceful_timeout` seconds.

    Hypercorn for asyncio leaves sockets open if it is cancelled. So if we are, it is asked to end all the same, and
    given `CUT_S` seconds to do so: what is durable already should still be answered.
    """
    serve = load_hypercorn()
    asked, ended, ending = anyio.Event(), anyio.Event(), anyio.CancelScope(shield=True)

    async def run() -> None:
        try:
            with ending:
                settings.bind = [f"fd://{listener.dup().detach()}"]  # which hypercorn closes
                await serve(app, settings, shutdown_trigger=asked.wait, mode="asgi")
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, name="hypercorn")
        try:
            await stop.wait()
            asked.set()
            with anyio.move_on_after(settings.graceful_timeout):
                await ended.wait()
        finally:
            settings.graceful_timeout = min(settings.graceful_timeout, CUT_S / 2)
            ending.deadline = anyio.current_time() + CUT_S
            asked.set()


def listen(host: str, port: int, option: str) -> socket.socket:
    """Return a socket that listens; a port in use is one clear sentence."""
    listener = _bind(host, port, option)
    _listen(listener)
    return listener


def _bind(host: str, port: int, option: str) -> socket.socket:
    listener: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as problem:
        if listener is not None:
            listener.close()
        raise LocalError(f"cannot listen on {host}:{port}: {problem}; choose another with {option}") from None
    return listener


def _listen(listener: socket.socket) -> None:
    try:
        listener.listen(BACKLOG)
    except OSError as problem:
        host, port = listener.getsockname()[:2]
        listener.close()
        raise LocalError(f"cannot listen on {host}:{port}: {problem}; another process took it meanwhile") from None


def _url(listener: socket.socket, *, tls: bool) -> str:
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{port}"

"""One settlement engine as a server: hypercorn runs as a child of our nursery, never the other way round.

Shutdown is the same every time: new work is answered 503, HTTP drains, nothing more is claimed, effects in flight end
or are cut at the deadline, the engine closes, the journal drains.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskStatus

from settlement_core.abc import ConnectEngine, Connector, Observer, Store
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.http.access import Access
from settlement_core.http.admin import create_admin_app
from settlement_core.http.app import create_bare_app
from settlement_core.http.backups import BACKUP_PATHS
from settlement_core.http.connections import load_hypercorn
from settlement_core.http.dashboard import PAGE_PATHS
from settlement_core.http.gate import AccessRules, Gate
from settlement_core.http.guarding import guard_hypercorn
from settlement_core.http.health import HEALTH_PATHS
from settlement_core.http.requests import Dialect
from settlement_core.http.settings import BACKLOG, HypercornSettings, make_settings
from settlement_core.observers.activity import Activity
from settlement_core.observers.feed import EventFeed
from settlement_core.observers.several import SeveralObservers
from settlement_core.values.amounts import check_amount
from settlement_core.values.errors import LocalError

if TYPE_CHECKING:
    from settlement_core.observers.metrics import Metrics
    from settlement_core.observers.webhooks import Webhooks

__all__ = ["ServerAddresses", "ServerConfig", "listen", "start_server"]

CUT_S = 1.0
"""Once we are cancelled, how long HTTP may take to end."""


SECRET_PATH = 16
"""Characters of a base path that nobody guesses: 16 random letters and digits are 95 bits."""

ADMIN_ACCESS = AccessRules(requests_per_s=200, max_requests=100, max_connections=100)
"""For a few people, their dashboards and the collectors of metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where and how a server listens, and to whom.

    Attributes:
        host, port: of the Settlement Engine HTTP API; port 0 takes a free one.
        admin_host, admin_port: of the operator's API; None does not serve it.
        certfile, keyfile: PEM files; with them the API speaks TLS, and HTTP/2 by ALPN.
        ca_certs: PEM file of authorities; with it clients must show a certificate of theirs.
        admin_certfile, admin_keyfile, admin_ca_certs: the same for the operator's API.
        h2c: speak HTTP/2 without TLS too, to clients that begin with it or ask for it.
        access, admin_access: who may ask which API, and how much.
        four_eyes_above: decisions of operators about more standard units than this need a second token's confirmation.
        insecure_listen: listen beyond this machine even where nothing keeps strangers out.
        drain_s: how long requests under way may take at shutdown; the core answers each within 4 s by itself.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    admin_host: str = "127.0.0.1"
    admin_port: int | None = 3001
    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None
    admin_certfile: str | None = None
    admin_keyfile: str | None = None
    admin_ca_certs: str | None = None
    h2c: bool = False
    access: AccessRules = field(default_factory=AccessRules)
    admin_access: AccessRules = ADMIN_ACCESS
    four_eyes_above: Decimal | None = None
    insecure_listen: bool = False
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
    webhooks: Webhooks | None = None,
    listener: socket.socket | None = None,
    admin_listener: socket.socket | None = None,
    shutdown_trigger: Callable[[], Awaitable[object]] = anyio.sleep_forever,
    reload_trigger: Callable[[], Awaitable[object]] = anyio.sleep_forever,
    task_status: TaskStatus[ServerAddresses] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a settlement engine until `shutdown_trigger` returns, then shut down in order.

    Runs on trio and asyncio; start it in a task group to learn the addresses once it listens:
    `addresses = await tasks.start(partial(start_server, connect_engine, store=…, connector=…))`.
    With prometheus-client installed, the operator's API has `/metrics`, which also show the queue of `webhooks`, an
    observer beside `observer`. Sockets that listen already, `listener` and `admin_listener`, take the place of hosts
    and ports, and are closed at the end.

    Each time that `reload_trigger` returns, the TLS files are read again, for connections from then on. If
    `shutdown_trigger` returns before the engine is connected, that is given up in order, and nothing is started.

    Raises `LocalError` if it cannot listen, or should not because strangers could reach it; what breaks the engine or
    the store for good is raised in a group.
    """
    config = config or ServerConfig()
    edge, admin_edge = _connector_edge(config), _admin_edge(config)
    with contextlib.suppress(_StoppedEarly), contextlib.ExitStack() as sockets:
        # a port in use is told before anything is opened; connections are refused until there is somebody to answer
        listener = sockets.enter_context(listener or _bind(config.host, config.port, "--port"))
        if admin_listener is None and config.admin_port is not None:
            admin_listener = _bind(config.admin_host, config.admin_port, "--admin-port")
        if admin_listener is not None:
            sockets.enter_context(admin_listener)
        if not config.insecure_listen:
            _refuse_strangers((edge, listener), (admin_edge, admin_listener))
        # who is never asked need not count
        shown = _Shown() if admin_listener is None else _Shown(_make_metrics(), EventFeed(), Activity())
        told = SeveralObservers(*(one for one in (observer, webhooks, *shown.observers()) if one is not None))
        opening = open_core(connect_engine, store=store, connector=connector, config=core_config, observer=told)
        async with (
            _open_until(shutdown_trigger, opening) as (core, stopping),
            anyio.create_task_group() as tasks,
        ):
            _listen(listener, admin_listener)
            stop = anyio.Event()
            app = create_bare_app(core, dialect=config.dialect)
            tasks.start_soon(_serve, app, edge, listener, stop, name="http")
            tasks.start_soon(_reload, reload_trigger, (edge.settings, admin_edge.settings), stop, name="reloading")
            admin_url = None
            if admin_listener is not None:
                admin_url = admin_edge.url(admin_listener)
                admin = create_admin_app(
                    core, webhooks=webhooks, four_eyes_above=config.four_eyes_above, **shown.by_name()
                )
                tasks.start_soon(_serve, admin, admin_edge, admin_listener, stop, name="admin http")
            task_status.started(ServerAddresses(edge.url(listener), admin_url))
            try:
                await stopping.wait()
            finally:
                core.refuse_new_work()
                shown.end()
            stop.set()


class _StoppedEarly(Exception):
    """The server is to end, and has not begun."""


@contextlib.asynccontextmanager
async def _open_until(
    shutdown_trigger: Callable[[], Awaitable[object]], opening: AbstractAsyncContextManager[Core]
) -> AsyncIterator[tuple[Core, anyio.Event]]:
    """Open a core and give it with the event of its end. Raises `_StoppedEarly` if that comes before it is open.

    An engine may wait for its ledger, or for the lead among workers, for as long as it likes.
    """
    stopping, opened = anyio.Event(), False
    async with anyio.create_task_group() as watching:
        with anyio.CancelScope() as start:

            async def watch() -> None:
                await shutdown_trigger()
                stopping.set()
                if not opened:
                    start.cancel()

            watching.start_soon(watch, name="shutdown trigger")
            async with opening as core:
                opened = True
                yield core, stopping
        watching.cancel_scope.cancel()
    if start.cancelled_caught:
        raise _StoppedEarly


async def _reload(
    trigger: Callable[[], Awaitable[object]], settings: Sequence[HypercornSettings], stop: anyio.Event
) -> None:
    """Read TLS files again whenever the trigger returns, until the server stops."""
    async with anyio.create_task_group() as waiting:

        async def wait() -> None:
            while True:
                await trigger()
                for one in settings:
                    one.read_certificates_again()

        waiting.start_soon(wait, name="reload trigger")
        await stop.wait()
        waiting.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Shown:
    """The observers whose findings the operator's API shows."""

    metrics: Metrics | None = None
    feed: EventFeed | None = None
    activity: Activity | None = None

    def observers(self) -> tuple[Observer | None, ...]:
        return self.metrics, self.activity, self.feed

    def by_name(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "activity": self.activity, "feed": self.feed}

    def end(self) -> None:
        # who follows events would have the server drain for as long as it may
        if self.feed is not None:
            self.feed.close()


def _make_metrics() -> Metrics | None:
    """Return what counts for `/metrics`; None without the package it needs."""
    try:
        from settlement_core.observers.metrics import Metrics  # noqa: PLC0415 - may not be installed
    except ModuleNotFoundError as missing:
        if missing.name != "prometheus_client":
            raise
        return None
    return Metrics()


@dataclass(frozen=True, slots=True)
class _Edge:
    """One of the two APIs: its gate, its server's settings, and what keeps strangers out, if anything does."""

    gate: Gate
    settings: HypercornSettings
    guarded: bool
    remedy: str

    def refuse_strangers(self, listener: socket.socket) -> None:
        """Refuse to listen where others than this machine's users come by, if nothing keeps them out."""
        host, port = listener.getsockname()[:2]
        if not (self.guarded or ipaddress.ip_address(host.partition("%")[0]).is_loopback):
            raise LocalError(
                f"refusing to listen on {host}:{port}, where strangers could move money: {self.remedy}, or say "
                "--insecure-listen if something else keeps them out; nothing was started"
            )

    def url(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.settings.ssl_enabled else 'http'}://{host}:{port}"


def _connector_edge(config: ServerConfig) -> _Edge:
    gate = Gate(config.access, name="settlement engine API", host=config.host)
    settings = make_settings(config.access, config.certfile, config.keyfile, config.ca_certs, prefix="--")
    settings.graceful_timeout, settings.h2c = config.drain_s, config.h2c
    secret = len(config.dialect.base_path.replace("/", "")) >= SECRET_PATH
    guarded = config.access.tokens is not None or config.ca_certs is not None or secret
    remedy = f"give --tokens, --client-ca, or a --base-path of at least {SECRET_PATH} random characters"
    return _Edge(gate, settings, guarded, remedy)


def _admin_edge(config: ServerConfig) -> _Edge:
    rules, ca_certs = config.admin_access, config.admin_ca_certs
    if config.four_eyes_above is not None:
        check_amount(config.four_eyes_above, "four_eyes_above")
        if rules.tokens is None:
            raise LocalError("a second token can only confirm where tokens are asked for: give --admin-tokens")
    tokenless = HEALTH_PATHS | PAGE_PATHS
    gate = Gate(rules, name="operator's API", tokenless=tokenless, whole=BACKUP_PATHS, host=config.admin_host)
    settings = make_settings(rules, config.admin_certfile, config.admin_keyfile, ca_certs, prefix="--admin-")
    settings.graceful_timeout, settings.h2c = config.drain_s, config.h2c
    guarded = rules.tokens is not None or ca_certs is not None
    return _Edge(gate, settings, guarded, "give --admin-tokens or --admin-client-ca")


def _refuse_strangers(*edges: tuple[_Edge, socket.socket | None]) -> None:
    for edge, listener in edges:
        if listener is not None:
            edge.refuse_strangers(listener)


async def _serve(app: Any, edge: _Edge, listener: socket.socket, stop: anyio.Event) -> None:
    """Serve until `stop` is set, then let requests under way end for `graceful_timeout` seconds.

    Hypercorn for asyncio leaves sockets open if it is cancelled. So if we are, it is asked to end all the same, and
    given `CUT_S` seconds to do so: what is durable already should still be answered.
    """
    guard_hypercorn()
    serve, settings, connections = load_hypercorn(), edge.settings, edge.settings.connections
    asked, hurry, ended, ending = anyio.Event(), anyio.Event(), anyio.Event(), anyio.CancelScope(shield=True)

    async def cut_at_last() -> None:
        # a client that does not read its answer could otherwise keep us from ever ending
        await hurry.wait()
        await anyio.sleep(CUT_S / 2)
        connections.cut()

    async def run() -> None:
        try:
            with ending:
                async with anyio.create_task_group() as beside:
                    beside.start_soon(connections.run_sweeps, settings.keep_alive_timeout, name="sweeps")
                    beside.start_soon(cut_at_last, name="last cut")
                    settings.bind = [f"fd://{listener.dup().detach()}"]  # which hypercorn closes
                    await serve(Access(app, edge.gate), settings, shutdown_trigger=asked.wait, mode="asgi")
                    beside.cancel_scope.cancel()
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
            hurry.set()


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


def _listen(*listeners: socket.socket | None) -> None:
    for listener in listeners:
        if listener is None:
            continue
        try:
            listener.listen(BACKLOG)
        except OSError as problem:
            host, port = listener.getsockname()[:2]
            listener.close()
            raise LocalError(f"cannot listen on {host}:{port}: {problem}; another process took it meanwhile") from None

"""`settlement-core serve`: one engine, one store, one connector, until SIGTERM."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import click
from anyio.abc import TaskStatus

from settlement_core.abc import ConnectEngine, Observer, Store
from settlement_core.archive import archive_to
from settlement_core.cli.notify import READY, notify_service_manager
from settlement_core.cli.observing import observing_options, open_tracing_if_asked, open_webhooks_if_asked
from settlement_core.cli.options import FILE, access_options, option, read_access, read_base_path
from settlement_core.cli.printing import say
from settlement_core.cli.restoring import set_aside_before_workers, set_aside_if_restored
from settlement_core.cli.secrets import URL, read_setting, warn_of_exposed, without_secrets
from settlement_core.cli.signals import EarlySignals, watch_signals
from settlement_core.cli.types import AMOUNT, DAYS, SECONDS
from settlement_core.cli.workers import Bell, Place, keep_workers, my_place
from settlement_core.connector import open_connector
from settlement_core.core.config import CoreConfig
from settlement_core.core.effects import describe
from settlement_core.http.process import collect_garbage_rarely, raise_file_limit
from settlement_core.http.requests import Dialect
from settlement_core.observers.logs import LogObserver, start_logging
from settlement_core.observers.several import SeveralObservers
from settlement_core.server import ServerAddresses, ServerConfig, start_server
from settlement_core.store_urls import DEFAULT_STORE, open_store
from settlement_core.targets import load_target
from settlement_core.values.backoff import DAY_S
from settlement_core.values.errors import LocalError

__all__ = ["serve"]

logger = logging.getLogger("settlement_core")


def _parse_options(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return the options by name; a value may stand in a file that it names as @FILE."""
    options = {}
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", ctx, param)
        name, given = value.split("=", 1)
        try:
            options[name] = read_setting(given)
        except ValueError as problem:
            raise click.BadParameter(f"{name}: {problem}", ctx, param) from None
        if without_secrets(given) != given:
            warn_of_exposed(ctx, param, f"write it into a file and say -o {name}=@FILE instead")
    return options


_PORT = click.IntRange(-1, 65535)


@click.command()
@click.argument("target", envvar="SETTLEMENT_TARGET")
@option(
    "--engine-options",
    "-o",
    multiple=True,
    callback=_parse_options,
    metavar="NAME=VALUE",
    help="An option of a shipped engine, NAME=@FILE if a file holds its value; -o may be repeated, the variable "
    "separates by spaces.",
)
@option(
    "--store",
    default=DEFAULT_STORE,
    type=URL,
    help="Where money is remembered: sqlite:PATH, redis://HOST:PORT to share it, or memory: to try things out; @FILE "
    "if a file holds the URL, as of one with a password.",
)
@option(
    "--workers",
    default=1,
    type=click.IntRange(1, 1000),
    help="Processes behind the one port; more than one need a store that they can share, in Redis.",
)
@option(
    "--lease",
    "lease_s",
    default=10.0,
    type=SECONDS,
    help="How long a process that shares its store may be silent until others take over its accounts.",
)
@option(
    "--keep-history",
    "history_days",
    default=90.0,
    type=DAYS,
    help="Days of use for which closed attempts stay in the store. When they leave, sums and settlement ids stay. "
    "0: for ever.",
)
@option(
    "--archive",
    type=click.Path(file_okay=False),
    help="A folder for attempts that leave the store; without it, they are gone for good.",
)
@option(
    "--connector-url",
    default="http://127.0.0.1:7771",
    type=URL,
    help="The connector's settlement API, whose /accounts we credit; @FILE if a file holds the URL, as of one with a "
    "secret path.",
)
@option(
    "--connector-timeout",
    "connector_timeout_s",
    default=30.0,
    type=SECONDS,
    help="How long one call to it may take.",
)
@option(
    "--connector-token-file",
    type=FILE,
    help="A file with the bearer token to send it; or set SETTLEMENT_CONNECTOR_TOKEN.",
)
@option("--connector-certificate", type=FILE, help="A PEM file with our client certificate and its key.")
@option("--connector-ca", type=FILE, help="A PEM file of the only authorities to trust for the connector.")
@option(
    "--connector-scale",
    type=click.IntRange(0, 255),
    help="Credit only down to this scale; dust waits until it adds up.",
)
@option(
    "--credit-cap",
    type=AMOUNT,
    help="Largest single credit, in standard units; unset: what 63 bits hold at --connector-scale.",
)
@option(
    "--connector-memory",
    "connector_memory_s",
    type=SECONDS,
    help="How long the connector remembers an idempotency key after its first use. A credit that was sent and not "
    "answered is offered again only within this time, then held. Java connector: 300, Interledger.rs: 86400, "
    "Rafiki: 0. Unset: offered again without end.",
)
@option(
    "--stop-after-doubts",
    default=5,
    type=click.IntRange(0),
    help="Payments in a row, over all accounts, that may end in doubt until nothing new is paid and resume --payments "
    "is needed; 0 never stops.",
)
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", default=3000, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@option("--admin-host", default="127.0.0.1", help="Address of the operator's API.")
@option(
    "--admin-port",
    default=3001,
    type=_PORT,
    help="Port of the operator's API; 0 takes a free one, -1 serves none; further workers take the ports above it.",
)
@access_options
@option("--backend", type=click.Choice(["trio", "asyncio"]), default="trio", help="The event loop to run on.")
@option(
    "--create-unknown-accounts",
    is_flag=True,
    help="Open an account on its first settlement or message (Interledger.rs never repeats a failed creation).",
)
@option(
    "--rafiki", is_flag=True, help="Also take 2019's Rafiki: POST …/settlement, and requests without Idempotency-Key."
)
@click.option(
    "--restored",
    is_flag=True,
    help="The store was restored from a backup, and may be older than the ledger: park what is unsettled in it and "
    "pause its accounts before serving it. Only for the first start after that.",
)
@option("--shutdown", "shutdown_s", default=10.0, type=SECONDS, help="How long payments under way may take at SIGTERM.")
@option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="One event a line, for people or for machines.",
)
@option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least important events to log.",
)
@observing_options
def serve(target: str, engine_options: dict[str, str], **settings: Any) -> None:
    """Serve a settlement engine to a connector (RFC 0038), until SIGTERM or Ctrl-C.

    TARGET, or the variable SETTLEMENT_TARGET, says what settles: a file and the function in it that makes the engine
    (my_engine.py:connect_engine), a module and its function (package.module:connect_engine), or a shipped engine:

    \b
        simulated   a ledger in a file: -o ledger=PATH -o address=NAME
        ethereum    ether or a token: -o chain_id=N -o node=URL -o key_file=PATH [-o token=0x…]
                    or SETTLEMENT_ETHEREUM_NODE, SETTLEMENT_ETHEREUM_KEY, SETTLEMENT_ETHEREUM_PASSWORD

    Prints one line with its URLs once it listens. SIGTERM answers new requests with 503, lets payments under way
    end, and exits 0; a second one cuts them (they are looked at again at the next start). SIGHUP reads certificates
    again; token files are read again whenever they change.

    Bad settings, found before it listens, are exit code 2. Whatever ends it later is exit code 1, with its cause in one
    line and a traceback in the log.

    It listens on this machine only. Beyond it, --tokens, --client-ca or a secret --base-path must keep strangers from
    the connector's API, and --admin-tokens or --admin-client-ca from the operator's. /live and /ready on the
    operator's port tell those who watch the process how it is, and /metrics tells Prometheus, with prometheus-client
    installed. With --webhook-url, each event that moved money or waits for a person is posted there, signed.

    With --workers one process keeps several, which share the accounts; one that is killed is replaced, and meanwhile
    the others look after its accounts. On several machines, each serves the same --store.
    """
    start_logging(style=settings["log_format"], level=settings["log_level"])
    early, listening = EarlySignals(), threading.Event()
    place = my_place()
    raise_file_limit()
    if settings["workers"] > 1 and place is None:
        set_aside_before_workers(settings)
        keep_workers(settings["workers"], target, settings)
    connect_engine = load_target(target, engine_options)
    try:
        with open_tracing_if_asked(settings) as tracing, closing(_open_store(settings)) as store:
            if place is None:
                set_aside_if_restored(store, settings)
            observer = LogObserver() if tracing is None else SeveralObservers(LogObserver(), tracing)
            parts = (target, connect_engine, store, settings, early)
            run = partial(_serve, *parts, listening=listening, place=place, observer=observer)
            early.keep()
            anyio.run(run, backend=settings["backend"])
    except Exception as problem:  # noqa: BLE001 - the last place: whatever ended the server is told, by its cause
        _exit(problem, listened=listening.is_set())


def _open_store(settings: dict[str, Any]) -> Store:
    return open_store(settings["store"], incomplete=settings["restored"])


async def _serve(
    target: str,
    connect_engine: ConnectEngine,
    store: Store,
    settings: dict[str, Any],
    early: EarlySignals,
    *,
    listening: threading.Event,
    place: Place | None,
    observer: Observer,
) -> None:
    async with (
        open_connector(
            settings["connector_url"],
            timeout_s=settings["connector_timeout_s"],
            bearer_token=_token(settings),
            client_certificate=settings["connector_certificate"],
            ca_file=settings["connector_ca"],
        ) as connector,
        anyio.create_task_group() as tasks,
    ):
        stop, again = anyio.Event(), Bell()
        tasks.start_soon(watch_signals, stop, again, tasks.cancel_scope, early)
        if place is not None:
            tasks.start_soon(place.obey, stop, again, tasks.cancel_scope)

        async def run(*, task_status: TaskStatus[ServerAddresses]) -> None:
            # around the server, to hear of its end; a second signal cuts what they still have to say
            async with open_webhooks_if_asked(settings) as webhooks:
                await start_server(
                    connect_engine,
                    store=store,
                    connector=connector,
                    config=_server_config(settings),
                    core_config=_core_config(settings),
                    observer=observer,
                    webhooks=webhooks,
                    listener=place.listener if place else None,
                    admin_listener=place.admin_listener if place else None,
                    shutdown_trigger=stop.wait,
                    reload_trigger=again.wait,
                    task_status=task_status,
                )
            tasks.cancel_scope.cancel()

        try:
            addresses = await tasks.start(run)
        except RuntimeError:
            # it ended without having started, as it was told to
            if stop.is_set():
                return
            raise
        listening.set()
        collect_garbage_rarely()
        notify_service_manager(READY)
        # which, if it is one of several machines', knows its URL without passwords
        name = getattr(store, "name", settings["store"])
        name += ", which was created now" if getattr(store, "created", False) else ""
        if place is not None:
            place.tell(url=addresses.url, admin_url=addresses.admin_url, store=name)
            return
        admin = f", admin {addresses.admin_url}" if addresses.admin_url else ""
        say(f"settlement engine {target} on {addresses.url}{admin}, store {name}")


def _core_config(settings: dict[str, Any]) -> CoreConfig:
    try:
        return CoreConfig(
            connector_scale=settings["connector_scale"],
            credit_cap=settings["credit_cap"],
            connector_memory_s=settings["connector_memory_s"],
            create_unknown_accounts=settings["create_unknown_accounts"],
            stop_after_doubts=settings["stop_after_doubts"],
            shutdown_s=settings["shutdown_s"],
            history_retention_s=settings["history_days"] * DAY_S or None,
            archive=settings["archive"] and archive_to(settings["archive"]),
            lease_s=settings["lease_s"],
            poll_s=min(1.0, settings["lease_s"] / 3),
        )
    except ValueError as problem:
        raise LocalError(f"a setting is wrong: {problem}") from None
    except OSError as problem:
        raise LocalError(f"cannot archive to {settings['archive']}: {problem}") from None


def _server_config(settings: dict[str, Any]) -> ServerConfig:
    return ServerConfig(
        host=settings["host"],
        port=settings["port"],
        admin_host=settings["admin_host"],
        admin_port=settings["admin_port"] if settings["admin_port"] >= 0 else None,
        dialect=Dialect(base_path=read_base_path(settings), rafiki=settings["rafiki"]),
        **read_access(settings),
    )


def _token(settings: dict[str, Any]) -> str | None:
    """Return the connector's token; a secret is never a command-line argument, which others can see."""
    if settings["connector_token_file"]:
        return Path(settings["connector_token_file"]).read_text(encoding="utf-8").strip()
    return os.environ.get("SETTLEMENT_CONNECTOR_TOKEN") or None


def _exit(problem: Exception, *, listened: bool) -> NoReturn:
    """Say what ended the server.

    Settings the user can mend are exit code 2, with which service managers do not start it again. Once it has listened
    its settings were good: whatever ends it then is exit code 1, with a traceback in the log.
    """
    causes = list(_leaves(problem))
    for cause in causes:
        say(f"Error: {cause if isinstance(cause, LocalError) else describe(cause)}", err=True)
    if not listened and all(isinstance(cause, LocalError) for cause in causes):
        sys.exit(2)
    logger.log(logging.ERROR if listened else logging.DEBUG, "the server failed", exc_info=problem)
    sys.exit(1)


def _leaves(problem: BaseException) -> Iterator[BaseException]:
    if isinstance(problem, BaseExceptionGroup):
        for part in problem.exceptions:
            yield from _leaves(part)
    else:
        yield problem

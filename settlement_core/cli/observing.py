"""The options of `serve` that say who else hears of events: a receiver of webhooks, a collector of traces."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from settlement_core.abc import Observer
from settlement_core.cli.options import FILE, option
from settlement_core.cli.secrets import URL
from settlement_core.observers.webhooks import Webhooks, open_webhooks
from settlement_core.values.errors import LocalError

__all__ = ["observing_options", "open_tracing_if_asked", "open_webhooks_if_asked"]

_OPTIONS = [
    option(
        "--webhook-url",
        metavar="URL",
        type=URL,
        help="Post signed messages there of what was settled, credited, in doubt, held, halted, paused or "
        "unattributed, of the engine's alarms, store failures and jumps of the wall clock. Other users "
        "of this machine see what is said here; a secret path is better said by the variable, or as @FILE.",
    ),
    option(
        "--webhook-secret-file",
        type=FILE,
        help="A file with the secret that signs them, of 16 characters or more; or set SETTLEMENT_WEBHOOK_SECRET.",
    ),
    option(
        "--webhook-ca",
        type=FILE,
        help="A PEM file of the only authorities to trust for it, instead of those of SSL_CERT_FILE or the system's.",
    ),
    option(
        "--webhook-proxy",
        metavar="URL",
        type=URL,
        help="The HTTP proxy through which webhooks leave; @FILE if a file holds the URL, as of one with a password. "
        "None is taken from HTTPS_PROXY.",
    ),
    option(
        "--otel",
        is_flag=True,
        help="Trace settlements with OpenTelemetry, over OTLP/HTTP, to the collector that OTEL_EXPORTER_OTLP_… name.",
    ),
]


def observing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who hears of events."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


@asynccontextmanager
async def open_webhooks_if_asked(settings: dict[str, Any]) -> AsyncIterator[Webhooks | None]:
    """Give the observer that posts webhooks; None without a URL for them."""
    if settings["webhook_url"] is None:
        yield None
        return
    ca_file, proxy = settings["webhook_ca"], settings["webhook_proxy"]
    async with open_webhooks(settings["webhook_url"], _secret(settings), ca_file=ca_file, proxy=proxy) as webhooks:
        yield webhooks


@contextmanager
def open_tracing_if_asked(settings: dict[str, Any]) -> Iterator[Observer | None]:
    """Give the observer that traces; None without --otel. To be opened around the event loop."""
    with ExitStack() as stack:
        yield _open_tracing(stack) if settings["otel"] else None


def _open_tracing(stack: ExitStack) -> Observer:
    try:
        from settlement_core.observers.tracing import open_tracing  # noqa: PLC0415 - only what is used

        return stack.enter_context(open_tracing())
    except ModuleNotFoundError as problem:
        raise LocalError(f"cannot trace as --otel asks: {problem}") from None


def _secret(settings: dict[str, Any]) -> str:
    """Return what signs; never a command-line argument, which others can see."""
    if settings["webhook_secret_file"]:
        return Path(settings["webhook_secret_file"]).read_text(encoding="utf-8").strip()
    secret = os.environ.get("SETTLEMENT_WEBHOOK_SECRET")
    if not secret:
        raise LocalError("webhooks are signed: give --webhook-secret-file, or set SETTLEMENT_WEBHOOK_SECRET")
    return secret

"""The options of `serve` that say who may ask its two APIs, and how much; and how an option is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from settlement_core.cli.secrets import warn_of_exposed
from settlement_core.cli.types import AMOUNT
from settlement_core.http.gate import AccessRules
from settlement_core.server import ADMIN_ACCESS, SECRET_PATH
from settlement_core.values.errors import LocalError

__all__ = ["FILE", "access_options", "option", "read_access", "read_base_path"]

FILE = click.Path(exists=True, dir_okay=False)
"""A file that can be read."""

_RATE = click.FloatRange(0, max=1e9)
_COUNT = click.IntRange(1, 1_000_000)

_USUAL = AccessRules()


def option(*names: str, **facts: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return an option whose environment variable has its name."""
    variable = "SETTLEMENT_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(
        *names, envvar=variable, show_envvar=True, show_default=facts.get("default") is not None, **facts
    )


def _warn_of_path(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    if path is not None and len(path.replace("/", "")) >= SECRET_PATH:
        warn_of_exposed(ctx, param, "write it into a file and name that by --base-path-file instead")
    return path


_OPTIONS = [
    option("--certfile", type=FILE, help="PEM certificate: serve TLS, and HTTP/2 by ALPN."),
    option("--keyfile", type=FILE, help="PEM key of --certfile."),
    option("--h2c", is_flag=True, help="Speak HTTP/2 without TLS too, by prior knowledge or by Upgrade: h2c."),
    option("--client-ca", type=FILE, help="PEM authorities: clients must show a certificate of theirs."),
    option(
        "--tokens",
        type=FILE,
        help="Bearer tokens of connectors, hashed by settlement-core token; read again whenever the file changes.",
    ),
    option(
        "--base-path",
        default=None,
        callback=_warn_of_path,
        help="A path before /accounts; 16 random characters or more keep strangers out. Other users of this machine "
        "see what is said here; a secret is better said by the variable.",
    ),
    option("--base-path-file", type=FILE, help="A file that holds the base path."),
    option("--admin-certfile", type=FILE, help="PEM certificate for the operator's API."),
    option("--admin-keyfile", type=FILE, help="PEM key of --admin-certfile."),
    option("--admin-client-ca", type=FILE, help="PEM authorities: operators must show a certificate of theirs."),
    option("--admin-tokens", type=FILE, help="Bearer tokens of operators, like --tokens; in a browser, the password."),
    option(
        "--four-eyes-above",
        type=AMOUNT,
        help="Decisions of operators about more than this, in standard units, need the confirmation of a second token: "
        "they are carried out once two of --admin-tokens have sent the same.",
    ),
    option(
        "--allowed-host",
        "allowed_hosts",
        multiple=True,
        metavar="NAME",
        help="A name by which clients call this server (Host header), besides --host, localhost and addresses. Pages "
        "whose Origin has this name may ask, on any port and behind any proxy. May be repeated; the variable separates "
        "by spaces.",
    ),
    option(
        "--insecure-listen",
        is_flag=True,
        help="Listen beyond this machine although nothing keeps strangers out: no token, certificate or secret path.",
    ),
    option(
        "--rate-limit",
        default=0.0,
        type=_RATE,
        help="Requests a second from one connector: one token, or else one address; 0 does not count.",
    ),
    option("--admin-rate-limit", default=ADMIN_ACCESS.requests_per_s, type=_RATE, help="The same for operators."),
    option(
        "--max-requests",
        default=_USUAL.max_requests,
        type=_COUNT,
        help="Connectors' requests to work on at once; more are answered 503.",
    ),
    option(
        "--max-connections",
        default=_USUAL.max_connections,
        type=_COUNT,
        help="Connectors' connections at once, at most a quarter of the process's files. A new one closes one that is "
        "slow to send its request, or the idlest; never one that waits for its answer.",
    ),
]


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who may ask."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


def read_access(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a `ServerConfig` that these options say."""
    names = settings["allowed_hosts"]
    return {
        "certfile": settings["certfile"],
        "h2c": settings["h2c"],
        "keyfile": settings["keyfile"],
        "ca_certs": settings["client_ca"],
        "admin_certfile": settings["admin_certfile"],
        "admin_keyfile": settings["admin_keyfile"],
        "admin_ca_certs": settings["admin_client_ca"],
        "insecure_listen": settings["insecure_listen"],
        "four_eyes_above": settings["four_eyes_above"],
        "access": AccessRules(
            tokens=settings["tokens"],
            allowed_hosts=names,
            requests_per_s=settings["rate_limit"] or None,
            max_requests=settings["max_requests"],
            max_connections=settings["max_connections"],
        ),
        "admin_access": replace(
            ADMIN_ACCESS,
            tokens=settings["admin_tokens"],
            allowed_hosts=names,
            requests_per_s=settings["admin_rate_limit"] or None,
        ),
    }


def read_base_path(settings: dict[str, Any]) -> str:
    """Return the base path, which may be a secret."""
    given, file = settings["base_path"], settings["base_path_file"]
    if given is not None and file is not None:
        raise LocalError("the base path is said twice: give either --base-path or --base-path-file")
    if file is None:
        return given or ""
    path = Path(file).read_text(encoding="utf-8").strip()
    if not path.strip("/"):
        # what should keep strangers out would then let everybody in
        raise LocalError(f"{file} holds no base path")
    return path

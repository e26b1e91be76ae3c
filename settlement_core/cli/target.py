"""Which books a command is about: a running server's, or those of a store that no server has open.

What the command line says is obeyed. What the environment says is often there for `serve`, as in a container: a store
that it names is opened only if no server answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
from click.core import ParameterSource

from settlement_core.cli.client import Credentials
from settlement_core.cli.secrets import URL
from settlement_core.store_urls import DEFAULT_STORE

__all__ = ["Target", "target_options", "usual_admin_url"]

_FILE = click.Path(exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where books are looked for.

    Attributes:
        admin_url: the server that is asked.
        ask_server: whether a server is asked at all.
        store: is opened if no server is asked or none answers; None if only the server will do.
        credentials: what the server is shown, and whom it must be certified by.
    """

    admin_url: str
    ask_server: bool
    store: str | None
    credentials: Credentials


def usual_admin_url() -> str:
    """Return the admin URL of a server on this machine that was started with this environment."""
    scheme = "https" if os.environ.get("SETTLEMENT_ADMIN_CERTFILE") else "http"
    host = os.environ.get("SETTLEMENT_ADMIN_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listens everywhere, so here too
    port = os.environ.get("SETTLEMENT_ADMIN_PORT", "")
    port = port if port.isdecimal() and int(port) else "3001"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def choose_target(
    *, store: str | None, store_said: bool, admin_url: str | None, url_said: bool, credentials: Credentials
) -> Target:
    """Return the target that options and environment name; `…_said` tells that the command line says it."""
    if store_said and url_said:
        raise click.UsageError("say one of --store and --admin-url")
    if store_said or url_said:
        chosen = None if url_said else store
    else:
        chosen = store if store is not None or admin_url is not None else DEFAULT_STORE
    return Target(
        admin_url=admin_url or usual_admin_url(), ask_server=not store_said, store=chosen, credentials=credentials
    )


_OPTIONS = [
    click.option(
        "--store",
        envvar="SETTLEMENT_STORE",
        show_envvar=True,
        type=URL,
        help="The store of a server that is not running, such as sqlite:settlement.db; @FILE if a file holds its URL. "
        "One that the variable names is opened only if no server answers.",
    ),
    click.option(
        "--admin-url",
        envvar="SETTLEMENT_ADMIN_URL",
        show_envvar=True,
        type=URL,
        help="The operator's API of a running server. Unset: http://127.0.0.1:3001, or where SETTLEMENT_ADMIN_HOST, "
        "SETTLEMENT_ADMIN_PORT and SETTLEMENT_ADMIN_CERTFILE have serve listen; then, if nothing answers, the store.",
    ),
    click.option(
        "--token-file",
        envvar="SETTLEMENT_ADMIN_TOKEN_FILE",
        show_envvar=True,
        type=_FILE,
        help="A file with the bearer token to show it; or set SETTLEMENT_ADMIN_TOKEN to the token.",
    ),
    click.option(
        "--admin-ca",
        envvar="SETTLEMENT_ADMIN_CA",
        show_envvar=True,
        type=_FILE,
        help="A PEM file of the only authorities to trust for an https URL, or the server's own certificate. Unset: "
        "those of SSL_CERT_FILE, or else the public ones.",
    ),
    click.option(
        "--admin-certificate",
        envvar="SETTLEMENT_ADMIN_CERTIFICATE",
        show_envvar=True,
        type=_FILE,
        help="A PEM file with our client certificate and its key.",
    ),
]


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name its target, which becomes its argument `target`."""

    @wraps(command)
    def with_target(
        *,
        store: str | None,
        admin_url: str | None,
        token_file: str | None,
        admin_ca: str | None,
        admin_certificate: str | None,
        **rest: Any,
    ) -> None:
        said = click.get_current_context().get_parameter_source
        target = choose_target(
            store=store,
            store_said=said("store") is ParameterSource.COMMANDLINE,
            admin_url=admin_url,
            url_said=said("admin_url") is ParameterSource.COMMANDLINE,
            credentials=Credentials(token_file=token_file, authorities=admin_ca, certificate=admin_certificate),
        )
        command(target=target, **rest)

    decorated: Callable[..., None] = with_target
    for decorate in reversed(_OPTIONS):
        decorated = decorate(decorated)
    return decorated

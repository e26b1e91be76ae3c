"""`settlement-core token`: a fresh bearer token, shown once, of which servers only keep a hash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from settlement_core.cli.printing import say
from settlement_core.http.tokens import DECIDE, NAME, ROLES, hash_line, new_token
from settlement_core.values.errors import LocalError

__all__ = ["token"]


def _check_name(ctx: click.Context, param: click.Parameter, value: Any) -> str:
    if not NAME.fullmatch(value):
        raise click.BadParameter("up to 64 letters, digits and . _ ~ -", ctx, param)
    return str(value)


@click.command()
@click.argument("name", callback=_check_name)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add its hash to this file, which serve --tokens or --admin-tokens reads; else it is printed, too.",
)
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default=DECIDE,
    show_default=True,
    help="What an operator's token may do: read only, without backups, or decide as well.",
)
def token(name: str, path: Path | None, role: str) -> None:
    """Make a bearer token, and show it once.

    NAME says whose it is; it stands in logs. A server keeps the token's hash only, so a copy of its file lets nobody
    in. To replace a token, make another under the same name, give it to its user, and delete the old one's line: a
    running server notices within a second of its next request.

    \b
        settlement-core token connector --file tokens
        settlement-core serve my_engine.py --tokens tokens
    """
    fresh = new_token()
    line = hash_line(name, fresh, role)
    if path is None:
        say(f"token  {fresh}")
        say(f"line   {line}")
        return
    _append(path, line)
    say(fresh)


def _append(path: Path, line: str) -> None:
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        # in one write, at the end: a server that reads meanwhile sees all of it or nothing
        content = ("" if not before or before.endswith("\n") else "\n") + line + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(content.encode())
            os.fsync(file.fileno())
    except (OSError, UnicodeDecodeError) as problem:
        raise LocalError(f"the token cannot be added to {path}: {problem}; it was not made") from None

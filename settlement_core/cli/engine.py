"""`settlement-core engine`: what the engine says of its ledger."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from settlement_core.cli.books import on_books
from settlement_core.cli.printing import add_row, make_table, print_table, say
from settlement_core.cli.source import Source

__all__ = ["engine"]


@click.command()
@on_books
def engine(source: Source, *, as_json: bool) -> None:
    """Show what a running server's engine says of its ledger: balance, fees, what is under way, how far it has come.

    If it has an alarm, for which nothing new is paid until a person has looked, or cannot tell, that is the last line,
    and the exit code is 1.
    """
    told = source.engine()
    status = told["status"]
    problem = status.get("alarm") or status.get("error")
    if as_json:
        say(json.dumps(told))
    else:
        table = make_table("what", "value")
        for name, value in _rows(status):
            add_row(table, name, value)
        last = f"{told['engine']} has no alarm" if status else f"{told['engine']} tells nothing of its ledger"
        print_table(table, f"ALARM: {problem}" if problem else last)
    if problem:
        sys.exit(1)


def _rows(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield a JSON value's parts, each with the path to it in words."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _rows(part, f"{name} {key}".strip().replace("_", " "))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "" if value is None else str(value)

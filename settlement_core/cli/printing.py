"""What commands print: tables and sentences in which nothing that came from outside moves a cursor or hides text."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from settlement_core.cli.tables import Listing, as_text
from settlement_core.cli.terminal import representable
from settlement_core.values.texts import visible_text

__all__ = ["add_row", "as_text", "console", "count", "make_table", "print_table", "say"]


def say(sentence: str, *, err: bool = False) -> None:
    """Print a line, on standard error if `err`: the only way in which commands print text.

    Ledgers, peers and connectors write into reasons, memos and ids. Terminal codes among them become spaces, and so do
    line breaks, by which one line could pass for another.
    """
    click.echo(visible_text(sentence), err=err)


_SUMS = ("entered", "open", "settled", "queued")
"""What a narrow table of sums lacks, the first to go first: never what waits for a decision."""


def make_table(*columns: str, drops: Sequence[str] = _SUMS) -> Listing:
    """Return a table whose amounts and ids stay whole; a narrow one lacks the columns `drops`, from the first on."""
    return Listing(columns, drops)


def add_row(table: Listing | Table, *cells: str) -> None:
    """Add a row of plain text: what strangers wrote is no markup, and moves no cursor."""
    table.add_row(*(as_text(representable(cell)) for cell in cells))


def count(number: int, what: str) -> str:
    """Return "1 account", "2 accounts"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def print_table(table: Listing, summary: str, *, asset: str = "") -> None:
    """Print a table, unless it is empty, and a line below it, which says what amounts are in."""
    summary += f"; amounts in {asset}" if asset else ""
    if table.row_count:
        console().print(table)
    say(summary)


def console(width: int = 250, *, stderr: bool = False) -> Console:
    """Return where tables are printed; a file has no edge to fold at, and gets this width."""
    made = Console(stderr=stderr)
    if not made.is_terminal:
        made.width = width
    return made

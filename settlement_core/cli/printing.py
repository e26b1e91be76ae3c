"""What commands print: tables and sentences in which nothing that came from outside moves a cursor or hides text."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from settlement_core.values.texts import visible_text

__all__ = ["add_row", "as_text", "console", "count", "make_table", "print_table", "say"]


def say(sentence: str, *, err: bool = False) -> None:
    """Print a line, on standard error if `err`: the only way in which commands print text.

    Ledgers, peers and connectors write into reasons, memos and ids. Terminal codes among them become spaces, and so do
    line breaks, by which one line could pass for another.
    """
    click.echo(visible_text(sentence), err=err)


def make_table(*columns: str) -> Table:
    """Return a table whose amounts and ids stay whole."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        figures = column in {"amount", "entered", "queued", "open", "settled", "in doubt / held"}
        # an id that is broken into lines cannot be copied into the next command
        whole = figures or column in {"attempt", "settlement"}
        table.add_column(column, justify="right" if figures else "left", overflow="fold", no_wrap=whole)
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text: what strangers wrote is no markup, and moves no cursor."""
    table.add_row(*map(as_text, cells))


def as_text(written: str, style: str = "") -> Text:
    """Return text as it is, whatever line breaks or terminal codes it brings from outside."""
    return Text(visible_text(written), style=style)


def count(number: int, what: str) -> str:
    """Return "1 account", "2 accounts"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def print_table(table: Table, summary: str) -> None:
    """Print a table, unless it is empty, and a line below it."""
    if table.row_count:
        console().print(table)
    say(summary)


def console(width: int = 250, *, stderr: bool = False) -> Console:
    """Return where tables are printed; a file has no edge to fold at, and gets this width."""
    made = Console(stderr=stderr)
    if not made.is_terminal:
        made.width = width
    return made

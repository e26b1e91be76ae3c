"""Tables that fit the terminal: figures and ids stay whole, text folds, and columns are dropped in a stated order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from settlement_core.values.texts import visible_text

__all__ = ["Listing", "as_text", "grouped"]

_FIGURES = frozenset(
    {"amount", "entered", "queued", "open", "settled", "in doubt / held", "requested", "credited", "FROM", "TO"}
)

_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")

_WHOLE = frozenset({"attempt", "settlement"})
"""Columns of ids that the next command takes: an id in two lines cannot be copied."""

_GAP = 2
"""Spaces between two columns."""

_NARROW = 16
"""A column of text is never narrower than its longest word, or this."""

_ID = 36
"""Columns are dropped for an account's id of up to this, a UUID, to be whole; longer ones fold."""

_SHORT = 40
"""Short texts are whole before longer ones get more."""


def as_text(written: str, style: str = "") -> Text:
    """Return text as it is, whatever line breaks or terminal codes it brings from outside."""
    return Text(visible_text(written), style=style)


def grouped(amount: str) -> str:
    """Return an amount with its whole digits in groups of three, between spaces: a comma is a decimal sign to some."""
    if not _AMOUNT.fullmatch(amount):
        return amount
    whole, point, fraction = amount.partition(".")
    if not int(whole) and not fraction.strip("0"):
        return "0"
    return f"{int(whole):,}".replace(",", " ") + point + fraction


class Listing:
    """A table; rich prints it at whatever width it has.

    Args:
        columns: their headings. Amounts and ids are known by their names.
        drops: the columns that a narrow terminal is not shown, the first to go first.
    """

    def __init__(self, columns: Sequence[str], drops: Sequence[str] = ()) -> None:
        self._columns = list(columns)
        self._drops = list(drops)
        self._rows: list[list[Text]] = []

    @property
    def row_count(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def add_row(self, *cells: str | Text) -> None:
        """Add a row of plain text."""
        self._rows.append([cell if isinstance(cell, Text) else as_text(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        """Yield what rich prints: a table, and what it lacks; or, where not even that fits, a record for each row."""
        columns = [_Column(name, [row[place] for row in self._rows]) for place, name in enumerate(self._columns)]
        dropped: list[str] = []
        for name in self._drops if console.is_terminal else ():
            if sum(column.wanted + _GAP for column in columns) - _GAP <= options.max_width:
                break
            columns = [column for column in columns if column.name != name]
            dropped.append(name)
        if console.is_terminal and _least(columns) > options.max_width:
            yield from self._records()
            return
        yield _table(columns, options.max_width)
        if dropped:
            yield Text(f"(too narrow for: {', '.join(dropped)}; --json has everything)", style="dim")

    def _records(self) -> Iterator[Text]:
        label = max(map(len, self._columns))
        for row in self._rows:
            for name, cell in zip(self._columns, row, strict=True):
                if cell.plain:
                    shown = Text(grouped(cell.plain)) if name in _FIGURES else cell
                    yield Text.assemble((f"{name:{label}}  ", "bold"), shown)
            yield Text()


class _Column:
    """One column: its cells as they are printed, and how wide it must and would be."""

    def __init__(self, name: str, cells: list[Text]) -> None:
        self.name = name
        self.is_figure = name in _FIGURES
        self.cells = _aligned(cells, len(name)) if self.is_figure else cells
        self.natural = max([len(name), *(cell.cell_len for cell in self.cells)])
        words = [Text(word).cell_len for cell in self.cells for word in cell.plain.split()]
        folded = max([len(name), *(min(word, _NARROW) for word in words)])
        least = min(_NARROW, self.natural) if name == "state" else folded
        self.least = self.natural if self.is_figure or name in _WHOLE else min(least, self.natural)
        self.wanted = min(_ID, self.natural) if name == "account" else self.least


def _aligned(cells: list[Text], width: int) -> list[Text]:
    """Return amounts with group separators, at least so wide, with their points below each other."""
    written = [grouped(cell.plain) for cell in cells]
    longest = max((len(_fraction(text)) for text in written), default=0)
    padded = [text + " " * (longest - len(_fraction(text))) for text in written]
    width = max([width, *map(len, padded)])
    # padded on both sides: rich would take spaces at the end away before it justifies
    return [Text(text.rjust(width), style=cell.style) for text, cell in zip(padded, cells, strict=True)]


def _fraction(amount: str) -> str:
    return amount[len(amount.partition(".")[0]) :]


def _least(columns: Sequence[_Column]) -> int:
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _widths(columns: Sequence[_Column], width: int) -> dict[str, int]:
    """Share out what the columns need at least, then what short texts and ids want, then the rest."""
    widths = {column.name: column.least for column in columns}
    left = width - _least(columns)
    for most in (_SHORT, width):
        for column in sorted(columns, key=lambda column: column.natural):
            more = max(0, min(min(column.natural, most) - widths[column.name], left))
            widths[column.name] += more
            left -= more
    return widths


def _table(columns: Sequence[_Column], width: int) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    widths = _widths(columns, width)
    for column in columns:
        table.add_column(
            column.name.rjust(column.natural) if column.is_figure else column.name,
            overflow="fold",
            no_wrap=column.is_figure or column.name in _WHOLE,
            width=widths[column.name],
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table

"""`settlement-core migrate`: from one store to another, as when one machine is not enough any more."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import fields

import click

from settlement_core.abc import Store
from settlement_core.cli.printing import make_table, print_table, say
from settlement_core.cli.secrets import URL, without_secrets
from settlement_core.migration import MigrationReport, Route, examine
from settlement_core.migration import migrate as move
from settlement_core.store_urls import open_store, sqlite_path
from settlement_core.values.errors import LocalError
from settlement_core.values.sealing import SEAL, refuse_sealed

__all__ = ["migrate"]

TELL_EVERY_S = 1.0

_WORDS = {
    "suspense": "unattributed settlements",
    "values": "values of the engine",
    "outgoing parked": "outgoing in doubt",
    "incoming parked": "incoming held",
}


@click.command()
@click.argument("source", metavar="FROM", type=URL)
@click.argument("destination", metavar="TO", type=URL)
def migrate(source: str, destination: str) -> None:
    """Move all books from one store to another: accounts, money, its whole history, and what the engine noted.

    \b
        settlement-core migrate sqlite:settlement.db redis://127.0.0.1:6379
        settlement-core migrate redis://127.0.0.1:6379 sqlite:settlement.db
        settlement-core migrate sqlite:settlement.db @FILE        if a file holds the URL, as of one with a password

    Stop everything that serves FROM first; TO must be empty, or not exist yet. Both are audited and compared, to the
    last digit. From then on serve TO: FROM is kept as it is, can still be read, but refuses to be served. A server
    that still has FROM open, because it was suspended, cut off or just starting, is refused its next write and ends. If
    this is cut off, FROM is as it was, TO refuses to be served, and either is told by whoever tries; with differences,
    too, which are named, and the exit code is 1.
    """
    route = Route(_shown(source), _shown(destination))
    if route.source == route.destination:
        raise LocalError(f"FROM and TO are both {route.source}; name another store to migrate to")
    if destination == "memory:":
        raise LocalError("what is migrated to memory: would end with this command; name another store")
    progress = _Progress()
    with closing(open_store(source, create=False)) as old:
        examined = examine(old, route, progress)
        with closing(_open_new(old, destination)) as new:
            report = move(old, examined, new, route, progress)
    _print(report, route)
    if report.differences:
        sys.exit(1)


def _open_new(old: Store, destination: str) -> Store:
    """Open the new store; do not create one for books that have moved before."""
    (moved,) = old.apply([SEAL])
    try:
        return open_store(destination, create=moved is None)
    except LocalError:
        refuse_sealed(moved)
        raise


def _shown(url: str) -> str:
    """Return a store's URL as a person may read it anywhere: a path from the root, and no password."""
    if url.startswith("sqlite:"):
        return f"sqlite:{sqlite_path(url)}"
    return without_secrets(url)


class _Progress:
    """Tells on standard error what is being done, now and then."""

    def __init__(self) -> None:
        self._latest = -TELL_EVERY_S
        self._what = ""

    def __call__(self, sentence: str) -> None:
        what, now = sentence.partition(":")[0], time.monotonic()
        if what != self._what or now - self._latest >= TELL_EVERY_S:
            say(sentence, err=True)
            self._what, self._latest = what, now


def _print(report: MigrationReport, route: Route) -> None:
    table = make_table("", "FROM", "TO")
    for fact in fields(report.counts_before):
        counts = (getattr(report.counts_before, fact.name), getattr(report.counts_after, fact.name))
        table.add_row(_WORDS.get(fact.name, fact.name), *map(str, counts))
    for direction in ("outgoing", "incoming"):
        before, after = getattr(report.before, direction), getattr(report.after, direction)
        for fact in fields(before):
            if getattr(before, fact.name) or getattr(after, fact.name):
                sums = (f"{getattr(totals, fact.name):f}" for totals in (before, after))
                what = f"{direction} {fact.name}"
                table.add_row(_WORDS.get(what, what), *sums)
    if report.differences:
        print_table(table, "")
        for sentence in report.differences:
            say(f"DIFFERENCE: {sentence}")
        say(f"the stores differ: go on serving {route.source}, which is as it was, and delete {route.destination}")
    else:
        print_table(
            table, f"everything is in {route.destination} now: serve that one; {route.source} is kept, to be read"
        )

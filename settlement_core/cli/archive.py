"""`settlement-core archive`: what has left a store's history, and whether all of it was archived."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click

from settlement_core.archive import read_archive
from settlement_core.cli.books import every, on_books
from settlement_core.cli.printing import add_row, count, make_table, print_table, say
from settlement_core.cli.source import Source
from settlement_core.http.views import attempt_view
from settlement_core.values.amounts import ZERO, add, subtract
from settlement_core.values.errors import LocalError
from settlement_core.values.records import Attempt

__all__ = ["archive"]

_Sums = dict[tuple[str, str], Decimal]
"""What attempts settled, by account and direction."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--account", help="List only those of this account.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="List at most so many.")
@on_books
def archive(source: Source, *, as_json: bool, folder: str, account: str | None, limit: int) -> None:
    """List attempts in FOLDER that have left the store's history (serve --archive), and check that none is missing.

    For each account and direction, what the archived attempts settled must be what the store's totals say has left it.
    Exit code 1 if it is not: then part of the archive is missing, or attempts left while nothing was archived.
    """
    listed: list[Attempt] = []
    archived: _Sums = defaultdict(lambda: ZERO)
    number = 0
    for attempt in _read(folder):
        number += 1
        key = attempt.account_id, attempt.direction.value
        archived[key] = add(archived[key], attempt.settled or ZERO)
        if len(listed) < limit and account in {None, attempt.account_id}:
            listed.append(attempt)
    differences = _compare(source, _kept(source, folder, archived), archived)
    if as_json:
        attempts = [attempt_view(attempt) for attempt in listed]
        say(json.dumps({"archived": number, "attempts": attempts, "differences": differences}))
    else:
        _print(listed, number, differences)
    if differences:
        sys.exit(1)


def _read(folder: str) -> Iterator[Attempt]:
    try:
        yield from read_archive(folder)
    except (OSError, ValueError) as problem:
        raise LocalError(f"cannot read the archive in {folder}: {problem}") from None


def _kept(source: Source, folder: str, archived: _Sums) -> _Sums:
    """Return what archived attempts settled that are in the store all the same, as after a crash: it is no difference.

    Only the history of accounts that do not agree is read.
    """
    kept: _Sums = defaultdict(lambda: ZERO)
    doubtful = {account_id for (account_id, _), _, _ in _differing(source, {}, archived)}
    if not doubtful:
        return kept
    ids = {(attempt.account_id, attempt.attempt_id) for attempt in _read(folder) if attempt.account_id in doubtful}
    for account_id in doubtful:
        after: dict[str, Any] | None = None
        while found := source.attempts(account_id, ("closed",), after):
            for attempt in found:
                if (account_id, attempt["id"]) in ids:
                    key = account_id, attempt["direction"]
                    kept[key] = add(kept[key], Decimal(attempt["settled"]))
            after = found[-1]
    return kept


def _compare(source: Source, kept: _Sums, archived: _Sums) -> list[str]:
    return [
        f"account {account_id!r}, {direction}: {left:f} has left the store, but {there:f} is archived"
        for (account_id, direction), left, there in _differing(source, kept, archived)
    ]


def _differing(source: Source, kept: _Sums, archived: _Sums) -> Iterator[tuple[tuple[str, str], Decimal, Decimal]]:
    """Yield account and direction, what has left the store and what is archived of that, where they differ."""
    for account in every(source.accounts, lambda account: account["id"]):
        for direction in ("outgoing", "incoming"):
            key = account["id"], direction
            # a server of an earlier version has nothing leave
            left = Decimal(account[direction].get("retired", 0))
            there = subtract(archived.get(key, ZERO), kept.get(key, ZERO))
            if left != there:
                yield key, left, there


def _print(listed: list[Attempt], number: int, differences: list[str]) -> None:
    table = make_table("attempt", "account", "", "amount", "settled", "ended", "why")
    for a in listed:
        when = datetime.fromtimestamp(a.closed_at or a.claimed_at, UTC).isoformat(" ", "seconds")
        add_row(table, a.attempt_id, a.account_id, a.direction, f"{a.amount:f}", f"{a.settled:f}", when, a.reason)
    print_table(table, f"{count(len(listed), 'attempt')} of {number} archived")
    for difference in differences:
        say(f"PROBLEM: {difference}")
    if not differences:
        say("the archive is whole: it holds all that the totals say has left the store")

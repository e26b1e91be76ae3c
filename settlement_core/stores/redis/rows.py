"""Pages of one account's rows, read at one instant by `rows.lua`: what an audit compares with one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from settlement_core.stores.redis.account import AccountView
from settlement_core.stores.redis.layout import AccountKeys, attempt_of, entry_of, used_at_of
from settlement_core.stores.redis.scripts import Call, Reply, script
from settlement_core.values import commands as c
from settlement_core.values.records import Direction, Entry

__all__ = ["ROW_QUERIES", "answer_rows", "distinct", "read_rows"]

ROW_QUERIES = (c.Overview, c.Entries, c.History)
"""Queries on one account that are answered together, from one reading."""


def distinct(commands: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield the queries in order, in runs that ask for each kind of row once."""
    run: dict[object, Any] = {}
    for command in commands:
        kind = type(command), getattr(command, "direction", None)
        if kind in run:
            yield list(run.values())
            run = {}
        run[kind] = command
    yield list(run.values())


def read_rows(keys: AccountKeys, commands: Sequence[Any]) -> Call:
    """Return the call that reads what these queries ask for."""
    entries: dict[Direction, tuple[int, int]] = dict.fromkeys(Direction, (0, 0))
    after, limit = "", 0
    for command in commands:
        if isinstance(command, c.Entries):
            entries[command.direction] = (command.after, command.limit)
        elif isinstance(command, c.History):
            after, limit = command.after or "", command.limit
    lanes = [(keys.entries[way], keys.keys[way], keys.took[way]) for way in Direction]
    return Call(
        script("rows"),
        [
            keys.account,
            *(key for lane in lanes for key in lane),
            *(keys.attempts, keys.claims, keys.notes, keys.partition.lease),
        ],
        [*(number for page in entries.values() for number in page), after, limit],
    )


def answer_rows(keys: AccountKeys, commands: Sequence[Any], reply: Reply) -> list[c.Result]:
    """Return the queries' results."""
    *facts, outgoing, incoming, attempts = reply
    view = AccountView(keys, (), [*facts, [], []])
    pages = {Direction.OUTGOING: outgoing, Direction.INCOMING: incoming}
    results: list[c.Result] = []
    for command in commands:
        if isinstance(command, c.Entries):
            results.append(_entries(keys.account_id, command.direction, pages[command.direction]))
        elif isinstance(command, c.History):
            rows = zip(attempts[::2], attempts[1::2], strict=True)
            results.append([attempt_of(keys.account_id, attempt_id, row).attempt for attempt_id, row in rows])
        else:
            results.append(view.overview())
    return results


def _entries(account_id: str, direction: Direction, page: list[Any]) -> list[Entry]:
    found: list[Entry] = []
    for seq, row, attempt_id, key_row in zip(*(iter(page),) * 4, strict=True):
        used_at = used_at_of(key_row) if key_row else 0.0
        entry = entry_of(seq, account_id, direction, row, attempt_id=attempt_id or None, used_at=used_at)
        found.append(entry)
    return found

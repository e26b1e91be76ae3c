"""Queries over many accounts. Each reads about one page of each partition it asks, however much the store holds.

A piece of work is a generator: it yields calls, is sent their replies, and returns its result.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from settlement_core.stores._json import thaw
from settlement_core.stores.redis.account import AccountView
from settlement_core.stores.redis.layout import DIRECTION_LETTERS, Keyspace, attempt_of, lane_of, live_in, suspense_of
from settlement_core.stores.redis.looking import look
from settlement_core.stores.redis.scripts import Call, Reply, plain, script
from settlement_core.values import commands as c
from settlement_core.values.books import LaneBooks
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    EngineValue,
    SuspenseItem,
    WorkerOverview,
)

__all__ = ["Work", "due", "history", "ids_after", "overview", "read_fields", "suspense", "values", "workers"]

T = TypeVar("T")

Work: TypeAlias = Generator[Sequence[Call], list[Reply], T]
"""Yields calls, is sent the replies, returns a T."""

_AT_ONCE = 500
"""Accounts or attempts read in one pipeline."""


def read_fields(key: str, names: Sequence[Any]) -> Work[list[Any]]:
    """Return the values of a hash's fields, however many they are: one script takes some thousand arguments."""
    pages = yield [plain("HMGET", [key], names[start : start + _AT_ONCE]) for start in range(0, len(names), _AT_ONCE)]
    return [value for page in pages for value in page]


def ids_after(keys: Iterable[str], after: str, limit: int) -> Work[list[str]]:
    """Return the first ids above `after` of sorted sets that are in order of their members."""
    start = f"({after}" if after else "-"
    pages = yield [plain("ZRANGEBYLEX", [key], [start, "+", "LIMIT", 0, limit]) for key in keys]
    return heapq.nsmallest(limit, (found for page in pages for found in page))


def due(places: Keyspace, command: c.Due) -> Work[list[str]]:
    """Return one page of accounts with something to do."""
    partitions = places.partitions
    if command.partition is not None:
        partitions = partitions[command.partition : command.partition + 1]
    keys = [partition.due for partition in partitions]
    if command.direction is None:
        return (yield from ids_after(keys, command.after, command.limit))
    letter = DIRECTION_LETTERS[command.direction]
    fields = ["steps", f"lane.{letter}", f"seq.{letter}", f"taken.{letter}"]
    found: list[str] = []
    after = command.after
    while len(found) < command.limit:
        page = yield from ids_after(keys, after, _AT_ONCE)
        rows = yield [plain("HMGET", [places.account(account_id).account], fields) for account_id in page]
        found += [one for one, row in zip(page, rows, strict=True) if _is_due(command.direction, *row)]
        if len(page) < _AT_ONCE:
            break
        after = page[-1]
    return found[: command.limit]


def _is_due(direction: Direction, steps: str | None, document: str | None, last: str | None, taken: str | None) -> bool:
    lane = LaneBooks()
    if document is not None:
        lane_of(document, lane)
    return int(last or 0) > int(taken or 0) or bool(live_in(lane)) or (direction is Direction.OUTGOING and bool(steps))


def overview(places: Keyspace, command: c.Overview) -> Work[list[AccountOverview]]:
    """Return one page of accounts."""
    keys = [partition.accounts for partition in places.partitions]
    ids = yield from ids_after(keys, command.after, command.limit)
    found: list[AccountOverview] = []
    for start in range(0, len(ids), _AT_ONCE):
        chosen = [places.account(account_id) for account_id in ids[start : start + _AT_ONCE]]
        replies = yield [look(keys, ()) for keys in chosen]
        for account, reply in zip(chosen, replies, strict=True):
            found += AccountView(account, (), reply).overview()
    return found


def history(places: Keyspace, command: c.History) -> Work[list[Attempt]]:
    """Return one page of attempts, of all accounts or of one, of some states or of all.

    They are in order of their claims in each partition, and partitions are merged by when that was, either way. Those
    that are not closed are few, and have an index of their own.
    """
    unclosed = bool(command.states) and AttemptState.CLOSED not in command.states
    partitions = places.partitions if command.account_id is None else [places.partition(command.account_id)]
    if command.partition is not None:
        partitions = [one for one in partitions if one.number == command.partition]
    cursor: _Cursor | None = None
    if command.after is not None:
        cursor = yield from _find_cursor(places, command)
        if cursor is None:
            return []
    found: list[Attempt] = []
    while len(found) < command.limit:
        keys = [partition.unclosed if unclosed else partition.history for partition in partitions]
        page = yield from _page(keys, cursor, min(_AT_ONCE, command.limit), newest=command.newest)
        if not page:
            break
        cursor = page[-1]
        owned = [member.split("\n", 1) for _, member in page]
        rows = yield [plain("HGET", [places.account(owner).attempts], [attempt_id]) for attempt_id, owner in owned]
        for (attempt_id, owner), row in zip(owned, rows, strict=True):
            attempt = attempt_of(owner, attempt_id, row).attempt
            if command.account_id in {None, owner} and (not command.states or attempt.state in command.states):
                found.append(attempt)
    return found[: command.limit]


_Cursor: TypeAlias = tuple[float, str]
"""Where an attempt stands in the order of claims: when it was claimed, and its member of the sorted set."""


def _find_cursor(places: Keyspace, command: c.History) -> Work[_Cursor | None]:
    """Return where the attempt named by `after` stands. If nobody says whose it is, every account is asked."""
    owner = command.account_id or command.after_account
    owners = [owner] if owner else (yield from ids_after([p.accounts for p in places.partitions], "", 10**9))
    for start in range(0, len(owners), _AT_ONCE):
        chosen = owners[start : start + _AT_ONCE]
        scores = yield [plain("ZSCORE", [places.account(owner).claims], [command.after]) for owner in chosen]
        for owner, score in zip(chosen, scores, strict=True):
            if score is not None:
                return float(score), f"{command.after}\n{owner}"
    return None


def _page(keys: Sequence[str], cursor: _Cursor | None, limit: int, *, newest: bool) -> Work[list[_Cursor]]:
    """Return the next members after the cursor, on the way from the oldest, or from the newest, on."""
    order, first, last = ("ZREVRANGEBYSCORE", "+inf", "-inf") if newest else ("ZRANGEBYSCORE", "-inf", "+inf")
    # from the cursor's instant on: other partitions may have claimed at the same one
    start = first if cursor is None else repr(cursor[0])
    pages = yield [plain(order, [key], [start, last, "WITHSCORES", "LIMIT", 0, limit + 1]) for key in keys]
    members = ((float(score), member) for page in pages for member, score in zip(page[::2], page[1::2], strict=True))
    if newest:
        return heapq.nlargest(limit, (place for place in members if cursor is None or place < cursor))
    return heapq.nsmallest(limit, (place for place in members if cursor is None or place > cursor))


def suspense(places: Keyspace, command: c.Suspense) -> Work[list[SuspenseItem]]:
    """Return one page of money whose owner is, or was, unknown."""
    order = places.suspense_order if command.assigned else places.suspense_unassigned
    ids = yield from ids_after([order], command.after, command.limit)
    if not ids:
        return []
    rows = yield from read_fields(places.suspense, ids)
    items = [suspense_of(settlement_id, row) for settlement_id, row in zip(ids, rows, strict=True)]
    return [item for item in items if command.assigned or item.waiting]


def values(places: Keyspace, command: c.Values) -> Work[list[EngineValue]]:
    """Return one page of the engine's values."""
    # those of the id the page begins in are looked at again
    start = "-" if command.after is None else f"[{command.after[0]}"
    limit = command.limit + 1
    pages = yield [plain("ZRANGEBYLEX", [p.noted], [start, "+", "LIMIT", 0, limit]) for p in places.partitions]
    ids = heapq.nsmallest(limit, (found for page in pages for found in page))
    if not ids:
        return []
    notes = yield [plain("HGETALL", [places.account(account_id).notes]) for account_id in ids]
    found = sorted(
        (account_id, key, text)
        for account_id, kept in zip(ids, notes, strict=True)
        for key, text in zip(kept[::2], kept[1::2], strict=True)
    )
    wanted = (value for value in found if command.after is None or value[:2] > command.after)
    return [
        EngineValue(account_id=account_id, key=key, value=thaw(text))
        for account_id, key, text in islice(wanted, command.limit)
    ]


def workers(places: Keyspace) -> Work[list[WorkerOverview]]:
    """Return who shares the store."""
    found, *owners = yield [
        Call(script("expiries"), [places.workers]),
        *(plain("HGET", [partition.lease], ["owner"]) for partition in places.partitions),
    ]
    expires_ms = dict(zip(found[::2], found[1::2], strict=True))
    return [
        WorkerOverview(
            worker_id=worker,
            partitions=tuple(number for number, owner in enumerate(owners) if owner == worker),
            # one that is not counted any more still holds what nobody has taken yet
            expires_in_s=expires_ms.get(worker, 0) / 1000,
        )
        for worker in sorted({*expires_ms, *filter(None, owners)})
    ]

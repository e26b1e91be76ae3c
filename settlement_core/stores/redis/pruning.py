"""Forgetting: idempotency keys nobody has used for long, together with the entries of the attempt they went into."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from settlement_core.stores.redis.account import AccountView, Forgettable
from settlement_core.stores.redis.layout import (
    AccountKeys,
    Keyspace,
    PartitionKeys,
    StoredAttempt,
    entry_of,
    used_at_of,
)
from settlement_core.stores.redis.looking import look
from settlement_core.stores.redis.queries import Work, read_fields
from settlement_core.stores.redis.scripts import plain
from settlement_core.values import commands as c
from settlement_core.values.records import EntryKind

__all__ = ["prune"]

_AT_ONCE = 100
"""Attempts looked at together."""


def prune(places: Keyspace, command: c.Prune) -> Work[int]:
    """Forget what was last used before then, partition by partition, until about enough is forgotten."""
    forgotten = 0
    for partition in places.partitions:
        while forgotten < command.limit:
            wanted = min(_AT_ONCE, command.limit - forgotten)
            (members,) = yield [
                plain("ZRANGEBYSCORE", [partition.prunable], ["-inf", f"({command.before!r}", "LIMIT", 0, wanted])
            ]
            for member in members:
                if forgotten >= command.limit:
                    return forgotten
                attempt_id, owner = member.split("\n", 1)
                forgotten += yield from _forget(places, partition, owner, attempt_id, command.before)
            if len(members) < wanted:
                break
    return forgotten


def _forget(places: Keyspace, partition: PartitionKeys, owner: str, attempt_id: str, before: float) -> Work[int]:
    """Forget one attempt's entries, or note when they may be."""
    keys = places.account(owner)
    (reply,) = yield [look(keys, (), attempts=[attempt_id])]
    view = AccountView(keys, (), reply)
    stored = view.attempt(attempt_id)
    # another worker may be forgetting it, too
    found = None if stored.attempt.pruned else (yield from _read(keys, stored))
    if found is None:
        return 0
    attempt, used_at = found
    if used_at >= before:
        yield [plain("ZADD", [partition.prunable], ["XX", repr(used_at), f"{attempt_id}\n{owner}"], writes=True)]
        return 0
    forgotten, deleted = view.forget(attempt, before)
    change = view.change(becomes=uuid4().hex, channel=places.channel, forgotten=deleted)
    assert change is not None, "a closed attempt's entries, none used since, may be forgotten"
    (changed,) = yield [change]
    # an account that somebody else changed meanwhile is come back to
    return forgotten if changed else 0


def _read(keys: AccountKeys, stored: StoredAttempt) -> Work[tuple[Forgettable, float] | None]:
    """Return an attempt's entries, the rows of their keys, and when any was last used; None if they are forgotten."""
    direction = stored.attempt.direction
    numbers = range(stored.first, stored.last + 1)
    rows = yield from read_fields(keys.entries[direction], numbers)
    if None in rows:
        return None
    entries = [
        entry_of(seq, keys.account_id, direction, row, attempt_id=stored.attempt.attempt_id)
        for seq, row in zip(numbers, rows, strict=True)
    ]
    requests = [entry for entry in entries if entry.kind is EntryKind.REQUEST]
    key_rows: dict[str, str] = {}
    if requests:
        found = yield from read_fields(keys.keys[direction], [entry.entry_id for entry in requests])
        if None in found:
            return None
        key_rows = dict(zip((entry.entry_id for entry in requests), found, strict=True))
    uses = {entry_id: used_at_of(row) for entry_id, row in key_rows.items()}
    entries = [replace(entry, used_at=uses.get(entry.entry_id, entry.used_at)) for entry in entries]
    latest = max(entry.used_at for entry in entries)
    return Forgettable(stored.attempt.attempt_id, entries, key_rows), latest

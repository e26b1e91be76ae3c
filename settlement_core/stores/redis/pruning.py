"""Forgetting: idempotency keys nobody has used for long, together with the entries of the attempt they went into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from settlement_core.stores.redis.account import AccountView
from settlement_core.stores.redis.account_parts import Forgettable
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
from settlement_core.values.records import Entry, EntryKind

__all__ = ["prune", "read_taken"]

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
    found = {} if stored.attempt.pruned else (yield from read_taken(keys, [stored]))
    if not found:
        return 0
    attempt = found[attempt_id]
    used_at = max(entry.used_at for entry in attempt.entries)
    if used_at >= before:
        yield [plain("ZADD", [partition.prunable], ["XX", repr(used_at), f"{attempt_id}\n{owner}"], writes=True)]
        return 0
    forgotten, deleted = view.forget(attempt, before)
    change = view.change(becomes=uuid4().hex, channel=places.channel, forgotten=[deleted])
    assert change is not None, "a closed attempt's entries, none used since, may be forgotten"
    (changed,) = yield [change]
    # an account that somebody else changed meanwhile is come back to
    return forgotten if changed else 0


def read_taken(keys: AccountKeys, attempts: Sequence[StoredAttempt]) -> Work[dict[str, Forgettable]]:
    """Return the entries of attempts of one direction, and the rows of their keys; none of those that have none."""
    if not attempts:
        return {}
    direction = attempts[0].attempt.direction
    numbers = [seq for stored in attempts for seq in range(stored.first, stored.last + 1)]
    rows = dict(zip(numbers, (yield from read_fields(keys.entries[direction], numbers)), strict=True))
    taken: dict[str, list[Entry]] = {}
    for stored in attempts:
        own = {seq: rows[seq] for seq in range(stored.first, stored.last + 1)}
        if None not in own.values():
            attempt_id = stored.attempt.attempt_id
            taken[attempt_id] = [
                entry_of(seq, keys.account_id, direction, row, attempt_id=attempt_id) for seq, row in own.items()
            ]
    ids = [entry.entry_id for entries in taken.values() for entry in entries if entry.kind is EntryKind.REQUEST]
    key_rows = dict(zip(ids, (yield from read_fields(keys.keys[direction], ids)), strict=True))
    found: dict[str, Forgettable] = {}
    for attempt_id, entries in taken.items():
        requests = [entry.entry_id for entry in entries if entry.kind is EntryKind.REQUEST]
        used_keys = {entry_id: key_rows[entry_id] for entry_id in requests}
        if None not in used_keys.values():
            uses = {entry_id: used_at_of(row) for entry_id, row in used_keys.items()}
            used = [replace(entry, used_at=uses.get(entry.entry_id, entry.used_at)) for entry in entries]
            found[attempt_id] = Forgettable(attempt_id, used, used_keys)
    return found

"""What `audit` cannot see: indexes that must follow from the accounts they index."""

from __future__ import annotations

from collections.abc import Iterator

from settlement_core.stores.redis.account import AccountView
from settlement_core.stores.redis.layout import Keyspace, PartitionKeys
from settlement_core.stores.redis.looking import look
from settlement_core.stores.redis.queries import Work
from settlement_core.stores.redis.scripts import plain

__all__ = ["inspect"]

_AT_ONCE = 500
"""Accounts looked at together."""


def inspect(places: Keyspace) -> Work[list[str]]:
    """Return one sentence for each thing that is not as it should be; reads every account."""
    problems: list[str] = []
    for partition in places.partitions:
        accounts, due, unclosed, noted = yield [
            plain("ZRANGE", [partition.accounts], [0, -1]),
            plain("ZRANGE", [partition.due], [0, -1]),
            plain("ZRANGE", [partition.unclosed], [0, -1]),
            plain("ZRANGE", [partition.noted], [0, -1]),
        ]
        busy: set[str] = set()
        live: set[str] = set()
        for start in range(0, len(accounts), _AT_ONCE):
            chosen = [places.account(account_id) for account_id in accounts[start : start + _AT_ONCE]]
            replies = yield [look(keys, ()) for keys in chosen]
            for keys, reply in zip(chosen, replies, strict=True):
                view = AccountView(keys, (), reply)
                if view.is_due():
                    busy.add(keys.account_id)
                live |= {f"{attempt_id}\n{keys.account_id}" for attempt_id in view.live()}
        problems += _compare(partition, "due", set(due), busy)
        ids = [*{*accounts, *noted}]
        having = yield [plain("EXISTS", [places.account(account_id).notes]) for account_id in ids]
        owners = {account_id for account_id, has in zip(ids, having, strict=True) if has}
        problems += _compare(partition, "noted", set(noted), owners)
        problems += [
            f"{member!r} is missing from the index 'unclosed' of partition {partition.number}"
            for member in sorted(live - set(unclosed))
        ]
    return problems


def _compare(partition: PartitionKeys, name: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    for member in sorted(wanted - found):
        yield f"{member!r} is missing from the index {name!r} of partition {partition.number}"
    for member in sorted(found - wanted):
        yield f"{member!r} is in the index {name!r} of partition {partition.number}, but should not be"

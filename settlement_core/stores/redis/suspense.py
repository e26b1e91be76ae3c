"""Money whose owner is unknown: kept beside the partitions, and moved into an account in two steps.

It first becomes *being assigned*, with the account's name, then is entered there under its own id, then *assigned*.
Whoever finds it being assigned finishes that, so a worker that ends in between loses nothing; entering is idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from settlement_core.stores.redis.enqueueing import enqueue, entered
from settlement_core.stores.redis.history import knows
from settlement_core.stores.redis.layout import AccountKeys, Keyspace, suspense_of, suspense_row
from settlement_core.stores.redis.queries import Work, ids_after
from settlement_core.stores.redis.scripts import Call, plain, script
from settlement_core.values import commands as c
from settlement_core.values.decisions import may_assign, may_credit, may_dismiss, refuse_credited
from settlement_core.values.errors import LocalError, SuspenseConflict, UnknownAccount, UnknownSuspense
from settlement_core.values.records import Direction, SuspenseItem

__all__ = ["assign", "dismiss", "finish_assignments", "refuse_unattributed", "suspend"]

_AT_ONCE = 500
"""Accounts asked in one pipeline."""


def suspend(places: Keyspace, command: c.Suspend) -> Work[c.Applied]:
    """Keep money without an owner."""
    item = SuspenseItem(
        settlement_id=command.settlement_id, amount=command.amount, details=command.details, reported_at=command.at
    )
    keys = [places.suspense, places.suspense_order, places.suspense_unassigned]
    (known,) = yield [Call(script("suspend"), keys, [command.settlement_id, suspense_row(item)], writes=True)]
    if known is not None:
        first = suspense_of(command.settlement_id, known).amount
        if first != command.amount:
            raise SuspenseConflict(
                command.settlement_id, f"was first reported with {first:f}, now with {command.amount:f}"
            )
    return c.Applied(changed=known is None)


def assign(places: Keyspace, command: c.Assign) -> Work[c.Result]:
    """Enter the money for an account, and say so beside it."""
    (row,) = yield [plain("HGET", [places.suspense], [command.settlement_id])]
    if row is None:
        raise UnknownSuspense(command.settlement_id)
    item = suspense_of(command.settlement_id, row)
    if not may_assign(item, command):
        # it is there already, or being entered: entering it again does no harm
        return (yield from _finish(places, row, item, command.at, before=_unassigned(item)))
    # an account is there for ever once it is: whoever finishes what begins here finds the same answer
    (state,) = yield [plain("HGET", [places.account(command.account_id).account], ["state"])]
    if state is None:
        raise UnknownAccount(command.account_id)
    yield from _require_uncredited(places, command)
    assigned = replace(
        item,
        account_id=command.account_id,
        reason=command.reason,
        assigned_by=command.by,
        assigned_at=command.at,
    )
    if (yield from _move(places, row, assigned, "assigning")):
        return (yield from _finish(places, suspense_row(assigned), assigned, command.at, before=item))
    # somebody else was quicker: what they decided is looked at
    return (yield from assign(places, command))


def dismiss(places: Keyspace, command: c.Dismiss) -> Work[c.Applied]:
    """Have the money wait for nobody any more."""
    (row,) = yield [plain("HGET", [places.suspense], [command.settlement_id])]
    if row is None:
        raise UnknownSuspense(command.settlement_id)
    item = suspense_of(command.settlement_id, row)
    if not may_dismiss(item):
        # perhaps only since a batch that was not confirmed
        yield [plain("EXISTS", [places.suspense], writes=True)]
        return c.Applied(changed=False)
    dismissed = replace(item, reason=command.reason, assigned_by=command.by, assigned_at=command.at)
    if (yield from _move(places, row, dismissed, "dismissed")):
        return c.Applied(changed=True)
    # somebody else was quicker: what they decided is looked at
    return (yield from dismiss(places, command))


def refuse_unattributed(
    places: Keyspace, keys: AccountKeys, commands: Sequence[Any]
) -> Work[dict[str, SuspenseConflict]]:
    """Return, by settlement id, why these credits of one account are refused: their money is unattributed."""
    ids = list(dict.fromkeys(command.entry_id for command in commands))
    (rows,) = yield [plain("HMGET", [places.suspense], ids)]
    refused: dict[str, SuspenseConflict] = {}
    for settlement_id, row in zip(ids, rows, strict=True):
        try:
            may_credit(None if row is None else suspense_of(settlement_id, row), keys.account_id, settlement_id)
        except SuspenseConflict as conflict:
            refused[settlement_id] = conflict.with_traceback(None)
    if refused:
        # what the account has already is a replay
        known = yield from knows(places, [keys] * len(refused), list(refused))
        refused = {one: why for (one, why), is_there in zip(refused.items(), known, strict=True) if not is_there}
    return refused


def _require_uncredited(places: Keyspace, command: c.Assign) -> Work[None]:
    """Refuse if an engine credited another account under this settlement id. Asks every account: decisions are rare."""
    ids = yield from ids_after([partition.accounts for partition in places.partitions], "", 10**9)
    for start in range(0, len(ids), _AT_ONCE):
        chosen = [places.account(name) for name in ids[start : start + _AT_ONCE] if name != command.account_id]
        found = yield from knows(places, chosen, [command.settlement_id] * len(chosen))
        for keys, is_there in zip(chosen, found, strict=True):
            if is_there:
                refuse_credited(command.settlement_id, keys.account_id)


def finish_assignments(places: Keyspace) -> Work[None]:
    """Finish what a worker began and did not end."""
    (begun,) = yield [plain("ZRANGE", [places.suspense_assigning], [0, -1])]
    for settlement_id in begun:
        (row,) = yield [plain("HGET", [places.suspense], [settlement_id])]
        item = suspense_of(settlement_id, row)
        # unless somebody else has finished it meanwhile
        if item.assigned_at is not None:
            yield from _finish(places, row, item, item.assigned_at, before=_unassigned(item))


def _unassigned(item: SuspenseItem) -> SuspenseItem:
    """Return the item as it was before it was being assigned; that it was dismissed then is forgotten: it is shown."""
    return replace(item, account_id=None, reason="", assigned_by="", assigned_at=None)


def _finish(places: Keyspace, row: str, assigned: SuspenseItem, at: float, *, before: SuspenseItem) -> Work[c.Result]:
    """Enter what is being assigned, and say so; if it is refused, make the item what it was `before`."""
    answer = yield from _enter(places, assigned, at)
    if isinstance(answer, LocalError):
        yield from _move(places, row, before, "dismissed" if before.dismissed else "unassigned")
    else:
        yield from _move(places, row, assigned, "assigned")
    return answer


def _enter(places: Keyspace, item: SuspenseItem, at: float) -> Work[c.Result]:
    assert item.account_id is not None, "it has an owner"
    command = c.Enqueue(
        account_id=item.account_id,
        direction=Direction.INCOMING,
        entry_id=item.settlement_id,
        amount=item.amount,
        at=at,
    )
    # no lease is named, so that whoever holds the account is rung
    (reply,) = yield [enqueue(places, places.account(item.account_id), [command], "", 0.0)]
    answers: list[Any]
    answers, _ = entered([command], reply)
    return answers[0]


def _move(places: Keyspace, before: str, now: SuspenseItem, what: str) -> Work[bool]:
    """Rewrite the row, if it is as it was `before`, to the letter; tell whether it was."""
    keys = [places.suspense, places.suspense_unassigned, places.suspense_assigning]
    arguments = [now.settlement_id, before, suspense_row(now), what]
    (moved,) = yield [Call(script("assign"), keys, arguments, writes=True)]
    return bool(moved)

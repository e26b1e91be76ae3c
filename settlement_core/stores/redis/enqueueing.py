"""Entries of one account, given to `enqueue.lua` together: the one command that needs no look at the account first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from settlement_core.stores.redis.layout import (
    DIRECTION_LETTERS,
    AccountKeys,
    Keyspace,
    digest_text,
    entry_row,
    mark_text,
)
from settlement_core.stores.redis.scripts import Call, Reply, script
from settlement_core.values import commands as c
from settlement_core.values.amounts import lowest_terms
from settlement_core.values.errors import IdempotencyConflict, TooLate, UnknownAccount
from settlement_core.values.known import digest_of, mark_of
from settlement_core.values.records import Direction, EntryKind

__all__ = ["enqueue", "entered"]


def enqueue(places: Keyspace, keys: AccountKeys, commands: Sequence[Any], asker: str, begun: float) -> Call:
    """Return the call that enters these amounts, all of one direction of one account, asked for at `begun`.

    That is a reading of `time.monotonic`, from which on the time counts within which they may be recorded.
    """
    direction = commands[0].direction
    partition, incoming = keys.partition, direction is Direction.INCOMING
    return Call(
        script("enqueue"),
        [
            keys.account,
            keys.entries[direction],
            keys.keys[direction],
            partition.due,
            partition.lease,
            partition.rings,
            *(_bucket(places, keys, command) for command in commands if incoming),
        ],
        [
            *(DIRECTION_LETTERS[direction], keys.account_id, asker, places.channel, len(commands)),
            *(argument for command in commands for argument in _arguments(command, begun)),
            # what tells ids that are known for ever
            *(text for command in commands if incoming for text in _digest_and_mark(command)),
        ],
        writes=True,
    )


def _arguments(command: c.Enqueue, begun: float) -> Iterator[str]:
    yield command.entry_id
    yield lowest_terms(command.amount)
    yield f"{command.amount:f}"
    yield repr(command.at)
    yield entry_row(EntryKind.REQUEST, command.entry_id, command.amount, command.at)
    if command.within_s is None:
        yield ""
    else:
        yield str(int((begun + command.within_s) * 1000)) if command.within_s > 0 else "0"


def _bucket(places: Keyspace, keys: AccountKeys, command: c.Enqueue) -> str:
    return places.bucket_key(keys.partition, places.bucket(digest_of(command.entry_id)))


def _digest_and_mark(command: c.Enqueue) -> tuple[str, str]:
    return digest_text(digest_of(command.entry_id), ""), mark_text(mark_of(command.amount))


def entered(commands: Sequence[Any], reply: Reply) -> tuple[list[c.Result], int]:
    """Return the commands' results, and how many entries of the account its totals do not include yet."""
    uncounted, *answers = reply
    return [_result(command, answer) for command, answer in zip(commands, answers, strict=True)], uncounted


def _result(command: c.Enqueue, answer: str) -> c.Result:
    what, _, first = answer.partition(" ")
    if what == "new":
        return c.Entered(command.amount, replay=False)
    if what == "same":
        return c.Entered(Decimal(first), replay=True)
    if what == "known":
        return c.Entered(command.amount, replay=True)
    if what == "other":
        known = Decimal(first) if first else None
        return IdempotencyConflict(command.account_id, command.entry_id, first=known, now=command.amount)
    if what == "late":
        return TooLate(command.account_id, command.entry_id)
    return UnknownAccount(command.account_id)

"""The end of the history: attempts that leave it, and the settlement ids of their credits, which stay known for ever.

An id is kept as a digest, beside a mark of its amount. Digests lie in buckets that Redis keeps as compact lists as long
as they are small: some 50 bytes for each. A bucket is shared by the accounts of a partition, so a digest is followed by
the account's number there, which it is given when its first credit leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from uuid import uuid4

from settlement_core.stores.redis.account import AccountView
from settlement_core.stores.redis.layout import (
    AccountKeys,
    Keyspace,
    digest_of_text,
    digest_text,
    mark_of_text,
    mark_text,
)
from settlement_core.stores.redis.looking import look
from settlement_core.stores.redis.pruning import read_taken
from settlement_core.stores.redis.queries import Work
from settlement_core.stores.redis.scripts import Call, plain, script
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, UnknownAccount
from settlement_core.values.known import KnownSettlement, digest_of
from settlement_core.values.records import Attempt, AttemptState, Direction

__all__ = ["export_known", "import_known", "knows", "knows_settlement", "retire"]

_AT_ONCE = 500
"""Settlement ids written, or buckets read, together."""


def retire(places: Keyspace, command: c.Retire) -> Work[tuple[str, ...]]:
    """Have attempts of one account leave the history; none if somebody else changed the account meanwhile."""
    keys = places.account(command.account_id)
    (reply,) = yield [look(keys, (), attempts=command.attempt_ids)]
    view = AccountView(keys, (), reply)
    if not view.overview():
        raise UnknownAccount(command.account_id)
    over = [stored for one in command.attempt_ids if (stored := view.find(one)) and _has_entries(stored.attempt)]
    taken = yield from read_taken(keys, over)
    gone, retired = view.retire(command, taken)
    change = view.change(
        becomes=uuid4().hex,
        channel=places.channel,
        forgotten=retired.entries,
        left=retired.attempt_ids,
        known=_rows(places, keys, retired.known),
    )
    if change is None:
        # perhaps only since a batch that was not confirmed
        yield [plain("EXISTS", [keys.account], writes=True)]
        return gone
    (changed,) = yield [change]
    return gone if changed else tuple(one for one in gone if view.find(one) is None)


def _has_entries(attempt: Attempt) -> bool:
    return attempt.direction is Direction.INCOMING and attempt.state is AttemptState.CLOSED


def _rows(places: Keyspace, keys: AccountKeys, known: Mapping[bytes, bytes]) -> list[tuple[str, str, str, str]]:
    numbered = ((places.bucket(digest), digest, mark) for digest, mark in known.items())
    return [
        (places.bucket_key(keys.partition, number), str(number), digest_text(digest, ""), mark_text(mark))
        for number, digest, mark in numbered
    ]


def knows(places: Keyspace, owners: Sequence[AccountKeys], settlement_ids: Sequence[str]) -> Work[list[bool]]:
    """Tell for pairs of account and settlement id whether it was credited under it, however long ago."""
    found = yield [
        call
        for keys, one in zip(owners, settlement_ids, strict=True)
        for call in (
            plain("HEXISTS", [keys.keys[Direction.INCOMING]], [one]),
            plain("HGET", [keys.account], ["number"]),
        )
    ]
    known = [bool(listed) for listed in found[::2]]
    numbered = [place for place, number in enumerate(found[1::2]) if number and not known[place]]
    asked = []
    for place in numbered:
        digest = digest_of(settlement_ids[place])
        bucket = places.bucket_key(owners[place].partition, places.bucket(digest))
        asked.append(plain("HEXISTS", [bucket], [digest_text(digest, found[2 * place + 1])]))
    if asked:
        for place, is_there in zip(numbered, (yield asked), strict=True):
            known[place] = bool(is_there)
    return known


def knows_settlement(places: Keyspace, command: c.KnowsSettlement) -> Work[bool]:
    """Tell whether the account was ever credited under this id."""
    (known,) = yield from knows(places, [places.account(command.account_id)], [command.settlement_id])
    return known


# moving to and from other stores


def import_known(places: Keyspace, known: Iterable[KnownSettlement]) -> Work[None]:
    """Take over settlement ids that accounts of another store know."""
    for account_id, rows in groupby(known, key=lambda one: one.account_id):
        keys = places.account(account_id)
        marks = {row.digest: row.mark for row in rows}
        digests = list(marks)
        for start in range(0, len(digests), _AT_ONCE):
            (reply,) = yield [look(keys, ())]
            content = {digest: marks[digest] for digest in digests[start : start + _AT_ONCE]}
            change = AccountView(keys, (), reply).change(
                becomes=uuid4().hex, channel=places.channel, known=_rows(places, keys, content)
            )
            assert change is not None, "something is to be written"
            if (yield [change]) != [1]:
                raise LocalError(f"account {account_id!r} was used while it was filled; nothing more was recorded")


def export_known(places: Keyspace, partition: int) -> Work[list[KnownSettlement]]:
    """Return the settlement ids of a partition whose credits have left the history."""
    place = places.partitions[partition]
    (numbers,) = yield [plain("HGETALL", [place.numbers])]
    if not numbers:
        return []
    owners = dict(zip(numbers[::2], numbers[1::2], strict=True))
    (used,) = yield [Call(script("buckets"), [place.buckets])]
    known: list[KnownSettlement] = []
    for start in range(0, len(used), _AT_ONCE):
        chosen = [places.bucket_key(place, number) for number in used[start : start + _AT_ONCE]]
        for found in (yield [plain("HGETALL", [bucket]) for bucket in chosen]):
            for text, mark in zip(found[::2], found[1::2], strict=True):
                digest, number = digest_of_text(text)
                known.append(KnownSettlement(owners[number], digest, mark_of_text(mark)))
    return sorted(known, key=lambda one: one.account_id)

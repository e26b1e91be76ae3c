"""How books are laid out in Redis: which key holds what, and what a row looks like.

Every key of a partition carries the partition's hash tag, so that one script can change all of an account at once,
also in a Cluster. So does the partition's mark, by which every script knows the store (see `marks`). Per account:

    account   hash: state, version (unlike any other there ever was), steps, live (ids of attempts open or released),
              pausing (what a person last said of it), number (of the account in its partition, once a credit of it has
              left the history), and for each direction, o and i: lane (totals, open and
              released attempts), seq (number of the last entry), taken (of the last one claimed), counted (of the
              last one that the totals include)
    entries   hash per direction: number → row. Entries never change; those above `taken` are the queue
    keys      hash per direction: entry id → number, time of its last use, amount in lowest terms, amount as given
    took      sorted set per direction: attempts by the number of the last entry they took
    attempts  hash: id → number of the first and the last entry it took, and its row
    claims    sorted set: attempts in order of claims
    notes     hash: the engine's JSON values (of any id; the partition's `noted` lists the ids that have some)

Settlement ids whose credits have left the history lie in the buckets of the account's partition, hashes that are small
enough for Redis to keep as compact lists: digest and account number → mark of the amount (see `values.known`); the
partition's `numbers` tells whose number is whose, its `buckets` which buckets there are, a bit for each.

Amounts are text. Nothing in Redis ever calculates with them: new totals are calculated here, of the totals last
written and of the entries added since, and written if nobody else wrote meanwhile (see `change.lua`).
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from settlement_core.stores._json import freeze, thaw
from settlement_core.values.amounts import ZERO, subtract
from settlement_core.values.books import LaneBooks
from settlement_core.values.partitions import partition_of
from settlement_core.values.records import (
    Attempt,
    AttemptState,
    Direction,
    Entry,
    EntryKind,
    Payment,
    SuspenseItem,
)

__all__ = [
    "DIRECTION_LETTERS",
    "AccountKeys",
    "Keyspace",
    "PartitionKeys",
    "StoredAttempt",
    "attempt_of",
    "attempt_row",
    "decode",
    "digest_of_text",
    "digest_text",
    "encode",
    "entry_of",
    "entry_row",
    "lane_document",
    "lane_of",
    "live_in",
    "mark_key",
    "mark_of_text",
    "mark_text",
    "prunable_from",
    "steps_text",
    "suspense_of",
    "suspense_row",
    "used_at_of",
]

DIRECTION_LETTERS = {Direction.OUTGOING: "o", Direction.INCOMING: "i"}
_DIRECTIONS = {letter: direction for direction, letter in DIRECTION_LETTERS.items()}
_KINDS = {kind.value: kind for kind in EntryKind}

KNOWN_ACCOUNTS = 10_000
"""Accounts whose keys are remembered rather than put together again."""

KNOWN_BUCKETS = 2**16
"""Buckets of one store for settlement ids: with ten million ids each has 150, and up to 512 lie in a compact list."""


# keys


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition."""

    number: int
    due: str
    accounts: str
    history: str
    unclosed: str
    prunable: str
    lease: str
    rings: str
    noted: str
    numbers: str
    buckets: str


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """The keys of one account, and of its partition; `looked` and `changed` are those that scripts of the name take."""

    account_id: str
    partition: PartitionKeys
    account: str
    entries: dict[Direction, str]
    keys: dict[Direction, str]
    took: dict[Direction, str]
    attempts: str
    claims: str
    notes: str
    looked: list[str] = field(init=False)
    changed: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """List what scripts take, once: they are called all the time."""
        partition, lanes = self.partition, list(DIRECTION_LETTERS)
        looked = [self.account, *(self.entries[lane] for lane in lanes), self.attempts, self.notes, partition.lease]
        changed = [
            self.account,
            *(keys[lane] for lane in lanes for keys in (self.entries, self.keys, self.took)),
            *(self.attempts, self.claims, self.notes),
            *(partition.due, partition.accounts, partition.history, partition.unclosed, partition.prunable),
            *(partition.lease, partition.rings, partition.noted),
        ]
        object.__setattr__(self, "looked", looked)
        object.__setattr__(self, "changed", changed)


class Keyspace:
    """All keys of one store: `namespace` keeps several stores in one Redis apart."""

    def __init__(self, namespace: str, partitions: int) -> None:
        self.namespace = namespace
        self.created = False
        """Whether there was no such store before it was opened."""
        self.partitions = [_partition_keys(namespace, number) for number in range(partitions)]
        # what belongs to the engine as a whole
        self.settings = f"{{{namespace}}}:settings"
        self.workers = f"{{{namespace}}}:workers"
        self.sharing = f"{{{namespace}}}:sharing"
        self.suspense = f"{{{namespace}}}:suspense"
        self.suspense_order = f"{{{namespace}}}:suspense:order"
        self.suspense_unassigned = f"{{{namespace}}}:suspense:unassigned"
        self.suspense_assigning = f"{{{namespace}}}:suspense:assigning"
        self.channel = f"{namespace}:rings"
        self._buckets = KNOWN_BUCKETS // max(1, partitions)
        self.account = lru_cache(KNOWN_ACCOUNTS)(self._account)

    def partition(self, account_id: str) -> PartitionKeys:
        """Return the keys of the account's partition."""
        return self.partitions[partition_of(account_id, len(self.partitions))]

    def bucket(self, digest: bytes) -> int:
        """Return the number of the bucket that holds the digest of a settlement id, in any partition."""
        return int.from_bytes(digest[:4]) % self._buckets

    def bucket_key(self, partition: PartitionKeys, number: int) -> str:
        """Return the key of a bucket of the partition."""
        return f"{{{self.namespace}:{partition.number}}}:known:{number}"

    def _account(self, account_id: str) -> AccountKeys:
        """Return the keys of an account; "" is the engine as a whole, which has notes only."""
        partition = self.partition(account_id)
        start = f"{{{self.namespace}:{partition.number}}}:account:{account_id}"
        return AccountKeys(
            account_id=account_id,
            partition=partition,
            account=start,
            entries={direction: f"{start}:entries:{letter}" for direction, letter in DIRECTION_LETTERS.items()},
            keys={direction: f"{start}:keys:{letter}" for direction, letter in DIRECTION_LETTERS.items()},
            took={direction: f"{start}:took:{letter}" for direction, letter in DIRECTION_LETTERS.items()},
            attempts=f"{start}:attempts",
            claims=f"{start}:claims",
            notes=f"{start}:notes",
        )


def mark_key(key: str) -> str:
    """Return the key of the mark that has the hash tag of this key, and so lives where it does."""
    return key[: key.index("}") + 1] + ":mark"


def _partition_keys(namespace: str, number: int) -> PartitionKeys:
    start = f"{{{namespace}:{number}}}"
    names = ("due", "accounts", "history", "unclosed", "prunable", "lease", "rings", "noted", "numbers", "buckets")
    return PartitionKeys(number, *(f"{start}:{name}" for name in names))


# rows


def encode(value: Any) -> str:
    """Return JSON."""
    return msgspec.json.encode(value).decode()


def decode(text: str) -> Any:
    """Return the value of JSON that `encode` wrote."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # half characters, which earlier versions kept
        return thaw(text)


def lane_document(lane: LaneBooks, *, less_queued: Decimal = ZERO) -> str:
    """Return a lane's sums, and which attempts are open or released, as they are kept."""
    queued = subtract(lane.queued, less_queued) if less_queued else lane.queued
    sums = (lane.entered, queued, lane.open, lane.settled, lane.parked, lane.pruned, lane.retired)
    return encode([*(f"{amount:f}" for amount in sums), lane.open_id, lane.released])


def lane_of(document: str, lane: LaneBooks) -> None:
    """Put into the lane what its document says."""
    *sums, lane.open_id, lane.released = decode(document)
    lane.entered, lane.queued, lane.open, lane.settled, lane.parked, lane.pruned, *later = map(Decimal, sums)
    # earlier versions kept the whole history
    lane.retired = later[0] if later else ZERO


def live_in(lane: LaneBooks) -> list[str]:
    """Return the lane's attempts that are not closed or parked: the open one, then those released."""
    return lane.released if lane.open_id is None else [lane.open_id, *lane.released]


def steps_text(*, set_up: bool, tear_down: bool) -> str:
    """Return the account's pending steps as they are kept."""
    return "s" * set_up + "t" * tear_down


def used_at_of(key_row: str) -> float:
    """Return when an entry's key was last used."""
    return float(key_row.split(" ")[1])


def digest_text(digest: bytes, number: str) -> str:
    """Return a settlement id, and the number of the account that was credited under it, as they are kept."""
    return _as_text(digest) + number


def digest_of_text(text: str) -> tuple[bytes, str]:
    """Return the digest of a settlement id and the number of its account."""
    return b64decode(text[:22] + "==", altchars=b"-_"), text[22:]


def mark_text(mark: bytes) -> str:
    """Return the mark of an amount as it is kept."""
    return _as_text(mark)


def mark_of_text(text: str) -> bytes:
    """Return the mark of an amount that was kept."""
    return b64decode(text + "==", altchars=b"-_")


def _as_text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def entry_row(kind: EntryKind, entry_id: str, amount: Decimal, at: float) -> str:
    """Return an entry as it is kept."""
    return encode([kind.value, entry_id, f"{amount:f}", at])


def entry_of(
    seq: int, account_id: str, direction: Direction, row: str, *, attempt_id: str | None = None, used_at: float = 0.0
) -> Entry:
    """Return the entry a row keeps; who took it, and when its key was last used, are kept elsewhere."""
    kind, entry_id, amount, at = decode(row)
    return Entry(
        seq=seq,
        account_id=account_id,
        direction=direction,
        kind=_KINDS[kind],
        entry_id=entry_id,
        amount=Decimal(amount),
        attempt_id=attempt_id,
        entered_at=at,
        used_at=used_at or at,
    )


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """An attempt, and the numbers of the first and the last entry it took."""

    attempt: Attempt
    first: int
    last: int


def attempt_row(stored: StoredAttempt) -> str:
    """Return an attempt as it is kept."""
    attempt = stored.attempt
    payment = attempt.payment
    noted = None if payment is None else [f"{payment.amount:f}", freeze(payment.reference, "the payment")]
    facts = [
        DIRECTION_LETTERS[attempt.direction],
        f"{attempt.amount:f}",
        attempt.state.value,
        f"{attempt.dust:f}",
        noted,
        None if attempt.settled is None else f"{attempt.settled:f}",
        attempt.reason,
        attempt.resolved_by,
        attempt.claimed_at,
        attempt.closed_at,
        attempt.pruned,
    ]
    return f"{stored.first} {stored.last} {encode(facts)}"


def prunable_from(attempt: Attempt) -> str:
    """Return from when on the attempt's entries may be forgotten, "" as long as they may not."""
    closed = attempt.state is AttemptState.CLOSED and not attempt.pruned
    return repr(attempt.closed_at) if closed and attempt.direction is Direction.OUTGOING else ""


def attempt_of(account_id: str, attempt_id: str, row: str) -> StoredAttempt:
    """Return the attempt a row keeps."""
    first, last, text = row.split(" ", 2)
    direction, amount, state, dust, noted, settled, *told, claimed_at, closed_at, pruned = decode(text)
    reason, resolved_by = told
    attempt = Attempt(
        account_id=account_id,
        direction=_DIRECTIONS[direction],
        attempt_id=attempt_id,
        amount=Decimal(amount),
        state=AttemptState(state),
        dust=Decimal(dust),
        payment=None if noted is None else Payment(Decimal(noted[0]), thaw(noted[1])),
        settled=None if settled is None else Decimal(settled),
        reason=reason,
        resolved_by=resolved_by,
        claimed_at=claimed_at,
        closed_at=closed_at,
        pruned=pruned,
    )
    return StoredAttempt(attempt, int(first), int(last))


def suspense_row(item: SuspenseItem) -> str:
    """Return money without an owner as it is kept."""
    return encode(
        [
            f"{item.amount:f}",
            freeze(item.details, f"the details of unattributed settlement {item.settlement_id!r}"),
            item.reported_at,
            item.account_id,
            item.reason,
            item.assigned_by,
            item.assigned_at,
        ]
    )


def suspense_of(settlement_id: str, row: str) -> SuspenseItem:
    """Return the money without an owner that a row keeps."""
    amount, details, reported_at, account_id, reason, assigned_by, assigned_at = decode(row)
    return SuspenseItem(
        settlement_id=settlement_id,
        amount=Decimal(amount),
        details=thaw(details),
        reported_at=reported_at,
        account_id=account_id,
        reason=reason,
        assigned_by=assigned_by,
        assigned_at=assigned_at,
    )

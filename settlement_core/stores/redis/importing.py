"""Bringing an account here from another store: rows first, some hundred at a time, and then the account itself.

Until that last step nobody sees it, and nothing is done about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import uuid4

from settlement_core.stores._json import pausing_text
from settlement_core.stores.redis.layout import (
    DIRECTION_LETTERS,
    AccountKeys,
    Keyspace,
    StoredAttempt,
    attempt_row,
    encode,
    entry_row,
    lane_document,
    live_in,
    prunable_from,
    steps_text,
)
from settlement_core.stores.redis.queries import Work
from settlement_core.stores.redis.scripts import Call, plain, script
from settlement_core.values.amounts import lowest_terms
from settlement_core.values.books import LaneBooks
from settlement_core.values.errors import LocalError
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    Entry,
    EntryKind,
    Step,
    Totals,
)

__all__ = ["import_account"]

_AT_ONCE = 500
"""Rows written by one call."""


@dataclass(slots=True)
class _Lane:
    """One direction of the account, as far as it has come."""

    books: LaneBooks
    last: int = 0
    taken: int = 0
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Numbers of the first and the last entry of attempts that have not been written."""


def import_account(
    places: Keyspace, account: AccountOverview, entries: Iterable[Entry], attempts: Iterable[Attempt]
) -> Work[None]:
    """Write the account and everything that belongs to it."""
    keys = places.account(account.account_id)
    (known,) = yield [plain("HEXISTS", [keys.account], ["state"])]
    if known:
        raise LocalError(f"account {account.account_id!r} is there already; nothing was recorded")
    lanes = {
        Direction.OUTGOING: _lane(account.outgoing),
        Direction.INCOMING: _lane(account.incoming),
    }
    waiting: list[Call] = []
    for rows in _batches(entries):
        waiting += _entry_calls(keys, lanes, rows)
        if len(rows) == _AT_ONCE:
            yield waiting
            waiting = []
    waiting += [call for way, lane in lanes.items() for call in _range_calls(keys, way, lane)]
    for rows in _batches(attempts):
        waiting.append(_attempts_call(keys, lanes, rows))
        if len(rows) == _AT_ONCE:
            yield waiting
            waiting = []
    lanes[Direction.INCOMING].books.released = list(account.released)
    yield [*waiting, _arrival(keys, account, lanes)]


def _lane(totals: Totals) -> _Lane:
    return _Lane(LaneBooks(**{name.name: getattr(totals, name.name) for name in fields(totals)}))


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _entry_calls(keys: AccountKeys, lanes: dict[Direction, _Lane], entries: list[Entry]) -> Iterator[Call]:
    """Yield the calls that write these entries, numbered anew without gaps."""
    rows: dict[Direction, list[Any]] = defaultdict(list)
    key_rows: dict[Direction, list[str]] = defaultdict(list)
    for entry in entries:
        lane = lanes[entry.direction]
        lane.last += 1
        rows[entry.direction] += [lane.last, entry_row(entry.kind, entry.entry_id, entry.amount, entry.entered_at)]
        if entry.kind is EntryKind.REQUEST:
            use = f"{lane.last} {entry.used_at!r} {lowest_terms(entry.amount)} {entry.amount:f}"
            key_rows[entry.direction] += [entry.entry_id, use]
        if entry.attempt_id is not None:
            if lane.taken != lane.last - 1:
                raise LocalError(
                    f"entry {entry.entry_id!r} of account {keys.account_id!r} belongs to an attempt, though one before "
                    "it is queued; nothing was recorded"
                )
            lane.taken = lane.last
            first, _ = lane.ranges.get(entry.attempt_id, (lane.last, 0))
            lane.ranges[entry.attempt_id] = (first, lane.last)
    for direction, content in rows.items():
        yield plain("HSET", [keys.entries[direction]], content, writes=True)
        if key_rows[direction]:
            yield plain("HSET", [keys.keys[direction]], key_rows[direction], writes=True)
        # the last one may go on in what comes next
        yield from _range_calls(keys, direction, lanes[direction], but_last=True)


def _range_calls(keys: AccountKeys, direction: Direction, lane: _Lane, *, but_last: bool = False) -> Iterator[Call]:
    """Yield the calls that say which entries attempts took, which go beside their ids."""
    known = list(lane.ranges.items())
    done = known[:-1] if but_last else known
    if done:
        ranges = [text for attempt_id, (first, last) in done for text in (attempt_id, f"{first} {last}")]
        yield plain("HSET", [keys.attempts], ranges, writes=True)
        took = [part for attempt_id, (_, last) in done for part in (last, attempt_id)]
        yield plain("ZADD", [keys.took[direction]], took, writes=True)
    lane.ranges = dict(known[len(done) :])


def _attempts_call(keys: AccountKeys, lanes: dict[Direction, _Lane], attempts: list[Attempt]) -> Call:
    arguments: list[str] = [keys.account_id]
    for attempt in attempts:
        if attempt.state is AttemptState.OPEN:
            lanes[attempt.direction].books.open_id = attempt.attempt_id
        closed = attempt.state is AttemptState.CLOSED
        arguments += [
            attempt.attempt_id,
            attempt_row(StoredAttempt(attempt, 0, 0)).removeprefix("0 0 "),
            repr(attempt.claimed_at),
            "no" if closed else "yes",
            prunable_from(attempt),
        ]
    partition = keys.partition
    where = [keys.attempts, keys.claims, partition.history, partition.unclosed, partition.prunable]
    return Call(script("bring"), where, arguments, writes=True)


def _arrival(keys: AccountKeys, account: AccountOverview, lanes: dict[Direction, _Lane]) -> Call:
    steps = steps_text(set_up=Step.SET_UP in account.steps, tear_down=Step.TEAR_DOWN in account.steps)
    facts = ["state", account.state.value, "steps", steps, "version", uuid4().hex]
    pausing = pausing_text(account.pausing)
    facts += [] if pausing is None else ["pausing", pausing]
    live: list[str] = []
    due = bool(steps)
    for direction, lane in lanes.items():
        books, letter = lane.books, DIRECTION_LETTERS[direction]
        live += live_in(books)
        due = due or lane.taken < lane.last
        facts += [f"lane.{letter}", lane_document(books), f"seq.{letter}", str(lane.last)]
        facts += [f"taken.{letter}", str(lane.taken), f"counted.{letter}", str(lane.last)]
    facts += ["live", encode(live)]
    where = [keys.account, keys.partition.due, keys.partition.accounts]
    return Call(script("arrive"), where, [keys.account_id, "yes" if due or live else "no", *facts], writes=True)

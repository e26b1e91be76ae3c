"""The rules an account's rows must obey: a pure function from what was read to what is wrong with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from settlement_core.values.amounts import ZERO, add, subtract, total
from settlement_core.values.records import AccountOverview, Attempt, AttemptState, Direction, Entry, EntryKind, Totals

__all__ = ["Facts", "Problem", "judge"]

_PARKED = frozenset({AttemptState.IN_DOUBT, AttemptState.HELD, AttemptState.RELEASED})


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that breaks the proof. `account_id` is empty if the row belongs to none."""

    account_id: str
    row: str
    sentence: str

    def __str__(self) -> str:
        owner = f"account {self.account_id!r}, " if self.account_id else ""
        return f"{owner}{self.row}: {self.sentence}"


@dataclass(slots=True)
class Facts:
    """One account, read at one instant."""

    overview: AccountOverview
    entries: list[Entry]
    attempts: list[Attempt]


@dataclass(slots=True)
class _Lane:
    """One direction of one account, added up from its rows."""

    account_id: str
    totals: Totals
    direction: Direction
    attempts: dict[str, Attempt] = field(default_factory=dict)
    requests: list[Entry] = field(default_factory=list)
    queued: list[Entry] = field(default_factory=list)
    taken: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    returned: dict[tuple[EntryKind, str], list[Entry]] = field(default_factory=lambda: defaultdict(list))

    @property
    def shortened(self) -> bool:
        """Tell whether attempts may have left the history."""
        return bool(self.totals.pruned or self.totals.retired)

    def problem(self, row: str, sentence: str) -> Problem:
        return Problem(self.account_id, row, sentence)


def judge(facts: Facts, assigned: dict[str, Decimal]) -> Iterator[Problem]:
    """Yield what is wrong with one account.

    `assigned` is the unattributed money that was assigned to it, by settlement id, and has not left the history.
    """
    account = facts.overview
    lanes = {
        Direction.OUTGOING: _Lane(account.account_id, account.outgoing, Direction.OUTGOING),
        Direction.INCOMING: _Lane(account.account_id, account.incoming, Direction.INCOMING),
    }
    for attempt in facts.attempts:
        lanes[attempt.direction].attempts[attempt.attempt_id] = attempt
    for entry in facts.entries:
        lane = lanes[entry.direction]
        if entry.kind is EntryKind.REQUEST:
            lane.requests.append(entry)
        else:
            lane.returned[entry.kind, entry.entry_id].append(entry)
        if entry.attempt_id is None:
            lane.queued.append(entry)
        else:
            lane.taken[entry.attempt_id].append(entry)
    for lane in lanes.values():
        yield from _judge_totals(lane)
        yield from _judge_attempts(lane)
        yield from _judge_entries(lane)
    yield from _judge_assigned(lanes[Direction.INCOMING], assigned)


def _judge_totals(lane: _Lane) -> Iterator[Problem]:
    """Compare the running totals with each other and with the rows they are sums of."""
    totals, row = lane.totals, f"{lane.direction} totals"
    parts = total((totals.queued, totals.open, totals.settled, totals.parked))
    if totals.entered != parts:
        difference = subtract(totals.entered, parts)
        yield lane.problem(
            row, f"entered is {totals.entered:f}, its parts are {parts:f}: {difference:f} is unaccounted"
        )
    attempts = lane.attempts.values()
    sums = {
        "entered": add(totals.pruned, total(entry.amount for entry in lane.requests)),
        "queued": total(entry.amount for entry in lane.queued),
        "open": total(a.amount for a in attempts if a.state is AttemptState.OPEN),
        "parked": total(a.amount for a in attempts if a.state in _PARKED),
        "settled": add(totals.retired, total(a.settled or ZERO for a in attempts)),
    }
    for name, rows in sums.items():
        kept = getattr(totals, name)
        if kept != rows:
            yield lane.problem(row, f"{name} is {kept:f}, but its rows add up to {rows:f}")
    opened = [a.attempt_id for a in attempts if a.state is AttemptState.OPEN]
    for attempt_id in opened[1:]:
        yield lane.problem(f"attempt {attempt_id!r}", f"it is open beside attempt {opened[0]!r}; only one may be")


def _judge_attempts(lane: _Lane) -> Iterator[Problem]:
    """Compare each attempt with the entries it took and with what it gave back."""
    anything_pruned = lane.shortened or any(attempt.pruned for attempt in lane.attempts.values())
    for attempt in lane.attempts.values():
        row = f"attempt {attempt.attempt_id!r}"
        taken = lane.taken.get(attempt.attempt_id, [])
        if attempt.pruned:
            if taken:
                yield lane.problem(row, f"it is pruned but still has {len(taken)} entries")
        elif (amount := total(entry.amount for entry in taken)) != (whole := add(attempt.amount, attempt.dust)):
            yield lane.problem(row, f"its amount and dust are {whole:f}, but its entries add up to {amount:f}")
        if attempt.state is not AttemptState.CLOSED:
            if attempt.settled is not None:
                yield lane.problem(row, f"it is {attempt.state} but has {attempt.settled:f} settled")
        elif attempt.settled is None or not 0 <= attempt.settled <= attempt.amount:
            yield lane.problem(row, f"it is closed with {attempt.settled} settled of {attempt.amount:f}")
        for kind, amount in _given_back(attempt).items():
            # what it gave back may have been forgotten together with a later attempt that took it
            if amount and not anything_pruned and not lane.returned.get((kind, attempt.attempt_id)):
                yield lane.problem(row, f"its {kind} of {amount:f} is in no entry")


def _judge_entries(lane: _Lane) -> Iterator[Problem]:
    """Compare entries with the attempts they belong to or come from."""
    for attempt_id in lane.taken.keys() - lane.attempts.keys():
        for entry in lane.taken[attempt_id]:
            sentence = f"it belongs to attempt {attempt_id!r}, which is no {lane.direction} attempt of this account"
            yield lane.problem(_row(entry), sentence)
    for (kind, source), entries in lane.returned.items():
        attempt = lane.attempts.get(source)
        amount = ZERO if attempt is None else _given_back(attempt)[kind]
        # an attempt that left the history cannot be compared with
        told = attempt is not None or not lane.shortened
        for place, entry in enumerate(entries):
            if place or (told and entry.amount != amount):
                sentence = f"it is {entry.amount:f} of {kind} of attempt {source!r}, which left over {amount:f}"
                yield lane.problem(_row(entry), f"{sentence}, once" if place else sentence)
    seen: set[str] = set()
    for entry in lane.requests:
        if entry.entry_id in seen:
            yield lane.problem(_row(entry), "another entry has the same id")
        seen.add(entry.entry_id)
    for entry in (*lane.requests, *(entry for entries in lane.returned.values() for entry in entries)):
        if entry.amount < 0:
            yield lane.problem(_row(entry), f"its amount is {entry.amount:f}")


def _judge_assigned(lane: _Lane, assigned: dict[str, Decimal]) -> Iterator[Problem]:
    """Compare unattributed money that was assigned to the account with what was entered for it."""
    if not assigned:
        return
    entered = {entry.entry_id: entry.amount for entry in lane.requests}
    for settlement_id, amount in assigned.items():
        found = entered.get(settlement_id)
        if found != amount:
            row = f"unattributed settlement {settlement_id!r}"
            what = "nothing was" if found is None else f"{found:f} was"
            yield lane.problem(row, f"{amount:f} was assigned to this account, but {what} entered under its id")


def _given_back(attempt: Attempt) -> dict[EntryKind, Decimal]:
    leftover = ZERO if attempt.settled is None else subtract(attempt.amount, attempt.settled)
    return {EntryKind.DUST: attempt.dust, EntryKind.LEFTOVER: leftover}


def _row(entry: Entry) -> str:
    return f"entry {entry.seq} ({entry.entry_id!r})"

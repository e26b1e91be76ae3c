"""Decisions every store takes alike: pure functions from what is recorded to what may follow.

Each raises a `LocalError` to refuse, returns False where the command already holds, True where it is to be
carried out. Sharing them leaves a store only the reading and writing of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NoReturn

from settlement_core.values.amounts import MAX_DIGITS, ZERO, add, fit, floor, plain, subtract
from settlement_core.values.commands import Assign, Claim, Close, Enqueue, Hold, Note, Release, Resolve
from settlement_core.values.errors import AttemptConflict, IdempotencyConflict, SuspenseConflict
from settlement_core.values.known import mark_of
from settlement_core.values.records import Attempt, AttemptState, Direction, Entry, EntryKind, Step, SuspenseItem

__all__ = [
    "ClaimPlan",
    "is_blocked",
    "is_dust",
    "may_assign",
    "may_close",
    "may_credit",
    "may_dismiss",
    "may_hold",
    "may_note",
    "may_release",
    "may_repeat",
    "may_resolve",
    "may_retire",
    "parked_state",
    "pending_step",
    "pending_steps",
    "plan_claim",
    "refuse_claim",
    "refuse_credited",
    "summed_up",
]

_PARKED = frozenset({AttemptState.IN_DOUBT, AttemptState.HELD, AttemptState.RELEASED})


DUST_AT_ONCE = 4
"""How many times the entries of an attempt a claim looks at while they are too little: then it sums these up first."""


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """Take the first `count` queued entries; `amount` goes on its way, `dust` is queued again, as one entry.

    With an amount of 0 there is more dust than one claim may read: it only becomes fewer entries.
    """

    count: int
    amount: Decimal
    dust: Decimal


def plan_claim(queue: Iterable[Decimal], command: Claim) -> ClaimPlan | None:
    """Return what a claim takes from the queue, or None if all of it is still too little."""
    count, gathered, amount = 0, ZERO, ZERO
    for queued in queue:
        # past the bound only while there is nothing to pay yet, so that dust can add up, and not for long
        if count >= command.max_entries * (1 if amount > 0 else DUST_AT_ONCE):
            break
        total = add(gathered, queued)
        if amount > 0 and total.adjusted() >= MAX_DIGITS:
            break  # more digits than one amount may have
        count += 1
        gathered = total
        amount = gathered if command.scale is None else floor(gathered, command.scale)
    if not amount and count >= command.max_entries * DUST_AT_ONCE:
        return ClaimPlan(count, ZERO, plain(gathered))
    if command.cap is not None and amount > command.cap:
        amount = command.cap if command.scale is None else floor(command.cap, command.scale)
    if command.max_integer is not None:
        amount = fit(amount, command.max_integer)
    if amount <= 0:
        return None
    return ClaimPlan(count, plain(amount), plain(subtract(gathered, amount)))


def is_dust(queued: Decimal, command: Claim) -> bool:
    """Tell from its sum alone whether a queue is too little to claim, so that none of its entries need be read."""
    return command.scale is not None and not floor(queued, command.scale)


def summed_up(attempt: Attempt) -> Attempt:
    """Return the attempt by which dust became fewer entries: it is closed as soon as it is made."""
    return replace(
        attempt, state=AttemptState.CLOSED, settled=ZERO, closed_at=attempt.claimed_at, reason="dust was summed up"
    )


def is_blocked(direction: Direction, parked: Decimal) -> bool:
    """Tell whether nothing new is claimed since an attempt is held; `parked` holds no released attempt any more.

    What one credit of an account is refused for is refused for the next one, too: one decision is enough.
    """
    return direction is Direction.INCOMING and parked > 0


def pending_step(*, set_up: bool, tear_down: bool) -> Step | None:
    """Return what the account's task has to do next on the account itself."""
    return next(iter(pending_steps(set_up=set_up, tear_down=tear_down)), None)


def pending_steps(*, set_up: bool, tear_down: bool) -> tuple[Step, ...]:
    """Return all that the account's task has to do on the account itself, in order."""
    return (Step.SET_UP,) * set_up + (Step.TEAR_DOWN,) * tear_down


def parked_state(direction: Direction) -> AttemptState:
    """Return the state of a parked attempt of this direction."""
    return AttemptState.IN_DOUBT if direction is Direction.OUTGOING else AttemptState.HELD


def may_note(attempt: Attempt, command: Note) -> bool:
    """Decide on a Note: once, while open, for an outgoing attempt, for no more than its amount."""
    if attempt.payment == command.payment:
        return False
    if attempt.payment is not None:
        raise AttemptConflict(attempt.attempt_id, tried="note", problem="another payment is noted for it")
    _require(attempt, {AttemptState.OPEN}, "note")
    if attempt.direction is not Direction.OUTGOING:
        raise AttemptConflict(attempt.attempt_id, tried="note", problem="it is incoming")
    _within(attempt, command.payment.amount, "note")
    return True


def may_close(attempt: Attempt, command: Close) -> bool:
    """Decide on a Close: an open attempt, for no more than its amount."""
    if attempt.state is AttemptState.CLOSED and attempt.settled == command.settled:
        return False
    _require(attempt, {AttemptState.OPEN}, "close")
    _within(attempt, command.settled, "close")
    return True


def may_hold(attempt: Attempt, command: Hold) -> bool:
    """Decide on a Hold: an open attempt."""
    if attempt.state in _PARKED and attempt.reason == command.reason:
        return False
    _require(attempt, {AttemptState.OPEN}, "park")
    return True


def may_release(attempt: Attempt, command: Release) -> bool:
    """Decide on a Release: a held attempt."""
    told = (attempt.reason, attempt.resolved_by) == (command.reason, command.by)
    if told and attempt.state in {AttemptState.RELEASED, AttemptState.OPEN, AttemptState.CLOSED}:
        return False
    _require(attempt, {AttemptState.HELD}, "release")
    return True


def may_resolve(attempt: Attempt, command: Resolve) -> bool:
    """Decide on a Resolve: a parked attempt, for no more than its amount."""
    same = (attempt.settled, attempt.reason, attempt.resolved_by) == (
        command.settled,
        command.reason,
        command.by,
    )
    if attempt.state is AttemptState.CLOSED and same:
        return False
    _require(attempt, _PARKED, "resolve")
    _within(attempt, command.settled, "resolve")
    return True


def may_retire(attempt: Attempt, taken: Iterable[Entry], pruned: Decimal, before: float) -> bool:
    """Decide on taking an attempt out of the history, with the entries it still has; `pruned` is of its direction.

    It must have ended before then, and if it is outgoing its keys must be forgotten. Some sum must tell afterwards that
    it was there: an audit looks for what attempts gave back in those that came later.
    """
    if attempt.state is not AttemptState.CLOSED or attempt.closed_at is None or attempt.closed_at >= before:
        return False
    if attempt.direction is Direction.OUTGOING and not attempt.pruned:
        return False
    return bool(attempt.settled or pruned or any(entry.kind is EntryKind.REQUEST for entry in taken))


def may_repeat(mark: bytes, command: Enqueue) -> None:
    """Refuse a settlement id that is known for ever with another amount; `mark` is what is kept of the first one."""
    if mark != mark_of(command.amount):
        raise IdempotencyConflict(command.account_id, command.entry_id, first=None, now=command.amount)


def may_credit(item: SuspenseItem | None, account_id: str, settlement_id: str) -> None:
    """Refuse to credit a settlement by its id that is kept as unattributed, unless it was assigned to this account."""
    if item is not None and item.account_id != account_id:
        raise SuspenseConflict(settlement_id, f"{_fate(item)}, and is not credited to account {account_id!r} as well")


def refuse_credited(settlement_id: str, account_id: str) -> NoReturn:
    """Refuse to assign a settlement that an engine credited to another account by the same id."""
    raise SuspenseConflict(settlement_id, f"was credited to account {account_id!r} by its engine")


def may_assign(item: SuspenseItem, command: Assign) -> bool:
    """Decide on an Assign: an item not yet assigned to another account, and of the amount that is named."""
    account_id = command.account_id
    if command.amount is not None and command.amount != item.amount:
        problem = f"was first reported with {item.amount:f}, now with {command.amount:f}"
        raise SuspenseConflict(item.settlement_id, problem)
    if item.dismissed and command.learned:
        raise SuspenseConflict(item.settlement_id, f"{_fate(item)}: only an operator can assign it")
    if item.account_id is None:
        return True
    if item.account_id != account_id:
        raise SuspenseConflict(item.settlement_id, f"is already assigned to account {item.account_id!r}")
    return False


def may_dismiss(item: SuspenseItem) -> bool:
    """Decide on a Dismiss: an item that waits for an operator."""
    if item.account_id is not None:
        raise SuspenseConflict(item.settlement_id, f"is already assigned to account {item.account_id!r}")
    return item.waiting


def _fate(item: SuspenseItem) -> str:
    if item.account_id is not None:
        return f"was assigned to account {item.account_id!r}"
    return f"was dismissed as not ours by {item.assigned_by!r}" if item.dismissed else "is kept as unattributed"


def refuse_claim(known: Attempt) -> None:
    """Refuse to claim under the id of an attempt that is not the account's open one, unless it only summed up dust."""
    if not known.amount:
        return
    _require(known, (), "claim")


def _require(attempt: Attempt, states: Iterable[AttemptState], tried: str) -> None:
    if attempt.state not in states:
        problem = f"it is {attempt.state.value.replace('_', ' ')}"
        if attempt.settled is not None:
            problem += f" with {attempt.settled:f} of {attempt.amount:f} settled"
        raise AttemptConflict(attempt.attempt_id, tried=tried, problem=problem)


def _within(attempt: Attempt, amount: Decimal, tried: str) -> None:
    if not 0 <= amount <= attempt.amount:
        problem = f"{amount:f} is not between 0 and its amount of {attempt.amount:f}"
        raise AttemptConflict(attempt.attempt_id, tried=tried, problem=problem)

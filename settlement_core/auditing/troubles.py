"""Records of a store as troubles: what of them an operator has to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile

from settlement_core.auditing.rules import Facts, Problem
from settlement_core.auditing.verdict import Kind, Trouble
from settlement_core.values.amounts import ZERO, total
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    EntryKind,
    SuspenseItem,
    Totals,
)

__all__ = [
    "is_balanced",
    "troubles_of_account",
    "troubles_of_attempt",
    "troubles_of_facts",
    "troubles_of_item",
    "troubles_of_problems",
]

_BEGUN = {AttemptState.OPEN, AttemptState.RELEASED}
_PARKED = {AttemptState.IN_DOUBT: Kind.IN_DOUBT, AttemptState.HELD: Kind.HELD}


def is_balanced(totals: Totals) -> bool:
    """Tell whether the sums of one direction of an account balance."""
    return totals.entered == total([totals.queued, totals.open, totals.settled, totals.parked])


def troubles_of_account(account: AccountOverview) -> Iterator[Trouble]:
    """Yield money that waits in a paused account."""
    pausing = account.pausing
    queued = total([account.outgoing.queued, account.incoming.queued])
    if pausing is not None and pausing.paused and queued > ZERO:
        yield Trouble(
            kind=Kind.PAUSED,
            words=f"by {pausing.by}: {pausing.reason}",
            account_id=account.account_id,
            amount=queued,
            since=pausing.at,
        )


def troubles_of_attempt(attempt: Attempt) -> Iterator[Trouble]:
    """Yield the attempt if it is parked."""
    if attempt.state in _PARKED:
        yield Trouble(
            kind=_PARKED[attempt.state],
            # the history of answers after the reason differs from one credit to the next
            words=attempt.reason.partition("; before that ")[0],
            account_id=attempt.account_id,
            about=attempt.attempt_id,
            amount=attempt.amount,
            since=attempt.claimed_at,
        )


def troubles_of_item(item: SuspenseItem) -> Iterator[Trouble]:
    """Yield the unattributed money if it waits."""
    if item.waiting:
        yield Trouble(kind=Kind.UNATTRIBUTED, about=item.settlement_id, amount=item.amount, since=item.reported_at)


def troubles_of_facts(facts: Facts) -> Iterator[Trouble]:
    """Yield what the rows of an account tell by themselves, while no server works on it."""
    account = facts.overview
    yield from troubles_of_account(account)
    for attempt in facts.attempts:
        yield from troubles_of_attempt(attempt)
    if account.paused:
        return
    yield from _failing(facts)
    queued = [entry for entry in facts.entries if entry.attempt_id is None and entry.kind is not EntryKind.DUST]
    begun = [attempt for attempt in facts.attempts if attempt.state in _BEGUN]
    since = [entry.entered_at for entry in queued] + [attempt.claimed_at for attempt in begun]
    if since:
        amount = total([*(entry.amount for entry in queued), *(attempt.amount for attempt in begun)])
        yield Trouble(kind=Kind.STOPPED, account_id=account.account_id, amount=amount, since=min(since))


def _failing(facts: Facts) -> Iterator[Trouble]:
    """Yield that the latest payments of the account all failed, by the times of the first and the last of them."""
    paid = [attempt for attempt in facts.attempts if attempt.direction is Direction.OUTGOING]
    failed = list(takewhile(_moved_nothing, reversed(paid)))
    if failed and facts.overview.outgoing.queued > ZERO:
        latest, first = failed[0], failed[-1]
        yield Trouble(
            kind=Kind.RETRIES,
            words=latest.reason,
            account_id=latest.account_id,
            since=first.claimed_at,
            lasted_s=(latest.closed_at or latest.claimed_at) - first.claimed_at,
        )


def _moved_nothing(attempt: Attempt) -> bool:
    closed = attempt.state is AttemptState.CLOSED and attempt.settled == ZERO
    return closed and attempt.reason != "" and attempt.resolved_by == ""


def troubles_of_problems(problems: Iterable[Problem]) -> Iterator[Trouble]:
    """Yield what an audit found."""
    for problem in problems:
        yield Trouble(kind=Kind.BOOKS, words=f"{problem.row}: {problem.sentence}", account_id=problem.account_id)

"""Proof, from the store alone, that no money was lost or doubled; every row that breaks the proof is named.

For each account and direction, exactly: `entered = queued + open + settled + parked`, and every one of these sums
follows from the entries and attempts it is the sum of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Protocol, TypeAlias, runtime_checkable

from settlement_core.abc import Store
from settlement_core.auditing.rules import Facts, Problem, judge
from settlement_core.auditing.troubles import troubles_of_facts, troubles_of_item, troubles_of_problems
from settlement_core.auditing.verdict import Trouble
from settlement_core.values import commands as c
from settlement_core.values.amounts import total
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    Entry,
    EntryKind,
    SuspenseItem,
    Totals,
)

__all__ = ["AuditReport", "AuditSteps", "Inspectable", "Problem", "audit", "audit_steps"]

PAGE = 1000
"""Rows asked for at once."""

ACCOUNTS_AT_ONCE = 100
"""Accounts read in one batch, most of which hold less than a page."""

READINGS = 5
"""How often an account that changes while it is read is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What the store holds, and whether it adds up.

    Attributes:
        accounts: every account with its running totals, in order of ids.
        outgoing, incoming: the sums over all accounts.
        entries, attempts: how many rows were looked at.
        in_doubt, held: attempts that wait for a person, oldest first within each account.
        unattributed: money without an owner that waits for a person.
        dismissed: money without an owner of which an operator said that it is not ours.
        problems: every row that breaks the proof; none if all is well.
        troubles: what an operator has to know, should no server run that would tell more.
        written_at: the latest time in the books, in wall-clock seconds since 1970; None if nothing was ever recorded.
    """

    accounts: tuple[AccountOverview, ...]
    outgoing: Totals
    incoming: Totals
    entries: int
    attempts: int
    in_doubt: tuple[Attempt, ...]
    held: tuple[Attempt, ...]
    unattributed: tuple[SuspenseItem, ...]
    dismissed: tuple[SuspenseItem, ...]
    problems: tuple[Problem, ...]
    troubles: tuple[Trouble, ...] = ()
    written_at: float | None = None

    @property
    def ok(self) -> bool:
        """Tell whether everything adds up."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, amounts as text in standard units."""
        return {
            "ok": self.ok,
            "accounts": [
                {
                    "id": account.account_id,
                    "state": account.state.value,
                    "outgoing": _written(account.outgoing),
                    "incoming": _written(account.incoming),
                }
                for account in self.accounts
            ],
            "outgoing": _written(self.outgoing),
            "incoming": _written(self.incoming),
            "written_at": self.written_at,
            "entries": self.entries,
            "attempts": self.attempts,
            "in_doubt": [_waiting(attempt) for attempt in self.in_doubt],
            "held": [_waiting(attempt) for attempt in self.held],
            "unattributed": [
                {"settlement_id": item.settlement_id, "amount": f"{item.amount:f}", "details": item.details}
                for item in self.unattributed
            ],
            "dismissed": {
                "count": len(self.dismissed),
                "amount": f"{total(item.amount for item in self.dismissed):f}",
            },
            "problems": [
                {"account": problem.account_id, "row": problem.row, "problem": problem.sentence}
                for problem in self.problems
            ],
        }


def _written(totals: Totals) -> dict[str, str]:
    return {name.name: f"{getattr(totals, name.name):f}" for name in fields(totals)}


def _waiting(attempt: Attempt) -> dict[str, str]:
    return {
        "account": attempt.account_id,
        "attempt_id": attempt.attempt_id,
        "amount": f"{attempt.amount:f}",
        "reason": attempt.reason,
    }


@runtime_checkable
class Inspectable(Protocol):
    """A store that can also check what it keeps besides the records: indexes, counters, rows without an account."""

    def inspect(self) -> Iterable[str]:
        """Return one sentence for each thing that is not as it should be."""
        ...


AuditSteps: TypeAlias = Generator[Sequence[c.Command[Any]], list[c.Result], AuditReport]
"""Yields batches of queries, is sent their results, and returns the report."""


def audit(store: Store, *, progress: Callable[[int], None] | None = None) -> AuditReport:
    """Audit a store nobody else is using; `progress` is called with the number of accounts done so far."""
    found = [Problem("", "store", sentence) for sentence in store.inspect()] if isinstance(store, Inspectable) else []
    steps = audit_steps(progress=progress, found=found)
    batch = next(steps)
    while True:
        try:
            batch = steps.send(store.apply(batch))
        except StopIteration as finished:
            report: AuditReport = finished.value
            return report


def audit_steps(*, progress: Callable[[int], None] | None = None, found: Iterable[Problem] = ()) -> AuditSteps:
    """Audit a store that only the caller can ask, such as a running server's, while money goes on moving.

    Each yielded batch is best answered at one instant; an account that seems wrong, or is too big for one batch, is
    read again until it can be judged.
    """
    books = _Books(problems=list(found))
    (clock,) = yield [c.Get(account_id=c.Tick.account_id, key=c.Tick.key)]
    books.note_time(clock.get("wall") if isinstance(clock, dict) else None)
    items: list[SuspenseItem] = yield from _pages(
        c.Suspense(limit=PAGE, assigned=True), lambda item: item.settlement_id
    )
    for item in items:
        books.note_time(item.reported_at, item.assigned_at)
        books.troubles += troubles_of_item(item)
        if item.account_id is not None:
            books.assigned[item.account_id][item.settlement_id] = item.amount
        elif item.assigned_at is not None:
            books.dismissed[item.settlement_id] = item
        else:
            books.unattributed.append(item)
    after = ""
    while True:
        (page,) = yield [c.Overview(after=after, limit=ACCOUNTS_AT_ONCE)]
        if not page:
            break
        after = page[-1].account_id
        yield from _audit_accounts(books, [account.account_id for account in page])
        if progress is not None:
            progress(len(books.accounts))
    yield from _find_stray_attempts(books)
    yield from _find_credited(books)
    return books.report()


@dataclass(slots=True)
class _Books:
    """What the audit has found so far."""

    problems: list[Problem]
    accounts: dict[str, AccountOverview] = field(default_factory=dict)
    entries: int = 0
    attempts: int = 0
    waiting: list[Attempt] = field(default_factory=list)
    unattributed: list[SuspenseItem] = field(default_factory=list)
    assigned: dict[str, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(dict))
    """Amounts of assigned unattributed money by account and settlement id."""
    dismissed: dict[str, SuspenseItem] = field(default_factory=dict)
    credited: list[Entry] = field(default_factory=list)
    """Entries under the ids of dismissed money that came later than it was dismissed."""
    troubles: list[Trouble] = field(default_factory=list)
    written_at: float | None = None

    def note_time(self, *times: float | None) -> None:
        """Remember the latest of these times in the books."""
        known = [time for time in (*times, self.written_at) if time is not None]
        self.written_at = max(known, default=None)

    def take(self, facts: Facts, problems: list[Problem]) -> None:
        self.accounts[facts.overview.account_id] = facts.overview
        self.entries += len(facts.entries)
        self.attempts += len(facts.attempts)
        self.waiting += [a for a in facts.attempts if a.state in {AttemptState.IN_DOUBT, AttemptState.HELD}]
        self.problems += problems
        self.troubles += troubles_of_facts(facts)
        self.note_time(
            *(entry.used_at for entry in facts.entries),
            *(attempt.closed_at or attempt.claimed_at for attempt in facts.attempts),
            None if facts.overview.pausing is None else facts.overview.pausing.at,
        )
        if self.dismissed:
            self.credited += [entry for entry in facts.entries if self._was_dismissed(entry)]

    def _was_dismissed(self, entry: Entry) -> bool:
        """Tell whether the money of an incoming entry had been dismissed when it came."""
        item = self.dismissed.get(entry.entry_id)
        came = entry.direction is Direction.INCOMING and entry.kind is EntryKind.REQUEST
        return came and item is not None and item.assigned_at is not None and entry.entered_at > item.assigned_at

    def report(self) -> AuditReport:
        for account_id in self.assigned.keys() - self.accounts.keys():
            for settlement_id in self.assigned[account_id]:
                row = f"unattributed settlement {settlement_id!r}"
                self.problems.append(Problem(account_id, row, "it was assigned to this account, which does not exist"))
        accounts = tuple(self.accounts.values())
        return AuditReport(
            accounts=accounts,
            outgoing=_sum(account.outgoing for account in accounts),
            incoming=_sum(account.incoming for account in accounts),
            entries=self.entries,
            attempts=self.attempts,
            in_doubt=tuple(a for a in self.waiting if a.state is AttemptState.IN_DOUBT),
            held=tuple(a for a in self.waiting if a.state is AttemptState.HELD),
            unattributed=tuple(self.unattributed),
            dismissed=tuple(self.dismissed.values()),
            problems=tuple(self.problems),
            troubles=(*self.troubles, *troubles_of_problems(self.problems)),
            written_at=self.written_at,
        )


def _sum(parts: Iterable[Totals]) -> Totals:
    known = list(parts)
    return Totals(**{name.name: total(getattr(part, name.name) for part in known) for name in fields(Totals)})


# reading


_Reading: TypeAlias = Generator[Sequence[c.Command[Any]], list[c.Result], Any]


def _pages(query: Any, cursor: Callable[[Any], Any]) -> _Reading:
    """Return all items of a paged query."""
    items: list[Any] = []
    while True:
        (page,) = yield [query]
        items += page
        if len(page) < query.limit:
            return items
        query = _after(query, cursor(page[-1]))


def _after(query: Any, cursor: Any) -> Any:
    known = {name.name: getattr(query, name.name) for name in fields(query)}
    return type(query)(**(known | {"after": cursor}))


def _audit_accounts(books: _Books, account_ids: list[str]) -> _Reading:
    """Judge accounts that can be read in one batch at once, and the others one by one."""
    questions: list[c.Command[Any]] = []
    for account_id in account_ids:
        questions += [
            c.Overview(account_id=account_id),
            *(c.Entries(account_id=account_id, direction=direction, limit=PAGE) for direction in Direction),
            c.History(account_id=account_id, limit=PAGE),
        ]
    answers: Iterator[Any] = iter((yield questions))
    for account_id, (overview,), outgoing, incoming, attempts in zip(account_ids, *[answers] * 4, strict=False):
        facts = Facts(overview, [*outgoing, *incoming], attempts)
        whole = max(map(len, (outgoing, incoming, attempts))) < PAGE
        problems = list(judge(facts, (yield from _listed(books, facts)))) if whole else []
        if whole and not problems:
            books.take(facts, problems)
        else:
            yield from _audit_account(books, account_id)


def _audit_account(books: _Books, account_id: str) -> _Reading:
    """Judge one account by pages, again if it changed meanwhile or looks wrong, as it may if it changed and back."""
    for _ in range(READINGS):
        (before,) = (yield [c.Overview(account_id=account_id)])[0]
        entries = []
        for direction in Direction:
            query = c.Entries(account_id=account_id, direction=direction, limit=PAGE)
            entries += yield from _pages(query, lambda entry: entry.seq)
        attempts = yield from _pages(c.History(account_id=account_id, limit=PAGE), lambda attempt: attempt.attempt_id)
        (overview,) = (yield [c.Overview(account_id=account_id)])[0]
        facts = Facts(overview, entries, attempts)
        problems = list(judge(facts, (yield from _listed(books, facts))))
        if before == overview and not problems:
            break
    if before != overview:
        problems = [Problem(account_id, "account", f"it changed during each of {READINGS} readings; audit it again")]
    books.take(facts, problems)


def _listed(books: _Books, facts: Facts) -> _Reading:
    """Return what was assigned to the account and has not left the history, amounts by settlement id."""
    account_id = facts.overview.account_id
    assigned = books.assigned.get(account_id, {})
    entered = {entry.entry_id for entry in facts.entries if entry.direction is Direction.INCOMING}
    missing = [one for one in assigned if one not in entered]
    if not missing:
        return assigned
    known = yield [c.KnowsSettlement(account_id=account_id, settlement_id=one) for one in missing]
    gone = {one for one, is_known in zip(missing, known, strict=True) if is_known}
    return {one: amount for one, amount in assigned.items() if one not in gone}


def _find_stray_attempts(books: _Books) -> _Reading:
    """Name attempts of accounts that do not exist."""
    query = c.History(limit=PAGE)
    while True:
        (page,) = yield [query]
        for attempt in page:
            # an account opened since the accounts were read is no stray
            if attempt.account_id not in books.accounts:
                (known,) = yield [c.Overview(account_id=attempt.account_id)]
                if not known:
                    row = f"attempt {attempt.attempt_id!r}"
                    books.problems.append(Problem(attempt.account_id, row, "its account does not exist"))
        if len(page) < PAGE:
            return
        query = c.History(limit=PAGE, after=page[-1].attempt_id, after_account=page[-1].account_id)


def _find_credited(books: _Books) -> _Reading:
    """Name what was credited although it had been dismissed, unless an operator assigned it since we read that."""
    if not books.credited:
        return
    items = yield from _pages(c.Suspense(limit=PAGE, assigned=True), lambda item: item.settlement_id)
    still = {item.settlement_id for item in items if item.dismissed}
    for entry in books.credited:
        if entry.entry_id in still:
            row = f"unattributed settlement {entry.entry_id!r}"
            sentence = f"it was dismissed as not ours, but {entry.amount:f} was entered under its id later"
            books.problems.append(Problem(entry.account_id, row, sentence))

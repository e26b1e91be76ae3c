"""Moving books from one store to another, so that never both are served.

The order of the marks is what keeps money safe, wherever the migration is cut off:

    nothing is marked          the old store is served as ever
    new: incomplete            … and the new one is refused, until it is deleted
    new: complete              … or until a migration that is run again finds it equal to the old one
    new: complete, old: moved  neither is served, until a migration that is run again finishes this one
    old: moved                 the new store is served

A worker that was silent meanwhile, or was just starting, has the old store open and knows no mark. It is fenced: the
old store when no worker can be certain of a lease any more and again when it is marked, the new one when it is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import chain, zip_longest
from typing import Any, TypeVar
from uuid import uuid4

from settlement_core.abc import ImportingStore, Store
from settlement_core.auditing.audit import AuditReport, audit
from settlement_core.migration_rows import (
    PAGE,
    after_value,
    all_rows,
    ask,
    kept_values,
    known_of,
    pages,
    rows_of,
    suspense_of,
    values_of,
)
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError
from settlement_core.values.known import KnownSettlement
from settlement_core.values.records import AccountOverview, Attempt, Direction, EngineValue, SuspenseItem, Totals
from settlement_core.values.sealing import SEAL, refuse_sealed, seal

__all__ = ["Counts", "MigrationReport", "Progress", "Route", "examine", "migrate"]

R = TypeVar("R")

Progress = Callable[[str], None]
"""Is told, again and again, what is being done and how far it is."""

ACCOUNTS_AT_ONCE = 20
"""Accounts read in one batch, most of which hold less than a page."""


@dataclass(frozen=True, slots=True)
class Route:
    """From which store to which, by the URLs a person knows them by, without passwords."""

    source: str
    destination: str

    @property
    def incomplete(self) -> str:
        """What whoever serves the new store is told, until everything has arrived."""
        return (
            f"the store {self.destination} is not complete: its migration from {self.source} did not finish; delete it "
            f"and migrate again, {self.source} is as it was"
        )

    @property
    def unconfirmed(self) -> str:
        """What whoever serves the new store is told, until the old one is marked."""
        return (
            f"the store {self.destination} is complete, but its migration was cut off at its very end: run "
            f"'settlement-core migrate {self.source} {self.destination}' again to finish it"
        )

    @property
    def moved(self) -> str:
        """What whoever serves the old store is told from then on."""
        return (
            f"the store {self.source} was moved to {self.destination}: serve that one; what was recorded here would "
            "never be paid"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many rows a store has."""

    accounts: int
    entries: int
    attempts: int
    suspense: int
    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What was in the old store, what is in the new one, and a sentence for each difference: none if all is well."""

    before: AuditReport
    after: AuditReport
    counts_before: Counts
    counts_after: Counts
    differences: tuple[str, ...]


def examine(source: Store, route: Route, progress: Progress | None = None) -> AuditReport:
    """Return an audit of a store that is to be moved; raise `LocalError` if it may not be, or is in use."""
    tell = progress or _nobody
    answer = ask(source, SEAL)
    if answer != route.moved:
        refuse_sealed(answer)
    _require_unused(source, route.source)
    # every lease has run out; what still has the store open, and comes back or has not begun, is refused from now on
    ask(source, c.Fence())
    # what a worker that was killed began to assign is finished by whoever shares the store next
    ask(source, c.Share(worker=f"migration-{uuid4().hex}", lease_s=1.0, leaving=True))
    return audit(source, progress=lambda accounts: tell(f"auditing {route.source}: {accounts} accounts"))


def migrate(
    source: Store, examined: AuditReport, destination: Store, route: Route, progress: Progress | None = None
) -> MigrationReport:
    """Move everything from a store that was examined to an empty one, and compare them.

    If that was begun before and cut off at its very end, it is finished. With differences, the old store is served as
    ever and the new one is refused.

    Raises `LocalError` if the old store does not add up, or the new one is not empty or cannot take accounts over.
    """
    tell = progress or _nobody
    if not examined.ok:
        raise LocalError(
            f"the books of {route.source} do not add up, as settlement-core audit tells in detail: nothing was migrated"
        )
    answer = ask(destination, SEAL)
    if answer != route.unconfirmed:
        refuse_sealed(answer)
        # it is marked as moved, but that there is no trace of what was moved
        refuse_sealed(ask(source, SEAL))
        _fill(source, destination, route, tell)
    after = audit(destination, progress=lambda accounts: tell(f"auditing {route.destination}: {accounts} accounts"))
    differences = [*_compare_reports(examined, after)]
    if not differences:
        ask(destination, seal(route.unconfirmed))
        ask(source, seal(route.moved))
        ask(source, c.Fence())
        # nobody takes it into use any more, nor goes on with it; whoever did meanwhile is found out
        differences = [*_used_meanwhile(source, examined, route), *_compare_rest(source, destination)]
    if differences:
        ask(source, seal(None))
        ask(destination, seal(route.incomplete))
    else:
        ask(destination, seal(None))
    return MigrationReport(
        before=examined,
        after=after,
        counts_before=_count(source, examined),
        counts_after=_count(destination, after),
        differences=tuple(differences),
    )


def _nobody(_: str) -> None:
    pass


def _require_unused(store: Store, name: str) -> None:
    workers = [worker.worker_id for worker in ask(store, c.Workers()) if worker.expires_in_s > 0]
    if workers:
        count = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
        raise LocalError(f"the store {name} is in use by {count} ({', '.join(workers)}): stop them first")


# copying


def _fill(source: Store, destination: Store, route: Route, tell: Progress) -> None:
    if not isinstance(destination, ImportingStore):
        raise LocalError(f"the store {route.destination} cannot take over accounts from another one")
    _require_empty(destination, route.destination)
    ask(destination, seal(route.incomplete))
    # somebody may have taken it into use just before, or opened it to do so
    ask(destination, c.Fence())
    _require_empty(destination, route.destination)
    _copy_accounts(source, destination, tell)
    destination.import_known(_counted(source, tell))
    _copy_suspense(source, destination, route)
    for page in pages(source, c.Values(limit=PAGE), after_value):
        for result in destination.apply(
            [c.Put(account_id=v.account_id, key=v.key, value=v.value) for v in kept_values(page)]
        ):
            if isinstance(result, Exception):
                raise result


def _require_empty(store: Store, name: str) -> None:
    _require_unused(store, name)
    queries = [c.Overview(limit=1), c.History(limit=1), c.Suspense(limit=1, assigned=True), c.Values(limit=3)]
    *found, values = store.apply(queries)
    # a store that was served before has a clock, and nothing else
    if any(found) or any(value.account_id != SEAL.account_id for value in values):
        raise LocalError(f"the store {name} is not empty: migrate to a new one; nothing was changed")


def _copy_accounts(source: Store, destination: ImportingStore, tell: Progress) -> None:
    accounts, rows = 0, _Counter()
    for page in pages(source, c.Overview(limit=ACCOUNTS_AT_ONCE), lambda account: account.account_id):
        queries = [query for account in page for query in _queries(account.account_id)]
        answers = iter(source.apply(queries))
        for account, *first in zip(page, *[answers] * 3, strict=False):
            outgoing, incoming, attempts = (
                rows.count(rows_of(source, query, page, _CURSORS[type(query)]))
                for query, page in zip(_queries(account.account_id), first, strict=True)
            )
            destination.import_account(account, chain(outgoing, incoming), attempts)
            accounts += 1
            tell(f"copying: {accounts} accounts, {rows.counted} entries and attempts")


def _counted(source: Store, tell: Progress) -> Iterator[KnownSettlement]:
    """Yield the settlement ids that the source's accounts know for ever."""
    for number, known in enumerate(known_of(source), 1):
        if number % PAGE == 0:
            tell(f"copying: {number} settlement ids of credits that have left the history")
        yield known


def _queries(account_id: str) -> tuple[Any, ...]:
    entries = (c.Entries(account_id=account_id, direction=direction, limit=PAGE) for direction in Direction)
    return (*entries, c.History(account_id=account_id, limit=PAGE))


_CURSORS: dict[type, Callable[[Any], Any]] = {
    c.Entries: lambda entry: entry.seq,
    c.History: lambda attempt: attempt.attempt_id,
}


class _Counter:
    counted = 0

    def count(self, rows: Iterable[R]) -> Iterator[R]:
        for row in rows:
            self.counted += 1
            yield row


def _copy_suspense(source: Store, destination: Store, route: Route) -> None:
    """Copy money without an owner, and what was decided about it: the entries that made are there already."""
    for page in pages(source, c.Suspense(limit=PAGE, assigned=True), lambda item: item.settlement_id):
        for result in destination.apply([command for item in page for command in _suspending(item)]):
            if isinstance(result, Exception):
                raise result
            if isinstance(result, c.Entered) and not result.replay:
                raise LocalError(f"assigned money is missing from its account in {route.source}: audit it")


def _suspending(item: SuspenseItem) -> Iterator[c.Command[Any]]:
    yield c.Suspend(settlement_id=item.settlement_id, amount=item.amount, details=item.details, at=item.reported_at)
    if item.account_id is not None:
        assert item.assigned_at is not None
        yield c.Assign(
            settlement_id=item.settlement_id,
            account_id=item.account_id,
            reason=item.reason,
            by=item.assigned_by,
            at=item.assigned_at,
        )
    elif item.assigned_at is not None:
        settlement_id, by = item.settlement_id, item.assigned_by
        yield c.Dismiss(settlement_id=settlement_id, reason=item.reason, by=by, at=item.assigned_at)


# comparing


def _count(store: Store, report: AuditReport) -> Counts:
    return Counts(
        accounts=len(report.accounts),
        entries=report.entries,
        attempts=report.attempts,
        suspense=sum(1 for _ in suspense_of(store)),
        values=sum(1 for _ in values_of(store)),
    )


def _compare_reports(before: AuditReport, after: AuditReport) -> Iterator[str]:
    """Yield a sentence for everything in which the accounts of the stores differ."""
    yield from (f"in the new store, {problem}" for problem in after.problems)
    yield from _compare_accounts(before.accounts, after.accounts)
    for what, old, new in (("entries", before.entries, after.entries), ("attempts", before.attempts, after.attempts)):
        if old != new:
            yield f"there are {new} {what}, but {old} in the old store"
    if _waiting(before) != _waiting(after):
        yield "other attempts wait for a person than in the old store"


def _compare_rest(source: Store, destination: Store) -> Iterator[str]:
    """Yield a sentence for each kind of row, besides accounts, in which the stores differ."""
    pairs: list[tuple[str, Iterator[Any], Iterator[Any]]] = [
        ("unattributed settlement", suspense_of(source), suspense_of(destination)),
        ("engine's value", values_of(source), values_of(destination)),
    ]
    for what, olds, news in pairs:
        for old, new in zip_longest(olds, news):
            if old != new:
                yield f"the {what} {_named(old or new)} is {'missing or ' if new is None else ''}another than before"
                # what comes after it would only be shifted
                break
    if _fingerprint(source) != _fingerprint(destination):
        yield "settlement ids of credits that have left the history are missing or others than before"


def _fingerprint(store: Store) -> tuple[int, int]:
    """Return how many settlement ids are known for ever, and a sum of digests that differs if any of them does."""
    count, sum_of_digests = 0, 0
    for one in known_of(store):
        count += 1
        content = one.account_id.encode() + b"\0" + one.digest + one.mark
        sum_of_digests += int.from_bytes(blake2b(content, digest_size=16).digest())
    return count, sum_of_digests


def _waiting(report: AuditReport) -> list[Attempt]:
    return sorted((*report.in_doubt, *report.held), key=lambda attempt: (attempt.account_id, attempt.attempt_id))


def _named(row: SuspenseItem | EngineValue) -> str:
    if isinstance(row, EngineValue):
        return f"{row.key!r} of {row.account_id!r}"
    return repr(row.settlement_id)


def _compare_accounts(before: Sequence[AccountOverview], after: Sequence[AccountOverview]) -> Iterator[str]:
    olds, news = ({account.account_id: account for account in accounts} for accounts in (before, after))
    for account_id in sorted(olds.keys() | news.keys()):
        old, new = olds.get(account_id), news.get(account_id)
        if old is None or new is None:
            yield f"account {account_id!r} is {'missing' if new is None else 'not in the old store'}"
        elif old != new:
            yield from _compare_account(old, new)


def _compare_account(old: AccountOverview, new: AccountOverview) -> Iterator[str]:
    for fact in fields(AccountOverview):
        one, other = getattr(old, fact.name), getattr(new, fact.name)
        if isinstance(one, Totals):
            for name in (part.name for part in fields(Totals)):
                first, second = getattr(one, name), getattr(other, name)
                if first != second:
                    yield f"account {old.account_id!r}: {fact.name} {name} was {first:f}, but is {second:f}"
        elif one != other:
            yield f"account {old.account_id!r}: {fact.name} was {one!r}, but is {other!r}"


def _used_meanwhile(source: Store, examined: AuditReport, route: Route) -> Iterator[str]:
    """Yield what was done to the old store since it was examined."""
    if any(worker.expires_in_s > 0 for worker in ask(source, c.Workers())):
        yield f"somebody took {route.source} into use meanwhile"
    now = list(all_rows(source, c.Overview(limit=PAGE), lambda account: account.account_id))
    for sentence in _compare_accounts(examined.accounts, now):
        yield f"{route.source} was used meanwhile: {sentence}"

"""One contract suite for every store: whatever is asked of it, it answers as the reference interpreter does.

For store authors; needs Hypothesis (`pip install settlement-core[testing]`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import HealthCheck, example, given, settings

from settlement_core.abc import SteppedStore, Store
from settlement_core.stores._steps import make_waits
from settlement_core.testing._store_scripts import ACCOUNTS, KEYS, OnAttempt, Step, scripts
from settlement_core.testing._store_tours import tours
from settlement_core.values import commands as c
from settlement_core.values.amounts import ZERO, add, subtract, total
from settlement_core.values.records import Attempt, AttemptState, Direction, Entry
from settlement_core.values.reference import Books

__all__ = ["check_store"]

S = TypeVar("S", bound=Store)

_ALL = 1_000_000
_PAGE = 2


def check_store(
    make_store: Callable[[], S],
    *,
    reopen: Callable[[S], S] | None = None,
    fail_partway: Callable[[S, Sequence[c.Command[Any]], int], Sequence[c.Command[Any]]] | None = None,
    examples: int = 100,
) -> None:
    """Check that a store means by every command what `settlement_core.values.reference.Books` means by it.

    Two tours through everything a store does, and then random scripts of batches, are applied to a new store and to
    the reference. After every batch all results, all accounts, attempts, entries and unattributed money must be
    equal, refusals by their type and text, and for each account and direction
    `entered = queued + open + settled + parked` must hold exactly. Between batches earlier commands and whole batches
    are applied again, and at the end everything is read once more in small pages. A `SteppedStore` is applied in steps
    every second time.

    Which numbers a store gives to entries is its own affair, as long as they grow; so is the order in which
    `Prune` forgets, as long as everything due is forgotten in the end, and how attempts of several accounts are
    merged, as long as each account's are in the order of their claims.

    Args:
        make_store: returns a new, empty store. It is called once per example, and the store is closed after it.
        reopen: closes the store and returns it opened again, with what it had made durable.
        fail_partway: has the store fail with `StoreUnavailable` while it applies the batch, after about the given
            number of elementary steps (0 to 200); returns those of the batch's commands that hold all the same: none
            for a store whose batch is one transaction, all if the batch went through before it could fail. The
            batch is then applied again, as a whole.
        examples: number of scripts.

    Raises:
        AssertionError: the store is wrong. Hypothesis prints the shortest script it found that shows it.
    """

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
    @given(script=scripts(can_reopen=reopen is not None, can_fail=fail_partway is not None))
    def agrees_with_the_reference(script: list[Step]) -> None:
        trial = _Trial(make_store())
        try:
            for step in script:
                trial.take(step, reopen, fail_partway)
            trial.finish()
        finally:
            trial.store.close()

    for tour in tours():
        agrees_with_the_reference = example(script=tour)(agrees_with_the_reference)
    agrees_with_the_reference()


class _Trial:
    """A store and the reference beside it, through one script."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.books = Books()
        self._applied: list[c.Command[Any]] = []
        self._batches = 0

    def take(
        self,
        step: Step,
        reopen: Callable[[Any], Any] | None,
        fail_partway: Callable[[Any, Sequence[c.Command[Any]], int], Sequence[c.Command[Any]]] | None,
    ) -> None:
        """Apply one batch, and whatever is to happen with it besides."""
        batch = _spell_out(self.books, step.batch)
        if fail_partway is not None and step.fail_after is not None:
            self.books.apply(fail_partway(self.store, batch, step.fail_after))
        self._apply(batch)
        for again in step.again:
            self._apply([self._applied[again % len(self._applied)]])
        if step.whole_again:
            self._apply(batch)
        if reopen is not None and step.reopen:
            self.store = reopen(self.store)
        self._compare_books()

    def finish(self) -> None:
        """Forget step by step what may be forgotten, and read everything in small pages."""
        expected = self.books.apply([c.Prune(before=_ALL * 1e6, limit=_ALL)])[0]
        forgotten = 0
        while (step := self.store.apply([c.Prune(before=_ALL * 1e6, limit=1)])[0]) > 0:
            forgotten += step
        assert forgotten == expected, f"store forgot {forgotten} entries, the reference {expected}"
        for account in self.books.apply([c.Overview(limit=_ALL)])[0]:
            attempts = self.books.apply([c.History(account_id=account.account_id, limit=_ALL)])[0]
            ids = tuple(attempt.attempt_id for attempt in attempts)
            self._apply([c.Retire(account_id=account.account_id, attempt_ids=ids[::2], before=_ALL * 1e6)])
        self._compare_books()
        _check_pages(self.store)

    def _apply(self, batch: Sequence[c.Command[Any]]) -> None:
        results, expected = self._answers(batch), self.books.apply(batch)
        assert len(results) == len(batch), f"store gave {len(results)} results to {len(batch)} commands"
        for command, result, wanted in zip(batch, results, expected, strict=True):
            shown = f"to {command}\n  the store answered   {result!r}\n  the reference wanted {wanted!r}"
            assert _form(result) == _form(wanted), shown
        self._applied += batch

    def _answers(self, batch: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Have the store apply a batch: every second one step by step, with each wait in a thread, if it can."""
        self._batches += 1
        if isinstance(self.store, SteppedStore) and self._batches % 2:
            with ThreadPoolExecutor(1) as thread:
                return make_waits(self.store.apply_in_steps(batch), make=lambda wait: thread.submit(wait).result())
        results: list[c.Result] = self.store.apply(batch)
        return results

    def _compare_books(self) -> None:
        questions = [
            c.Overview(limit=_ALL),
            c.Due(limit=_ALL),
            *(c.Due(limit=_ALL, direction=direction) for direction in Direction),
            c.History(limit=_ALL),
            c.Suspense(limit=_ALL, assigned=True),
            *(
                c.Entries(account_id=account_id, direction=direction, limit=_ALL)
                for account_id in ACCOUNTS
                for direction in Direction
            ),
            *(c.Get(account_id=account_id, key=key) for account_id in ("", *ACCOUNTS) for key in KEYS),
            c.Values(limit=_ALL),
        ]
        results, expected = self.store.apply(questions), self.books.apply(questions)
        for question, result, wanted in zip(questions, results, expected, strict=True):
            shown = f"afterwards, to {question}\n  the store answers   {result!r}\n  the reference wants {wanted!r}"
            assert _form(result) == _form(wanted), shown
        _check_sums(results[0])


def _spell_out(books: Books, batch: Sequence[c.Command[Any] | OnAttempt]) -> list[c.Command[Any]]:
    """Return the batch with what depends on attempts before it filled in."""
    scratch = deepcopy(books)
    commands: list[c.Command[Any]] = []
    for item in batch:
        command = item if isinstance(item, c.Command) else item.spell_out(scratch.apply([c.History(limit=_ALL)])[0])
        scratch.apply([command])
        commands.append(command)
    return commands


def _form(result: c.Result) -> object:
    """Return what of a result must be equal."""
    if isinstance(result, Exception):
        return type(result), str(result)
    if isinstance(result, c.Entered):
        # a replay is answered with the very quantity of the first request, trailing zeros included
        return str(result.amount), result.replay
    if isinstance(result, list) and result and isinstance(result[0], Entry):
        numbers = [entry.seq for entry in result]
        assert numbers == sorted(set(numbers)), f"sequence numbers do not grow: {numbers}"
        return [(str(entry.amount), replace(entry, seq=place)) for place, entry in enumerate(result)]
    if isinstance(result, list) and result and isinstance(result[0], Attempt):
        return sorted(result, key=lambda attempt: attempt.account_id)
    return result


def _check_sums(accounts: list[Any]) -> None:
    for account in accounts:
        for direction in ("outgoing", "incoming"):
            sums = getattr(account, direction)
            parts = total((sums.queued, sums.open, sums.settled, sums.parked))
            assert sums.entered == parts, (
                f"{direction} money of {account.account_id!r} does not add up, {subtract(sums.entered, parts):f} is "
                f"missing: {sums}"
            )
            assert min(sums.queued, sums.open, sums.settled, sums.parked, sums.pruned) >= 0, f"negative: {sums}"
            assert add(sums.pruned, ZERO) <= sums.entered, f"forgot more than was entered: {sums}"
            assert ZERO <= sums.retired <= sums.settled, f"more has left the history than was settled: {sums}"


def _check_pages(store: Store) -> None:
    """Check that pages, laid end to end, are the whole, and all but the last are full."""

    def ask(command: c.Command[Any]) -> Any:
        return store.apply([command])[0]

    states: list[frozenset[AttemptState]] = [
        frozenset(),
        *(frozenset({state}) for state in AttemptState),
        frozenset(set(AttemptState) - {AttemptState.CLOSED}),
        frozenset({AttemptState.CLOSED, AttemptState.OPEN}),
    ]
    queries: list[tuple[Any, Callable[[Any], Any]]] = [
        (c.Overview(), lambda account: account.account_id),
        (c.Due(), lambda account_id: account_id),
        (c.Suspense(), lambda item: item.settlement_id),
        (c.Suspense(assigned=True), lambda item: item.settlement_id),
        (c.Values(), lambda value: (value.account_id, value.key)),
    ]
    queries += [
        (c.Entries(account_id=account_id, direction=direction), lambda entry: entry.seq)
        for account_id in ACCOUNTS
        for direction in Direction
    ]
    queries += [
        (c.History(account_id=owner, states=chosen, newest=newest), lambda attempt: attempt.attempt_id)
        for chosen in states
        for owner in (None, *ACCOUNTS)
        for newest in (False, True)
    ]
    for query, cursor in queries:
        whole = ask(replace(query, limit=_ALL))
        page_query = replace(query, limit=_PAGE)
        for start in range(0, len(whole) + 1, _PAGE):
            page, wanted = ask(page_query), whole[start : start + _PAGE]
            assert page == wanted, f"the page of {page_query}\n  is        {page}\n  should be {wanted}"
            if page:
                page_query = replace(page_query, after=cursor(page[-1]))

"""Every store means by every command what the reference means by it; and the check that says so cannot be fooled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from settlement_core.stores._steps import Steps
from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from settlement_core.testing.store_check import check_store
from settlement_core.values import commands as c
from settlement_core.values.errors import StoreUnavailable, UnknownAccount
from settlement_core.values.records import Attempt, Entry

EXAMPLES = int(os.environ.get("CHECK_EXAMPLES", "100"))


def test_memory_store_fulfils_the_contract() -> None:
    """The memory store agrees with the reference on random scripts."""
    assert repr(create_memory_store()) == "<MemoryStore>"
    check_store(create_memory_store, examples=EXAMPLES)


def test_sqlite_store_fulfils_the_contract_across_reopenings_and_failures(tmp_path: Path) -> None:
    """The SQLite store agrees with the reference, opened again at any time and cut off anywhere in a transaction.

    Failures are SQLite's own: its virtual machine is interrupted after a number of instructions.
    """
    numbers = count()

    def make() -> SqliteStore:
        return open_sqlite_store(tmp_path / f"{next(numbers)}.db")

    def reopen(store: SqliteStore) -> SqliteStore:
        store.close()
        return open_sqlite_store(store.path)

    failures = 0

    def fail_partway(store: SqliteStore, batch: Sequence[c.Command[Any]], steps: int) -> Sequence[c.Command[Any]]:
        nonlocal failures
        left = steps

        def is_over() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        connection = store._connection
        before = list(connection.iterdump())
        connection.set_progress_handler(is_over, 7)
        try:
            store.apply(batch)
        except StoreUnavailable:
            failures += 1
        finally:
            connection.set_progress_handler(None, 0)
        # a transaction may be left that could not even be rolled back; a commit may be cut off after it was done
        return [] if connection.in_transaction or list(connection.iterdump()) == before else batch

    check_store(make, reopen=reopen, fail_partway=fail_partway, examples=EXAMPLES)
    # how many there are is up to chance; without any, nothing would have been cut off
    assert failures > EXAMPLES / 50


def test_sqlite_store_fulfils_the_contract_with_several_credits_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Books of earlier versions hold several credits of an account: any order of decisions means the same."""
    monkeypatch.setattr("settlement_core.values.decisions.is_blocked", lambda *_: False)
    numbers = count()
    check_store(lambda: open_sqlite_store(tmp_path / f"{next(numbers)}.db"), examples=EXAMPLES)


# the check itself


@pytest.fixture
def _no_shrinking() -> Iterator[None]:
    """Stop at the first script that shows a defect, however long."""
    before = settings.get_current_profile_name()
    settings.register_profile("no shrinking", parent=settings(), phases=[Phase.explicit, Phase.generate], database=None)
    settings.load_profile("no shrinking")
    yield
    settings.load_profile(before)


class _WrongStore(MemoryStore):
    """A store with one defect."""

    def __init__(self, defect: Callable[[c.Command[Any], Any], Any]) -> None:
        super().__init__()
        self._defect = defect

    def _answer(self, command: c.Command[Any]) -> Any:
        return self._defect(command, super()._answer(command))


def _forgets_replays(command: c.Command[Any], result: Any) -> Any:
    return replace(result, replay=False) if isinstance(result, c.Entered) else result


def _rounds_replays(command: c.Command[Any], result: Any) -> Any:
    return replace(result, amount=result.amount.normalize()) if isinstance(result, c.Entered) else result


def _loses_a_digit(command: c.Command[Any], result: Any) -> Any:
    if isinstance(result, c.Claimed):
        return replace(result, attempt=replace(result.attempt, amount=Decimal(float(result.attempt.amount))))
    return result


def _forgets_nothing_more(command: c.Command[Any], result: Any) -> Any:
    return 0 if isinstance(command, c.Prune) else result


def _repeats_a_number(command: c.Command[Any], result: Any) -> Any:
    if isinstance(command, c.Entries):
        return [replace(entry, seq=7) for entry in result]
    return result


def _gives_too_much(command: c.Command[Any], result: Any) -> Any:
    return [*result, *result] if isinstance(command, c.Due) else result


def _drops_history(command: c.Command[Any], result: Any) -> Any:
    if isinstance(command, c.History) and command.limit == 2:
        return [attempt for attempt in result if isinstance(attempt, Attempt)][:1]
    return result


def _swaps_amounts(command: c.Command[Any], result: Any) -> Any:
    if isinstance(command, c.Entries):
        return [replace(entry, amount=Decimal(1)) for entry in result if isinstance(entry, Entry)]
    return result


def _says_otherwise(command: c.Command[Any], result: Any) -> Any:
    return ValueError(str(result)) if isinstance(result, Exception) else result


@pytest.mark.usefixtures("_no_shrinking")
@pytest.mark.parametrize(
    "defect",
    [
        _forgets_replays,
        _rounds_replays,
        _loses_a_digit,
        _forgets_nothing_more,
        _repeats_a_number,
        _gives_too_much,
        _drops_history,
        _swaps_amounts,
        _says_otherwise,
    ],
)
def test_a_store_with_a_defect_does_not_pass(defect: Callable[[c.Command[Any], Any], Any]) -> None:
    """Whatever a store gets wrong, the check finds it within its usual number of examples."""
    with pytest.raises(AssertionError):
        check_store(lambda: _WrongStore(defect))


def test_a_store_that_takes_part_of_a_failed_batch_passes_if_it_says_which() -> None:
    """A store may fail half-way through a batch, as long as applying all of it again comes out right."""

    def fail_partway(store: MemoryStore, batch: Sequence[c.Command[Any]], steps: int) -> Sequence[c.Command[Any]]:
        held = batch[: steps % (len(batch) + 1)]
        store.apply(held)
        return held

    check_store(create_memory_store, fail_partway=fail_partway, examples=20)


@pytest.mark.usefixtures("_no_shrinking")
def test_a_store_that_takes_part_of_a_failed_batch_in_silence_does_not_pass() -> None:
    """A batch that half holds, though its store said that nothing does, is found."""

    def fail_partway(store: MemoryStore, batch: Sequence[c.Command[Any]], steps: int) -> Sequence[c.Command[Any]]:
        store.apply(batch[: steps % (len(batch) + 1)])
        return []

    with pytest.raises(AssertionError):
        check_store(create_memory_store, fail_partway=fail_partway)


class _TwoMinds(MemoryStore):
    """Refuses, when applied in steps, what it takes otherwise."""

    def apply_in_steps(self, commands: Sequence[c.Command[Any]]) -> Steps[list[c.Result]]:
        yield lambda: None
        return [UnknownAccount("alice") if isinstance(one, c.Enqueue) else self.apply([one])[0] for one in commands]


@pytest.mark.usefixtures("_no_shrinking")
def test_a_store_that_is_another_when_applied_in_steps_does_not_pass() -> None:
    """Either way of applying a batch is tried."""
    with pytest.raises(AssertionError, match="the store answered"):
        check_store(_TwoMinds)

"""A batch that fails on the way leaves nothing behind, and goes through when it is applied again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, StoreBroken, StoreUnavailable
from tests.stores.books import ask, attempts, claimed, closed, entered, entry_ids, opened, outgoing


def _bulky(first: int, number: int) -> list[c.Command[Any]]:
    return [entered(f"{n}{'k' * 240}", "1.5") for n in range(first, first + number)]


def test_a_full_disk_is_survived(sqlite: SqliteStore) -> None:
    """While the disk is full nothing of a batch is recorded; when there is room again the same batch goes through."""
    sqlite.apply([opened(), entered("1", "5")])
    (pages,) = sqlite._connection.execute("PRAGMA page_count").fetchone()
    sqlite._connection.execute(f"PRAGMA max_page_count={pages + 2}").fetchall()
    with pytest.raises(StoreUnavailable) as caught:
        sqlite.apply(_bulky(0, 500))
    assert str(caught.value) == (
        f"the store at {sqlite.path} takes nothing now: database or disk is full; the same batch may safely be applied "
        "again"
    )
    assert outgoing(sqlite).entered == Decimal(5)
    assert entry_ids(sqlite) == ["1"]
    sqlite._connection.execute("PRAGMA max_page_count=1000000").fetchall()
    assert all(result == c.Entered(Decimal("1.5"), replay=False) for result in sqlite.apply(_bulky(0, 500)))
    assert outgoing(sqlite).entered == Decimal(755)


_FILE_LIMIT = """
import resource, sys
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.errors import StoreUnavailable
from tests.stores.books import entered, opened, outgoing
from tests.stores.test_sqlite_failures import _bulky

store = open_sqlite_store(sys.argv[1])
store.apply([opened()])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
failures = 0
for number in range(20):
    try:
        store.apply(_bulky(number * 100, 100))
    except StoreUnavailable:
        failures += 1
        assert outgoing(store).entered == number * 150, outgoing(store)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert not any(result.replay for result in store.apply(_bulky(number * 100, 100)))
print(failures, outgoing(store).entered)
"""


def test_a_write_that_the_operating_system_refuses_is_survived(path: Path) -> None:
    """The real thing: a limit on the size of files makes a write fail in the middle of a commit."""
    done = subprocess.run(
        [sys.executable, "-c", _FILE_LIMIT, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "1 3000.0\n", done.stderr
    store = open_sqlite_store(path)
    assert outgoing(store).entered == Decimal(3000)
    store.close()


def test_a_refused_command_changes_nothing_and_its_neighbours_go_through(sqlite: SqliteStore) -> None:
    """A refusal is an answer to one command, not to the batch."""
    results = sqlite.apply(
        [
            opened(),
            entered("1", "5"),
            entered("1", "6"),
            entered("2", "1", account_id="nobody"),
            claimed("t"),
            closed("t", "6"),
            closed("t", "-1"),
            closed("other", "1"),
            entered("2", "1"),
        ]
    )
    names = [type(result).__name__ for result in results]
    assert names == [
        "Applied",
        "Entered",
        "IdempotencyConflict",
        "UnknownAccount",
        "Claimed",
        "AttemptConflict",
        "AttemptConflict",
        "UnknownAttempt",
        "Entered",
    ]
    # whoever keeps the answer keeps no frame of the transaction
    assert all(result.__traceback__ is None for result in results if isinstance(result, Exception))
    totals = outgoing(sqlite)
    assert (totals.entered, totals.open, totals.queued) == (Decimal(6), Decimal(5), Decimal(1))


def test_an_id_with_half_a_character_is_refused(sqlite: SqliteStore) -> None:
    """What cannot be written as UTF-8 cannot be an id; the store goes on."""
    batch: list[c.Command[Any]] = [
        opened("\ud800"),
        opened(),
        entered("\ud800", "1"),
        claimed("\ud800"),
        c.Put(account_id="", key="\ud800", value=1),
        c.Suspend(settlement_id="\ud800", amount=Decimal(1), details=None, at=0.0),
    ]
    results = sqlite.apply([*batch, entered("1", "5")])
    assert str(results[0]) == "cannot keep OpenAccount: '\\ud800' holds half a character; nothing was recorded"
    assert [type(result) for result in results[:1] + results[2:6]] == [LocalError] * 5
    assert outgoing(sqlite).entered == Decimal(5)
    assert attempts(sqlite) == []


def test_a_row_that_cannot_be_read_breaks_the_store_and_changes_nothing(sqlite: SqliteStore) -> None:
    """Money that is no number is not guessed at, and what came before it in the batch is not recorded."""
    sqlite.apply([opened(), entered("1", "5"), claimed("t")])
    sqlite._connection.execute("UPDATE attempts SET amount = 'five'")
    with pytest.raises(StoreBroken, match="holds a row that cannot be read"):
        sqlite.apply([entered("2", "1"), closed("t", "5")])
    assert outgoing(sqlite).entered == Decimal(5)


def test_a_missing_table_breaks_the_store(sqlite: SqliteStore) -> None:
    """A file that was taken apart is not tried again and again."""
    sqlite._connection.execute("DROP TABLE entries")
    with pytest.raises(StoreBroken, match=r"is broken: no such table: entries"):
        sqlite.apply([opened(), entered("1", "5")])
    assert ask(sqlite, c.Overview()) == []


def test_a_command_of_no_known_kind_is_a_mistake_of_ours_and_changes_nothing(sqlite: SqliteStore) -> None:
    """Only what SQLite says may pass is tried again."""

    class Unheard(c.Command[None]):
        pass

    with pytest.raises(KeyError):
        sqlite.apply([opened(), Unheard()])
    assert ask(sqlite, c.Overview()) == []


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_money_is_not_written_to_a_file_that_was_removed(path: Path, suffix: str) -> None:
    """Removing or replacing the file, or its log, under a running store is noticed before anything is lost to it."""
    store = open_sqlite_store(path)
    store.apply([opened(), entered("1", "5")])
    moved = path.with_name(f"{path.name}{suffix}")
    moved.rename(path.with_name("moved"))
    with pytest.raises(StoreBroken, match="was removed, replaced or renamed while open"):
        store.apply([entered("2", "5")])
    moved.write_bytes(b"another")
    with pytest.raises(StoreBroken, match="was removed, replaced or renamed while open"):
        store.apply([entered("2", "5")])
    moved.unlink()
    path.with_name("moved").rename(moved)
    assert ask(store, entered("2", "5")) == c.Entered(Decimal(5), replay=False)
    store.close()


def test_a_batch_cut_off_at_any_step_holds_whole_or_not_at_all_and_can_be_applied_again(sqlite: SqliteStore) -> None:
    """SQLite is interrupted after each number of its instructions in turn, from then on also when rolling back.

    The very last instructions come after the commit: the store cannot know then, and the batch is applied again.
    """
    sqlite.apply([opened(), entered("0", "5"), claimed("0"), closed("0", "5")])
    recorded = []
    for steps in range(2000):
        left = steps

        def is_over() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        batch = [entered("0", "5"), entered(f"{steps}a", "1"), claimed(f"{steps}a"), closed(f"{steps}a", "1")]
        sqlite._connection.set_progress_handler(is_over, 1)
        try:
            sqlite.apply(batch)
        except StoreUnavailable:
            sqlite._connection.set_progress_handler(None, 0)
        else:
            break
        recorded.append(outgoing(sqlite).entered - 5 - steps)
        sqlite.apply(batch)
        totals = outgoing(sqlite)
        assert (totals.entered, totals.settled) == (Decimal(6 + steps), Decimal(6 + steps))
    assert recorded[:100] == [Decimal(0)] * 100
    assert set(recorded) <= {Decimal(0), Decimal(1)}


def test_a_batch_given_up_before_its_commit_was_never_there(sqlite: SqliteStore) -> None:
    """Given up by who applies it, or because the disk fails; the next batch goes through as if nothing had been."""
    sqlite.apply([opened(), entered("1", "5")])
    steps = sqlite.apply_in_steps([entered("2", "7")])
    next(steps)
    steps.close()
    assert entry_ids(sqlite) == ["1"]
    failing = sqlite.apply_in_steps([entered("2", "7")])
    next(failing)
    no_room = sqlite3.OperationalError("database or disk is full")
    no_room.sqlite_errorcode = sqlite3.SQLITE_FULL
    with pytest.raises(StoreUnavailable, match="takes nothing now: database or disk is full"):
        failing.throw(no_room)
    assert entry_ids(sqlite) == ["1"]
    assert sqlite.apply([entered("2", "7")]) == [c.Entered(Decimal(7), replay=False)]
    assert outgoing(sqlite).entered == Decimal(12)

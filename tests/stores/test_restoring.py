"""Restored books know that they may be older than the ledger, and pay nothing before an operator decides."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from settlement_core.auditing.audit import audit
from settlement_core.restoring import RESTORED_BY, set_aside_restored
from settlement_core.stores import _sqlite_generations as generations
from settlement_core.stores import sqlite as module
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, StoreBroken, StoreUnavailable
from settlement_core.values.records import Attempt, AttemptState, Direction, Payment
from settlement_core.values.sealing import seal
from tests.stores.books import claimed, closed, entered, opened

INCOMING = Direction.INCOMING


@pytest.fixture(autouse=True)
def _beats_with_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count a generation with each batch, where life has one every ten seconds."""
    monkeypatch.setattr(module, "BEAT_S", 0.0)


def files_of(path: Path) -> Iterator[Path]:
    """Return the store's files."""
    yield from path.parent.glob(f"{path.name}*")


def older(path: Path) -> str:
    """Open the store; return why it may be older than the ledger."""
    with closing(open_sqlite_store(path)) as store:
        return store.maybe_older


def used(path: Path, key: str) -> None:
    """Use the store once more."""
    with closing(open_sqlite_store(path)) as store:
        store.apply([opened(), entered(key, "5")])


def attempts(store: SqliteStore) -> list[Attempt]:
    """Return all attempts."""
    found: list[Attempt] = store.apply([c.History(limit=1000)])[0]
    return found


# which books may be older


def test_books_that_were_only_closed_and_opened_are_the_latest(path: Path) -> None:
    """However often, and whether or not money moved meanwhile."""
    for number in range(3):
        used(path, str(number))
        assert older(path) == ""


def test_copy_that_is_put_back_is_known_by_the_mark_beside_it(path: Path, tmp_path: Path) -> None:
    """Closed, copied, used on, and the copy put back."""
    used(path, "1")
    shutil.copy(path, tmp_path / "copy")
    used(path, "2")
    shutil.copy(tmp_path / "copy", path)
    assert "beside it knows generation" in older(path)


def test_copy_of_an_earlier_hour_of_the_same_run_is_known(path: Path, tmp_path: Path) -> None:
    """A snapshot of all files but the mark, taken while the store was in use, and put back."""
    (tmp_path / "snapshot").mkdir()
    with closing(open_sqlite_store(path)) as store:
        store.apply([opened(), entered("1", "5")])
        for file in files_of(path):
            shutil.copy(file, tmp_path / "snapshot" / file.name)
        store.apply([entered("2", "5")])
        mark = path.with_name(f"{path.name}-mark").read_text()
    for file in files_of(path):
        file.unlink()
    for file in (tmp_path / "snapshot").iterdir():
        shutil.copy(file, path.with_name(file.name))
    path.with_name(f"{path.name}-mark").write_text(mark)
    assert "beside it knows generation" in older(path)


def test_copy_without_its_mark_and_one_beside_another_mark_may_be_older(path: Path, tmp_path: Path) -> None:
    """What nobody can tell is not taken for the latest."""
    used(path, "1")
    elsewhere = tmp_path / "elsewhere.db"
    shutil.copy(path, elsewhere)
    assert "there is no elsewhere.db-mark beside it" in older(elsewhere)
    other = tmp_path / "other.db"
    used(other, "1")
    shutil.copy(path, other)
    assert "is another store's" in older(other)


def test_backup_of_a_store_in_use_is_whole_and_knows_that_it_is_one(path: Path, tmp_path: Path) -> None:
    """It holds what was applied before it, is one file, and says so however often it is opened."""
    copy = tmp_path / "copy.db"
    with closing(open_sqlite_store(path)) as store:
        store.apply([opened(), entered("1", "5")])
        assert store.back_up(copy) == copy
        store.apply([entered("2", "7")])
        with pytest.raises(LocalError, match="cannot write a backup to .*copy.db: File exists; name a new file"):
            store.back_up(copy)
    assert [file.name for file in tmp_path.glob("copy*")] == ["copy.db"]
    for _ in range(2):
        with closing(open_sqlite_store(copy)) as restored:
            assert restored.maybe_older.startswith(f"it is a backup of {path}, made at 20")
            assert audit(restored).outgoing.queued == 5
    assert older(path) == ""


_USE_FOR_EVER = """
import itertools, sys
from settlement_core.stores.sqlite import open_sqlite_store
from tests.stores.books import entered, opened
store = open_sqlite_store(sys.argv[1])
store.apply([opened()])
for number in itertools.count():
    store.apply([entered(str(number), "1") for number in range(10 * number, 10 * number + 10)])
    print(number, flush=True)
"""


def test_backup_is_of_one_instant_however_busy_the_store_is(path: Path, tmp_path: Path) -> None:
    """Batches of ten go on while it is made by steps; each is in it whole or not at all."""
    with closing(open_sqlite_store(path)) as store:
        store.apply([opened()])
        store.apply([entered(str(number), "1") for number in range(5000)])
        ended = threading.Event()

        def back_up() -> None:
            store.back_up(tmp_path / "copy.db")
            ended.set()

        thread = threading.Thread(target=back_up)
        thread.start()
        number = 5000
        while not ended.wait(0):
            store.apply([entered(str(number + each), "1") for each in range(10)])
            number += 10
        thread.join()
    with closing(open_sqlite_store(tmp_path / "copy.db")) as restored:
        report = audit(restored)
        assert report.ok
        assert report.outgoing.queued >= 5000
        assert report.outgoing.queued % 10 == 0


def test_store_of_a_killed_process_is_the_latest_and_its_file_alone_is_no_store(path: Path, tmp_path: Path) -> None:
    """A file that was copied while in use lacks what its log has: it is refused, not taken for an empty store."""
    command = [sys.executable, "-c", _USE_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        copy = tmp_path / "copy.db"
        shutil.copy(path, copy)
        process.kill()
    with pytest.raises(LocalError, match="is not whole: it was copied while it was in use"):
        open_sqlite_store(copy)
    assert older(path) == ""
    with closing(open_sqlite_store(copy, incomplete=True)) as store:
        assert store.maybe_older


def test_store_whose_log_was_removed_after_a_kill_is_refused(path: Path) -> None:
    """What the log had is lost: nothing is served as if it were all."""
    command = [sys.executable, "-c", _USE_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    path.with_name(f"{path.name}-wal").unlink()
    with pytest.raises(LocalError, match="or its log settlement.db-wal was removed"):
        open_sqlite_store(path)


def test_store_that_was_never_closed_by_its_process_is_whole(path: Path) -> None:
    """SQLite moves the log into the file when the process ends in order."""
    code = "import sys; from settlement_core.stores.sqlite import *; s = open_sqlite_store(sys.argv[1]); s.apply([])"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert older(path) == ""


def test_store_named_by_a_link_is_guarded_where_it_really_is(path: Path, tmp_path: Path) -> None:
    """SQLite keeps the log beside the file, not beside the link: that is the one to look at."""
    used(path, "1")
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with closing(open_sqlite_store(link)) as store:
        store.apply([entered("2", "5")])
        for file in files_of(path):
            file.rename(tmp_path / f"gone-{file.name}")
        with pytest.raises(StoreBroken, match="was removed, replaced or renamed while open"):
            store.apply([entered("3", "5")])
    assert not link.with_name("link.db-mark").exists()


def test_mark_that_cannot_be_written_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its generation is in the file before it is in the mark, so that a crash in between is no restoration."""
    with closing(open_sqlite_store(path)) as store:
        store.apply([opened()])
        monkeypatch.setattr(generations, "_write_mark", _full_disk)
        with pytest.raises(StoreUnavailable, match="the mark of the store .* cannot be written"):
            store.apply([entered("1", "5")])
        monkeypatch.undo()
        assert store.apply([entered("1", "5")]) == [c.Entered(Decimal(5), replay=True)]
    assert older(path) == ""


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


# what is set aside


def everything_unsettled(store: SqliteStore) -> None:
    """Leave something in every state: queued, open, noted, in doubt, held, released; and an account that is paused."""
    store.apply(
        [
            *(opened(name) for name in ("alice", "bob", "carol", "dave", "erin")),
            *(entered("1", "5"), claimed("settled"), closed("settled", "5"), entered("2", "6"), claimed("open")),
            *(entered("3", "7"), entered("in-1", "8", direction=INCOMING)),
            *(entered("1", "9", account_id="bob"), claimed("noted", account_id="bob")),
            c.Note(account_id="bob", attempt_id="noted", payment=Payment(Decimal(9), {"tx": 1})),
            *(entered("2", "1", account_id="bob"),),
            *(entered("in-1", "2", account_id="carol", direction=INCOMING),),
            claimed("held", account_id="carol", direction=INCOMING),
            c.Hold(account_id="carol", attempt_id="held", reason="404"),
            c.Release(account_id="carol", attempt_id="held", reason="r", by="b"),
            *(entered("1", "3", account_id="dave"),),
            c.Pause(account_id="dave", paused=True, reason="mine", by="me", at=1.0),
        ]
    )


def test_nothing_unsettled_of_restored_books_is_claimed_until_an_operator_decides(path: Path, tmp_path: Path) -> None:
    """All is parked but a noted payment, which the engine looks up; every account is paused; the sums stay."""
    with closing(open_sqlite_store(path)) as store:
        everything_unsettled(store)
        store.back_up(tmp_path / "copy.db")
    with closing(open_sqlite_store(tmp_path / "copy.db")) as store:
        before = audit(store)
        done = set_aside_restored(store, store.maybe_older)
        assert store.maybe_older == ""
        after = audit(store)
        assert after.ok
        assert done.accounts == 5
        assert done.attempts == 5
        assert (after.outgoing.entered, after.incoming.entered) == (before.outgoing.entered, before.incoming.entered)
        assert (after.outgoing.settled, after.incoming.settled) == (before.outgoing.settled, before.incoming.settled)
        assert {a.attempt_id for a in attempts(store) if a.state is AttemptState.OPEN} == {"noted"}
        assert after.outgoing.parked == 6 + 7 + 3
        assert after.outgoing.queued == 1
        assert after.incoming.parked == 8 + 2
        assert after.incoming.queued == 0
        parked = [a for a in attempts(store) if a.state in {AttemptState.IN_DOUBT, AttemptState.HELD}]
        assert {a.reason for a in parked} == {
            f"the books may be older than the ledger: it is a backup of {path}, made at "
            + parked[0].reason.rpartition("made at ")[2]
        }
        assert all(account.paused and account.pausing.by == RESTORED_BY for account in after.accounts)  # type: ignore[union-attr]
        for name in ("alice", "bob", "carol", "dave"):
            for way in Direction:
                (answer,) = store.apply(
                    [c.Claim(account_id=name, direction=way, attempt_id=f"{name} {way}", at=2.0, lease="")]
                )
                assert isinstance(answer, c.NothingToClaim) or answer.attempt.attempt_id == "noted"
    assert older(tmp_path / "copy.db") == ""


@pytest.mark.parametrize("kill_after", range(12))
def test_setting_aside_may_be_cut_off_and_repeated(path: Path, tmp_path: Path, kill_after: int) -> None:
    """Until it is finished the books stay suspect; in the end the same is parked."""
    with closing(open_sqlite_store(path)) as store:
        everything_unsettled(store)
        store.back_up(tmp_path / "copy.db")
    copy = open_sqlite_store(tmp_path / "copy.db")
    real, calls = copy.apply, iter(range(1000))

    def apply(commands: list[c.Command[object]]) -> list[object]:
        if next(calls) == kill_after:
            raise KeyboardInterrupt
        return real(commands)

    copy.apply = apply  # type: ignore[method-assign, assignment]
    with closing(copy), pytest.raises(KeyboardInterrupt):
        set_aside_restored(copy, copy.maybe_older)
    with closing(open_sqlite_store(tmp_path / "copy.db")) as store:
        assert store.maybe_older
        set_aside_restored(store, store.maybe_older)
        report = audit(store)
        assert report.ok
        assert [report.outgoing.parked, report.outgoing.queued, report.outgoing.open] == [16, 1, 9]
        assert [report.incoming.parked, report.incoming.queued, report.incoming.open] == [10, 0, 0]
        assert all(account.paused for account in report.accounts)


def test_store_of_any_kind_is_set_aside_when_the_operator_says_so() -> None:
    """A store that cannot know it, such as one in Redis, is told by --restored."""
    store = create_memory_store()
    store.apply([opened(), entered("1", "5")])
    assert set_aside_restored(store, "said so").attempts == 1
    assert audit(store).outgoing.parked == 5


def test_store_that_was_migrated_away_is_not_set_aside() -> None:
    """Its books are another store's by now; nothing in them is changed."""
    store = create_memory_store()
    store.apply([opened(), entered("1", "5"), seal("it was moved")])
    with pytest.raises(LocalError, match="it was moved"):
        set_aside_restored(store, "said so")
    assert audit(store).outgoing.queued == 5
    assert not audit(store).accounts[0].paused


def corrupt_mark(path: Path) -> None:
    """Write nonsense into the mark."""
    path.with_name(f"{path.name}-mark").write_text("not a mark")


@pytest.mark.parametrize("spoil", [corrupt_mark, lambda path: path.with_name(f"{path.name}-mark").unlink()])
def test_mark_that_tells_nothing_is_never_taken_for_the_latest(path: Path, spoil: Callable[[Path], None]) -> None:
    """Unknown is not equal to unknown."""
    used(path, "1")
    spoil(path)
    assert older(path)


def test_file_of_the_format_before_generations_is_the_latest(path: Path) -> None:
    """It cannot know better, and begins to count."""
    used(path, "1")
    path.with_name(f"{path.name}-mark").unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE store; DROP TABLE known; ALTER TABLE lanes DROP COLUMN retired; "
            "DROP INDEX entries_settlement; DROP INDEX suspense_waiting; "
            "CREATE INDEX suspense_unassigned ON suspense (settlement_id); PRAGMA user_version=2"
        )
    assert older(path) == ""
    assert older(path) == ""

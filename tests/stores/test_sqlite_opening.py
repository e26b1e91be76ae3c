"""Opening a SQLite store gives the lock on a file of ours, or one clear sentence."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from settlement_core.stores import _sqlite_opening as opening
from settlement_core.stores import sqlite as module
from settlement_core.stores._sqlite_schema import APPLICATION_ID, MIGRATIONS
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, StoreBroken, StoreLocked, StoreUnavailable
from settlement_core.values.records import Entry
from tests.stores.books import OUTGOING, ask, entered, opened, outgoing, overview

_OPEN_AND_WAIT = """
import sys
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.errors import StoreLocked
try:
    store = open_sqlite_store(sys.argv[1])
except StoreLocked as refusal:
    print("locked", flush=True)
else:
    print("open", flush=True)
    sys.stdin.read()
"""


def _processes(path: Path, number: int) -> Sequence[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _OPEN_AND_WAIT, str(path)]
    return [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)]


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_told_that_the_store_is_open_elsewhere(path: Path) -> None:
    """While one process has the file, another gets neither it nor a wrong idea; afterwards it gets it."""
    (process,) = _processes(path, 1)
    with process:
        assert _line(process) == "open"
        with pytest.raises(StoreLocked) as caught:
            open_sqlite_store(path)
        assert str(caught.value) == (
            f"cannot open the store at {path}: another process has it open; ask the running server through its admin "
            "port, or stop it first"
        )
        process.communicate()
    open_sqlite_store(path).close()


def test_of_processes_that_start_together_exactly_one_gets_the_store(path: Path) -> None:
    """A new file is not a free-for-all: one process creates it, the others are refused."""
    processes = _processes(path, 4)
    assert sorted(map(_line, processes)) == ["locked", "locked", "locked", "open"]
    for process in processes:
        with process:
            process.communicate()


def test_the_same_process_gets_it_once(sqlite: SqliteStore) -> None:
    """A second store on the same file in one process would be as dangerous."""
    with pytest.raises(StoreLocked):
        open_sqlite_store(sqlite.path)
    sqlite.apply([opened(), entered("1", "5")])
    assert outgoing(sqlite).queued == Decimal(5)


def test_a_closed_store_is_one_file_and_its_mark_for_its_owner_only(path: Path) -> None:
    """Closing leaves no log behind, twice is harmless, and no other user can read signed payments."""
    store = open_sqlite_store(path)
    store.apply([opened(), entered("1", "5")])
    assert repr(store) == f"<SqliteStore {str(path)!r}>"
    store.close()
    store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["settlement.db", "settlement.db-mark"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(StoreBroken):
        store.apply([opened()])


@pytest.mark.parametrize("place", ["missing/settlement.db", ".", "file/settlement.db", ""])
def test_a_path_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path, place: str) -> None:
    """A missing directory, a directory, and a file taken for a directory are the caller's to change."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="^cannot (open|create) a store at /.*; name a file in "):
        open_sqlite_store(tmp_path / place)


def test_a_place_that_cannot_be_written_is_told_in_one_sentence() -> None:
    """Where no file can be created, the sentence says why and what to do."""
    with pytest.raises(LocalError, match=r"^cannot create a store at /proc/settlement.db: .+; name a file in an "):
        open_sqlite_store("/proc/settlement.db")


def test_a_file_that_may_not_be_written_is_told_in_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of another user is not opened for reading only, to fail at the first request."""
    open_sqlite_store(path).close()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(LocalError, match="this user may not read and write it; change its owner or mode"):
        open_sqlite_store(path)


def test_a_file_system_without_a_log_is_told_in_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot keep its log beside the file, no store is opened."""
    real = opening._pragma
    monkeypatch.setattr(opening, "_pragma", lambda c, p: "delete" if p == "journal_mode=WAL" else real(c, p))
    with pytest.raises(LocalError, match="SQLite cannot keep a write-ahead log there, only 'delete'"):
        open_sqlite_store(path)


def test_a_disk_too_full_to_begin_with_is_told_in_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot even be created says so, and can be created once there is room."""

    def fail(connection: sqlite3.Connection) -> bool:
        connection.execute("PRAGMA max_page_count=2")
        return migrate(connection)

    migrate = opening.bring_up_to_date
    monkeypatch.setattr(module, "bring_up_to_date", fail)
    with pytest.raises(LocalError, match=f"^cannot open the store at {path}: database or disk is full"):
        open_sqlite_store(path)
    monkeypatch.undo()
    open_sqlite_store(path).close()


def test_a_file_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    """A SQLite file that is not ours is not taken over."""
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE precious (thing)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(StoreBroken, match=f"^{path} is a SQLite file of some other program"):
        open_sqlite_store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    """Any other file, long or short, is refused."""
    for content in (b"not a database" * 1000, b"short"):
        path.write_bytes(content)
        with pytest.raises(StoreBroken, match=f"^{path} is not a settlement store: it is not a SQLite file"):
            open_sqlite_store(path)
        assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """An empty file, such as one made to set its mode, is taken."""
    path.touch()
    open_sqlite_store(path).close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    """What a later version wrote is not guessed at."""
    open_sqlite_store(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreBroken, match="was written by a newer version of settlement_core") as caught:
        open_sqlite_store(path)
    assert f"its format is {len(MIGRATIONS) + 1}, this one knows up to {len(MIGRATIONS)}" in str(caught.value)


def test_an_older_store_is_brought_up_to_date_and_keeps_its_money(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations run once, in order, each whole or not at all."""
    store = open_sqlite_store(path)
    store.apply([opened(), entered("1", "5")])
    store.close()

    monkeypatch.setattr(opening, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE more (x)", "CREATE TABLE more (x)")))
    with pytest.raises(StoreBroken, match="table more already exists"):
        open_sqlite_store(path)

    monkeypatch.setattr(opening, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE more (x)",), ("DROP TABLE more",)))
    store = open_sqlite_store(path)
    assert outgoing(store).queued == Decimal(5)
    assert opening._pragma(store._connection, "user_version") == len(MIGRATIONS) + 2
    assert opening._pragma(store._connection, "application_id") == APPLICATION_ID
    store.close()


def test_what_the_store_promises_of_the_disk_is_switched_on(sqlite: SqliteStore) -> None:
    """A write-ahead log, flushed before every answer, and one owner of the file."""
    connection = sqlite._connection
    assert opening._pragma(connection, "journal_mode") == "wal"
    assert opening._pragma(connection, "synchronous") == 2
    assert opening._pragma(connection, "locking_mode") == "exclusive"


def test_batches_wait_for_the_disk_again_after_an_import(sqlite: SqliteStore) -> None:
    """An import is not flushed by itself; whether it succeeds or fails, what comes after it is."""
    memory = create_memory_store()
    memory.apply([opened(), entered("1", "5")])
    account, entries = overview(memory), ask(memory, c.Entries(account_id="alice", direction=OUTGOING))

    def broken() -> Iterator[Entry]:
        assert opening._pragma(sqlite._connection, "synchronous") == 1
        yield entries[0]
        raise ConnectionError("the other store is gone")

    with pytest.raises(ConnectionError):
        sqlite.import_account(account, broken(), [])
    assert opening._pragma(sqlite._connection, "synchronous") == 2
    sqlite.import_account(account, entries, [])
    assert outgoing(sqlite).queued == Decimal(5)
    assert opening._pragma(sqlite._connection, "synchronous") == 2


def test_failures_that_may_pass_are_told_from_damage(path: Path) -> None:
    """Damage in the file's pages means that the store is broken for good; it is not tried again."""
    store = open_sqlite_store(path)
    store.apply([opened(f"account{n}") for n in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 + 100 :] = b"\x00" * (len(content) - 4096 - 100)
    path.write_bytes(bytes(content))
    with pytest.raises((StoreBroken, StoreUnavailable)) as caught:
        store = open_sqlite_store(path)
        outgoing(store, "account7")
    assert caught.type is StoreBroken

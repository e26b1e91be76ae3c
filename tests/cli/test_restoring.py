"""Backups of running and stopped servers, and restored books: nothing is paid twice, and an operator decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.processes import MINIMAL, VERIFIABLE, Server, run, run_json, serving, until, write_engine

pytestmark = pytest.mark.slow

WHY = ("--reason", "compared with the ledger", "--by", "carol")


def paid(path: Path) -> list[str]:
    """Return what the ledger knows of: a line or a file for each payment."""
    if path.is_dir():
        return [file.name for file in path.iterdir() if not file.name.startswith(".")]
    return path.read_text().splitlines() if path.exists() else []


def pause(server: Server, *, paused: bool) -> None:
    """Pause alice, or go on."""
    command = "pause" if paused else "resume"
    run(command, "alice", "--reason", "r", "--by", "b", "--admin-url", server.admin_url)


@pytest.mark.parametrize("source", [MINIMAL, VERIFIABLE], ids=["minimal", "verifiable"])
def test_copy_that_was_put_back_is_not_paid_again(tmp_path: Path, source: str) -> None:
    """Queued, copied, paid, killed, and the copy put back: the operator is asked, says it was paid, and all goes on."""
    engine = write_engine(tmp_path, source)
    ledger = tmp_path / "ledger"
    if source is VERIFIABLE:
        ledger.mkdir()
    database = tmp_path / "s.db"
    arguments = (str(engine), "--store", f"sqlite:{database}", "--connector-url", "http://127.0.0.1:9")
    with serving(*arguments, folder=tmp_path, PAID=str(ledger)) as server:
        assert server.create() == 201
        pause(server, paused=True)
        assert server.settle("5", "invoice-7") == 201
        assert server.stop() == 0
        shutil.copy(database, tmp_path / "copy")
        server.start()
        pause(server, paused=False)
        until(lambda: len(paid(ledger)) == 1, "for the payment")
        until(lambda: server.books("/accounts")[0]["outgoing"]["settled"] == "5")
        server.kill()
        for file in tmp_path.glob("s.db-[ws]*"):
            file.unlink()
        shutil.copy(tmp_path / "copy", database)
        said = run("audit", "--store", f"sqlite:{database}", code=3).stdout
        assert "these books may be older than the ledger" in said
        assert "all right" not in said
        server.start()
        assert "1 attempt parked, 1 account paused" in server.log.read_text()
        (attempt,) = server.books("/attempts?state=in_doubt")
        assert attempt["reason"].startswith("the books may be older than the ledger: it is of generation")
        assert server.settle("5", "invoice-7") == 201
        run("settle", "alice", "--admin-url", server.admin_url, code=2)
        run("resolve", attempt["id"], "--all", *WHY, "--admin-url", server.admin_url)
        assert server.settle("2", "invoice-8") == 201
        server.stop()
        server.start()
        assert len(paid(ledger)) == 1
        assert run_json("resume", "--restored", *WHY, "--admin-url", server.admin_url) == {"resumed": ["alice"]}
        until(lambda: len(paid(ledger)) == 2, "for the new payment")
        until(lambda: server.books("/accounts")[0]["outgoing"]["settled"] == "7")
        assert "may be older" not in server.log.read_text()


def test_backup_of_a_running_server_is_restored_without_paying(tmp_path: Path) -> None:
    """It is a whole store of its own; what it owed is parked when it is served elsewhere."""
    engine = write_engine(tmp_path, MINIMAL)
    arguments = (str(engine), "--connector-url", "http://127.0.0.1:9")
    first, copy = tmp_path / "first.db", tmp_path / "copy.db"
    ledger = tmp_path / "ledger"
    with serving(*arguments, "--store", f"sqlite:{first}", folder=tmp_path, PAID=str(ledger)) as server:
        assert server.create() == 201
        pause(server, paused=True)
        assert server.settle("5", "a") == 201
        told = run_json("backup", str(copy), "--admin-url", server.admin_url)
        assert told == {"file": str(copy), "bytes": copy.stat().st_size}
        assert copy.stat().st_mode & 0o077 == 0
        assert sorted(file.name for file in tmp_path.glob("*.db*")) == [
            *("copy.db", "first.db", "first.db-mark", "first.db-wal"),
        ]
        refused = run("backup", str(copy), "--admin-url", server.admin_url, code=2)
        assert "File exists; name a new file" in refused.stderr
        pause(server, paused=False)
        until(lambda: len(paid(ledger)) == 1, "for the payment")
        assert server.stop() == 0
    told = run_json("audit", "--store", f"sqlite:{copy}", code=3)
    assert told["maybe_older"].startswith(f"it is a backup of {first}")
    with serving(*arguments, "--store", f"sqlite:{copy}", folder=tmp_path, PAID=str(ledger)) as server:
        (account,) = server.books("/accounts")
        assert (account["paused"], account["outgoing"]["in_doubt"]) == (True, "5")
        assert server.settle("5", "a") == 201
        assert server.stop() == 0
    assert len(paid(ledger)) == 1


def test_backup_of_a_stopped_store_and_of_stores_that_have_none(tmp_path: Path) -> None:
    """A copy of the file, or one sentence."""
    engine = write_engine(tmp_path, MINIMAL)
    with serving(str(engine), "--store", f"sqlite:{tmp_path / 's.db'}", folder=tmp_path) as server:
        assert server.create() == 201
        assert server.stop() == 0
    said = run("backup", str(tmp_path / "copy.db"), "--store", f"sqlite:{tmp_path / 's.db'}").stdout
    assert "a copy of the books as they were just now" in said
    assert len(run_json("accounts", "--store", f"sqlite:{tmp_path / 'copy.db'}")) == 1
    with serving(str(engine), "--store", "memory:", folder=tmp_path) as server:
        refused = run("backup", str(tmp_path / "none.db"), "--admin-url", server.admin_url, code=2)
        assert "ends with its process and cannot be backed up" in refused.stderr
        assert not (tmp_path / "none.db").exists()


def test_books_are_set_aside_when_the_operator_says_that_they_were_restored(tmp_path: Path) -> None:
    """All files were put back, with their mark: only the operator can know."""
    engine = write_engine(tmp_path, MINIMAL)
    arguments = (str(engine), "--store", f"sqlite:{tmp_path / 's.db'}", "--connector-url", "http://127.0.0.1:9")
    ledger = tmp_path / "ledger"
    with serving(*arguments, folder=tmp_path, PAID=str(ledger)) as server:
        assert server.create() == 201
        pause(server, paused=True)
        assert server.settle("5", "a") == 201
        assert server.stop() == 0
        pause_less = Server([*server.arguments, "--restored"], tmp_path, server.variables, starts=10)
        pause_less.start()
        try:
            assert pause_less.books("/accounts")[0]["outgoing"]["in_doubt"] == "5"
        finally:
            assert pause_less.stop() == 0
    assert paid(ledger) == []

"""`archive` lists what has left the history, and finds that a part of it is missing."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from settlement_core.archive import archive_to, read_archive
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.records import Attempt, Payment
from tests.cli.processes import run, run_json
from tests.stores.books import INCOMING, ask, attempts, claimed, closed, entered, opened

AUGUST = 1_785_542_400.0
"""2026-08-01 in UTC."""


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the URL of a store in which a payment of 5 and a credit of 3, in two months, are over."""
    with closing(open_sqlite_store(tmp_path / "books.db")) as books:
        books.apply([opened(), entered("1", "5"), claimed("paid", at=AUGUST - 60)])
        books.apply([c.Note(account_id="alice", attempt_id="paid", payment=Payment(Decimal(5), {"hash": "0x€"}))])
        books.apply([closed("paid", "4", at=AUGUST - 60), entered("s", "3", direction=INCOMING)])
        books.apply([claimed("credited", direction=INCOMING, at=AUGUST), closed("credited", "3", at=AUGUST)])
        books.apply([c.Prune(before=AUGUST)])
    return f"sqlite:{tmp_path / 'books.db'}"


def leave(tmp_path: Path, *attempt_ids: str) -> list[Attempt]:
    """Have attempts leave the store, and return them all as they were before."""
    with closing(open_sqlite_store(tmp_path / "books.db")) as books:
        before = attempts(books)
        gone = ask(books, c.Retire(account_id="alice", attempt_ids=attempt_ids, before=AUGUST + 60))
        assert gone == attempt_ids
    return before


def test_archive_holds_every_attempt_by_month_and_is_whole(store: str, tmp_path: Path) -> None:
    """What is read is what was written, payments included; sums agree with the store's."""
    with closing(open_sqlite_store(tmp_path / "books.db")) as books:
        archive_to(tmp_path / "old")(attempts(books))
    before = leave(tmp_path, "paid", "credited")
    assert list(read_archive(tmp_path / "old")) == before
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["2026-07.jsonl", "2026-08.jsonl"]
    found = run("archive", str(tmp_path / "old"), "--store", store)
    assert "2 attempts of 2 archived" in found.stdout
    assert "the archive is whole" in found.stdout
    assert run_json("audit", "--store", store, code=None)["problems"] == []


def test_archive_that_lacks_a_file_or_never_was_is_named(store: str, tmp_path: Path) -> None:
    """Exit code 1, and what is missing of which account and direction."""
    with closing(open_sqlite_store(tmp_path / "books.db")) as books:
        archive_to(tmp_path / "old")(attempts(books))
    leave(tmp_path, "paid", "credited")
    (tmp_path / "old" / "2026-07.jsonl").unlink()
    found = run("archive", str(tmp_path / "old"), "--store", store, code=1)
    assert "PROBLEM: account 'alice', outgoing: 4 has left the store, but 0 is archived" in found.stdout
    assert "incoming" not in found.stdout.split("PROBLEM", 1)[1]


def test_what_a_crash_leaves_behind_is_no_difference(store: str, tmp_path: Path) -> None:
    """Attempts archived that have not left yet, once more when they do, and half a line at the end of a file."""
    archive = archive_to(tmp_path / "old")
    with closing(open_sqlite_store(tmp_path / "books.db")) as books:
        archive(attempts(books))
        with (tmp_path / "old" / "2026-08.jsonl").open("a") as file:
            file.write('{"account_id": "ali')
    leave(tmp_path, "paid")
    run("archive", str(tmp_path / "old"), "--store", store)
    with closing(open_sqlite_store(tmp_path / "books.db")) as books:
        archive(attempts(books))
    before = leave(tmp_path, "credited")
    assert [attempt.attempt_id for attempt in read_archive(tmp_path / "old")] == ["paid", "credited"]
    assert len(before) == 1
    report = run_json("archive", str(tmp_path / "old"), "--store", store, "--account", "bob")
    assert (report["archived"], report["attempts"], report["differences"]) == (2, [], [])


def test_line_that_is_no_attempt_is_named_with_its_place(store: str, tmp_path: Path) -> None:
    """JSON of something else: exit code 2, nothing is guessed."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "2026-08.jsonl").write_text('{"amount": "5"}\n')
    found = run("archive", str(tmp_path / "old"), "--store", store, code=2)
    assert "2026-08.jsonl, line 1: not an attempt that was archived" in found.stderr

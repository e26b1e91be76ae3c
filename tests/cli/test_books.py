"""accounts, attempts, resolve, suspense and audit: on a running server, and on a stopped one's store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from settlement_core.stores.sqlite import open_sqlite_store
from tests.cli.processes import (
    MINIMAL,
    Connector,
    D,
    Server,
    open_connector,
    run,
    run_json,
    serving,
    until,
    write_engine,
)


@dataclass
class Trouble:
    """A server with 13 in doubt, 3 held, and 7 and 8 without an owner."""

    server: Server
    connector: Connector
    folder: Path
    store: str

    def paid(self) -> list[str]:
        """Return the lines the engine paid."""
        path = self.folder / "paid"
        return path.read_text().splitlines() if path.exists() else []


def _make_trouble(server: Server, connector: Connector) -> None:
    server.create()
    connector.answers += [409]
    assert server.settle("5", "good") == 201
    until(lambda: server.books("/accounts")[0]["outgoing"]["settled"] == "5")
    assert server.settle("13", "doubtful") == 201
    server.tell({"credit": "3", "id": "first"})
    until(lambda: len(_waiting(server)) == 2, "for both to wait for a person")
    server.tell({"report": "7", "id": "tx 7"})
    server.tell({"report": "8", "id": "tx 8"})


def _waiting(server: Server) -> list[Any]:
    found: list[Any] = server.books("/attempts?state=in_doubt&state=held")
    return found


def _doubtful(trouble: Trouble) -> list[Any]:
    found: list[Any] = trouble.server.books("/attempts?state=in_doubt")
    return found


@contextmanager
def _open_trouble(folder: Path, *arguments: str) -> Iterator[Trouble]:
    engine = write_engine(folder, MINIMAL)
    store = f"sqlite:{folder / 'store.db'}"
    with open_connector() as connector:
        where = (str(engine), "--store", store, "--connector-url", connector.url, *arguments)
        with serving(*where, folder=folder, PAID=str(folder / "paid")) as server:
            _make_trouble(server, connector)
            yield Trouble(server, connector, folder, store)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """Return a server whose books the tests only look at."""
    with _open_trouble(tmp_path_factory.mktemp("books"), "--backend", "trio") as trouble:
        yield trouble


@pytest.fixture
def trouble(tmp_path: Path) -> Iterator[Trouble]:
    """Return a server whose troubles a test takes away."""
    with _open_trouble(tmp_path, "--backend", "asyncio") as trouble:
        yield trouble


def test_every_figure_is_shown_as_a_table_and_as_json(steady: Trouble) -> None:
    """The same books in both; amounts to the last digit."""
    where = ("--admin-url", steady.server.admin_url)
    (account,) = run_json("accounts", *where)
    assert (account["id"], account["state"], account["step"]) == ("alice", "open", None)
    nothing = {"queued": "0", "open": "0", "retired": "0"}
    assert account["outgoing"] == {"entered": "18", "settled": "5", "in_doubt": "13", **nothing}
    assert account["incoming"] == {"entered": "3", "settled": "0", "held": "3", **nothing}
    lines = run("accounts", *where).stdout.splitlines()
    columns = ["account", "state", "direction", "entered", "queued", "open", "settled", "in doubt / held"]
    assert lines[0].split() == " ".join(columns).split()
    assert lines[1].split() == ["alice", "open", "outgoing", "18", "0", "0", "5", "13"]
    assert lines[2].split() == ["incoming", "3", "0", "0", "0", "3"]
    assert lines[-1] == "1 account"
    attempts = run_json("attempts", *where)
    assert [(a["direction"], a["amount"], a["state"]) for a in attempts] == [
        ("outgoing", "5", "closed"),
        ("outgoing", "13", "in_doubt"),
        ("incoming", "3", "held"),
    ]
    table = run("attempts", "--account", "alice", *where).stdout
    assert all(attempt["id"] in table for attempt in attempts)
    assert "settle did not answer but raised ConnectionError: no answer from the ledger" in table
    assert table.splitlines()[-1] == "3 attempts"
    assert len(run_json("attempts", "--limit", "1", *where)) == 1
    assert run_json("attempts", "--account", "nobody", *where) == []
    items = run_json("suspense", *where)
    assert [(item["settlement_id"], item["amount"]) for item in items] == [("tx 7", "7"), ("tx 8", "8")]
    assert '{"memo": "whose?"}' in run("suspense", *where).stdout


def test_the_audit_tells_what_waits_for_a_person(steady: Trouble) -> None:
    """Exit code 3: the books add up, and a decision waits. Each item is named, and so is what was audited."""
    where = ("--admin-url", steady.server.admin_url)
    report = run_json("audit", *where, code=3)
    assert report["ok"]
    assert [len(report[kind]) for kind in ("in_doubt", "held", "unattributed")] == [1, 1, 2]
    said = run("audit", *where, code=3).stdout
    assert "in doubt: 13 of account alice, attempt " in said
    assert "held: 3 of account alice, attempt " in said
    assert "unattributed: 7, settlement tx 7" in said
    assert f"audited: the server at {steady.server.admin_url}, store {steady.store}\n" in said
    assert said.splitlines()[-1] == ("the books add up, and this waits for you: 13 in doubt, 3 held, 15 unattributed")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("resolve",), "Missing argument 'ATTEMPT_ID'"),
        (("resolve", "DOUBT", "--all"), "Missing option '--reason'"),
        (("resolve", "DOUBT", "--reason", "r"), "say exactly one of --settled AMOUNT, --all, --nothing and --rel"),
        (("resolve", "DOUBT", "--reason", "r", "--all", "--nothing"), "say exactly one of"),
        (("release", "--reason", "r"), "say exactly one of --account ACCOUNT and --all-held"),
        (("release", "--reason", "r", "--all-held", "--account", "alice"), "say exactly one of"),
        (("release", "--all-held"), "Missing option '--reason'"),
        (("resolve", "DOUBT", "--reason", "r", "--settled", "0", "--all"), "say exactly one of"),
        (("resolve", "DOUBT", "--reason", "r", "--settled", "some"), "'some' is not a number"),
        (("resolve", "DOUBT", "--reason", "r", "--settled", "14"), "cannot resolve attempt"),
        (("resolve", "DOUBT", "--reason", "r", "--settled", "-1"), "-1 is negative"),
        (("resolve", "DOUBT", "--reason", " ", "--all"), "reason"),
        (("resolve", "DOUBT", "--reason", "r", "--release"), "cannot release attempt"),
        (("resolve", "nobody-knows-this", "--reason", "r", "--all"), "no attempt has the id 'nobody-knows-this'"),
        (("suspense", "--assign", "tx 7", "alice"), "a decision needs a --reason"),
        (("suspense", "--not-ours", "tx 7"), "a decision needs a --reason"),
        (("suspense", "--not-ours", "tx 9", "--reason", "r"), "no unattributed settlement 'tx 9'"),
        (("suspense", "--not-ours", "tx 7", "--not-ours-below", "1", "--reason", "r"), "say at most one of --assign, "),
        (("suspense", "--assign", "tx 7", "nobody", "--reason", "r"), "account 'nobody' does not exist"),
        (("suspense", "--assign", "tx 9", "alice", "--reason", "r"), "no unattributed settlement 'tx 9'"),
        (("attempts", "--state", "lost"), "'lost' is not one of"),
        (("attempts", "--limit", "0"), "0 is not in the range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_half_a_decision_is_exit_code_2_and_changes_nothing(
    steady: Trouble, arguments: tuple[str, ...], sentence: str
) -> None:
    """One error line; the books stay as they are."""
    where = ("--admin-url", steady.server.admin_url)
    if "DOUBT" in arguments:
        doubt = _doubtful(steady)[0]["id"]
        arguments = tuple(doubt if argument == "DOUBT" else argument for argument in arguments)
    refused = run(*arguments, *where, code=2)
    assert refused.stdout == ""
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
    assert sentence in line
    (account,) = steady.server.books("/accounts")
    assert (account["outgoing"]["in_doubt"], account["incoming"]["held"]) == ("13", "3")
    assert steady.paid() == ["alice 5"]


def test_nothing_moved_means_that_it_is_paid_again(trouble: Trouble) -> None:
    """The money is queued, and lost sight of once more by the same engine: in doubt again, never gone."""
    where = ("--admin-url", trouble.server.admin_url)
    doubt = _doubtful(trouble)[0]["id"]
    said = run("resolve", doubt, "--nothing", "--reason", "not on the ledger", "--by", "ann", *where).stdout
    assert said == f"attempt {doubt} of account alice is closed with 0 of 13 settled\n"
    until(lambda: len(_doubtful(trouble)) == 1)
    (closed,) = [a for a in trouble.server.books("/attempts") if a["id"] == doubt]
    assert (closed["state"], closed["settled"], closed["resolved_by"]) == ("closed", "0", "ann")
    again = _doubtful(trouble)[0]
    assert (again["amount"], again["id"] != doubt) == ("13", True)


def test_part_of_it_moved_means_that_the_rest_is_paid(trouble: Trouble) -> None:
    """2 of 13 moved: 11 is paid, once, however often the command is repeated."""
    where = ("--admin-url", trouble.server.admin_url)
    doubt = _doubtful(trouble)[0]["id"]
    for _ in range(2):
        told = run_json("resolve", doubt, "--settled", "2", "--reason", "seen on the ledger", *where)
        assert (told["id"], told["state"], told["settled"]) == (doubt, "closed", "2")
    until(lambda: trouble.server.books("/accounts")[0]["outgoing"]["settled"] == "18")
    assert trouble.paid() == ["alice 5", "alice 11"]
    run("resolve", doubt, "--all", "--reason", "changed my mind", *where, code=2)


def test_all_of_it_moved_means_that_nothing_is_paid(trouble: Trouble) -> None:
    """The 13 in doubt is closed as settled."""
    where = ("--admin-url", trouble.server.admin_url)
    run("resolve", _doubtful(trouble)[0]["id"], "--all", "--reason", "seen on the ledger", *where)
    (account,) = trouble.server.books("/accounts")
    assert (account["outgoing"]["settled"], account["outgoing"]["in_doubt"]) == ("18", "0")
    assert trouble.server.stop() == 0
    assert trouble.paid() == ["alice 5"]


def test_a_held_credit_is_released_and_credited_once(trouble: Trouble) -> None:
    """Under the key it had; the connector takes it now."""
    where = ("--admin-url", trouble.server.admin_url)
    held = trouble.server.books("/attempts?state=held")[0]["id"]
    for _ in range(2):
        run("resolve", held, "--release", "--reason", "connector repaired", *where)
    until(lambda: trouble.server.books("/accounts")[0]["incoming"]["settled"] == "3")
    assert trouble.connector.credited == {("alice", held): D(3)}


def test_one_decision_releases_the_held_credits_of_all_accounts_or_of_one(tmp_path: Path) -> None:
    """On a running server and on a stopped one's store; each credit keeps its key, and what waits behind it follows."""
    store = f"sqlite:{tmp_path / 'store.db'}"
    with open_connector() as connector:
        arguments = (str(write_engine(tmp_path, MINIMAL)), "--store", store, "--connector-url", connector.url)
        with serving(*arguments, folder=tmp_path, PAID=str(tmp_path / "paid")) as server:
            names = ["alice", "bob", "carol"]
            for name in names:
                server.create(name)
            connector.answers += [409] * 3
            for number, name in enumerate(names):
                server.tell({"credit": "3", "id": f"first {name}"}, name)
                until(lambda count=number + 1: len(_waiting(server)) == count)  # type: ignore[misc]
                server.tell({"credit": "4", "id": f"second {name}"}, name)
            where = ("--admin-url", server.admin_url)
            said = run("release", "--account", "bob", "--reason", "opened there", *where).stdout
            assert said.splitlines()[-1] == "1 credit to be offered to the connector again"
            until(lambda: connector.total("bob") == 7)
            assert (connector.total("alice"), connector.total("carol")) == (D(0), D(0))
            assert server.stop() == 0
            held = {(a["account"], a["id"]) for a in run_json("attempts", "--state", "held", "--store", store)}
            assert set(run_json("release", "--all-held", "--reason", "repaired", "--store", store)) == {
                attempt_id for _, attempt_id in held
            }
            assert run_json("release", "--all-held", "--reason", "repaired", "--store", store) == []
            server.start()
            until(lambda: all(connector.total(name) == 7 for name in names))
            assert held < connector.credited.keys()
            assert server.stop() == 0


def test_assigned_money_is_credited_once(trouble: Trouble) -> None:
    """And leaves the list. A held credit of the account is decided upon first."""
    where = ("--admin-url", trouble.server.admin_url)
    held = trouble.server.books("/attempts?state=held")[0]["id"]
    run("resolve", held, "--all", "--reason", "the connector has it", *where)
    for _ in range(2):
        said = run("suspense", "--assign", "tx 7", "alice", "--reason", "asked", *where).stdout
        assert said.startswith("settlement tx 7 is now account alice's\n")
    until(lambda: trouble.connector.total("alice") == 7)
    assert [item["settlement_id"] for item in trouble.server.books("/suspense")] == ["tx 8"]
    assert trouble.server.stop() == 0
    assert trouble.connector.total("alice") == 7


def test_the_stopped_server_s_store_tells_and_takes_the_same(trouble: Trouble) -> None:
    """What is decided while it is stopped is carried out at its next start: 12 paid, 3, 7 and 8 credited, once each."""
    server, store = trouble.server, ("--store", trouble.store)
    online = {name: server.books(f"/{name}") for name in ("accounts", "attempts", "suspense")}
    assert server.stop() == 0
    assert {name: run_json(name, *store) for name in online} == online
    doubt, held = (run_json("attempts", "--state", state, *store)[0]["id"] for state in ("in_doubt", "held"))
    for _ in range(2):
        run("resolve", doubt, "--settled", "1", "--reason", "seen", *store)
        run("resolve", held, "--release", "--reason", "repaired", *store)
    for settlement_id in ("tx 7", "tx 8"):
        run("suspense", "--assign", settlement_id, "alice", "--reason", "asked", *store)
    assert (trouble.connector.total("alice"), trouble.paid()) == (D(0), ["alice 5"]), (
        "nothing moves while it is stopped"
    )
    server.start()
    until(lambda: trouble.connector.total("alice") == 18)
    until(lambda: trouble.paid() == ["alice 5", "alice 12"])
    assert server.stop() == 0
    assert (trouble.connector.total("alice"), trouble.paid()) == (D(18), ["alice 5", "alice 12"])
    said = run("audit", *store).stdout
    assert said.splitlines()[-1] == ("your money is all right: the books add up, and nothing waits for you")


def test_money_that_is_not_ours_is_dismissed_on_a_server_and_on_its_store(trouble: Trouble) -> None:
    """One by one or all below an amount; it is listed with who said so, audited, and can still be assigned."""
    server, online, store = trouble.server, ("--admin-url", trouble.server.admin_url), ("--store", trouble.store)
    told = ("--reason", "spam", "--by", "ann")
    for _ in range(2):
        said = run("suspense", "--not-ours", "tx 8", *told, *online).stdout.splitlines()
        assert said[0] == "1 settlement dismissed as not ours"
        assert said[-1] == "1 settlement without an owner"
    assert [item["settlement_id"] for item in run_json("suspense", *online)] == ["tx 7"]
    assert "not ours, said ann: spam" in run("suspense", "--decided", *online).stdout
    assert "dismissed as not ours: 8 in all, 1 settlement" in run("audit", *online, code=3).stdout
    said = run("suspense", "--not-ours-below", "7", *told, *online).stdout.splitlines()
    assert said[0] == "0 settlements of less than 7 dismissed as not ours"
    assert server.stop() == 0
    said = run("suspense", "--not-ours-below", "7.01", *told, *store).stdout.splitlines()
    assert said[0] == "1 settlement of less than 7.01 dismissed as not ours"
    assert run_json("suspense", *store) == []
    assert run_json("audit", *store, code=3)["dismissed"] == {"count": 2, "amount": "15"}
    held = run_json("attempts", "--state", "held", *store)[0]["id"]
    run("resolve", held, "--all", "--reason", "the connector has it", *store)
    run("suspense", "--assign", "tx 7", "alice", "--reason", "asked", *store)
    run("suspense", "--not-ours", "tx 8", *told, *store)
    server.start()
    until(lambda: trouble.connector.total("alice") == 7)
    assert server.stop() == 0
    assert trouble.connector.total("alice") == 7


def test_a_store_that_was_tampered_with_fails_the_audit(trouble: Trouble) -> None:
    """One amount changed by hand: exit code 1, and the account and row are named."""
    assert trouble.server.stop() == 0
    path = trouble.folder / "store.db"
    with sqlite3.connect(path) as db:
        changed = db.execute("UPDATE entries SET amount = '6' WHERE entry_id = 'good'").rowcount
    db.close()
    assert changed == 1
    report = run_json("audit", "--store", trouble.store, code=1)
    assert not report["ok"]
    assert {problem["account"] for problem in report["problems"]} == {"alice"}
    said = run("audit", "--store", trouble.store, code=1).stdout
    assert "PROBLEM: account 'alice', " in said
    assert "stop the server, keep the store as it is" in said
    assert said.splitlines()[-1].startswith("something is wrong: the books do not add up")


def test_where_the_books_are_is_found_or_told(tmp_path: Path) -> None:
    """No server at the URL, something else there, or no store: exit code 2 and a sentence."""
    refused = run("accounts", "--admin-url", "http://127.0.0.1:9", code=2)
    assert refused.stderr.startswith("Error: no server answers at http://127.0.0.1:9: ")
    with open_connector() as connector:
        refused = run("accounts", "--admin-url", connector.url, code=2)
    assert "is no settlement engine's operator API" in refused.stderr
    refused = run("accounts", "--store", "sqlite:nosuch/store.db", code=2, cwd=tmp_path)
    assert "nosuch/store.db" in refused.stderr
    refused = run("accounts", "--admin-url", "nonsense", code=2)
    assert len(refused.stderr.splitlines()) == 1


def test_looking_for_books_does_not_make_any(tmp_path: Path) -> None:
    """A mistyped store is told, not created: an empty one would say that all is well."""
    for command in ("accounts", "attempts", "suspense", "audit"):
        refused = run(command, "--store", "sqlite:mistyped.db", code=2, cwd=tmp_path)
        assert "mistyped.db" in refused.stderr
    refused = run("audit", "--store", "memory:", code=2, cwd=tmp_path)
    assert "store memory: lives and ends with its server" in refused.stderr
    assert list(tmp_path.iterdir()) == []


READING = ("accounts", "attempts", "suspense", "audit", "workers")


def test_what_is_no_store_of_this_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    """An empty file, another program's, a text, an earlier format: exit code 2, and not a byte is changed."""
    (tmp_path / "empty.db").touch()
    (tmp_path / "notes.db").write_text("not a store\n" * 1000)
    with sqlite3.connect(tmp_path / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE precious (thing)")
    foreign.close()
    open_sqlite_store(tmp_path / "earlier.db").close()
    with sqlite3.connect(tmp_path / "earlier.db") as earlier:
        earlier.execute("PRAGMA user_version=1")
    earlier.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, sentence in (
        ("empty.db", "the file is empty; it was not changed"),
        ("notes.db", "it is not a SQLite file; it was not changed"),
        ("foreign.db", "some other program, not a settlement store; it was not changed"),
        ("earlier.db", "it was not changed: settlement-core serve brings it to this version's format"),
    ):
        for command in READING:
            refused = run(command, "--store", f"sqlite:{tmp_path / name}", code=2)
            assert refused.stdout == ""
            assert sentence in refused.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_store_and_the_url_come_from_the_environment(tmp_path: Path) -> None:
    """As for the server."""
    engine = write_engine(tmp_path, MINIMAL)
    with serving(str(engine), "--store", f"sqlite:{tmp_path / 's.db'}", folder=tmp_path, PAID="x") as server:
        server.create("carol")
        found = run("accounts", "--json", SETTLEMENT_ADMIN_URL=server.admin_url)
        assert [account["id"] for account in json.loads(found.stdout)] == ["carol"]
        assert server.stop() == 0
    found = run("accounts", "--json", SETTLEMENT_STORE=f"sqlite:{tmp_path / 's.db'}")
    assert [account["id"] for account in json.loads(found.stdout)] == ["carol"]

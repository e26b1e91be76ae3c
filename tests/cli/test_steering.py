"""pause, resume, settle and engine: a running server is steered, a stopped one's store where that makes sense."""

from __future__ import annotations

from pathlib import Path

from settlement_core.http.process import COLLECT_EVERY
from tests.cli.processes import MINIMAL, run, run_json, serving, until, write_engine

ENGINE = """
import gc

from settlement_core import SettlementFailed

class Engine:
    def __init__(self):
        self.broke, self.asked = True, 0

    async def settle(self, account_id, amount):
        self.asked += 1
        if self.broke:
            raise SettlementFailed("no funds")
        return amount

    async def handle_message(self, account_id, message):
        self.broke = False

    async def status(self):
        return {"asked": self.asked, "chain": {"head": 7}, "alarm": "no funds" if self.broke else None,
                "collecting_after": gc.get_threshold()[0]}

async def connect_engine(services):
    return Engine()
"""


def test_an_account_is_paused_resumed_and_told_to_settle_now(tmp_path: Path) -> None:
    """Paused, it takes requests and pays nothing, also after a restart; resumed, it pays. Who and why are kept."""
    store = f"sqlite:{tmp_path / 'books.db'}"
    engine = str(write_engine(tmp_path, ENGINE))
    why = ("--reason", "strange", "--by", "carol")
    with serving(engine, "--store", store, folder=tmp_path) as server:
        where = ("--admin-url", server.admin_url)
        server.create()
        assert run("pause", "alice", *why, *where).stdout.startswith("account alice is paused")
        assert server.settle("5", "key") == 201
        (account,) = run_json("accounts", *where)
        assert account["outgoing"]["queued"] == "5"
        assert account["paused"]
        assert {name: account["pausing"][name] for name in ("reason", "by")} == {"reason": "strange", "by": "carol"}
        assert "open, paused" in run("accounts", *where).stdout
        status = run_json("engine", *where, code=1)["status"]
        assert status["asked"] == 0
        assert status["collecting_after"] == COLLECT_EVERY
        assert "account 'nobody' does not exist" in run("pause", "nobody", *why, *where, code=2).stderr
        assert server.stop() == 0
        assert run_json("pause", "alice", *why, "--store", store) == {"account": "alice", "paused": True}
        server.start()
        where = ("--admin-url", server.admin_url)
        assert run("resume", "alice", *why, *where).stdout == "account alice goes on\n"
        until(lambda: run_json("engine", *where, code=1)["status"]["asked"] >= 1)
        server.tell("there are funds now")
        run("settle", "alice", *where)
        until(lambda: run_json("accounts", *where)[0]["outgoing"]["settled"] == "5")
        assert run_json("accounts", *where)[0]["paused"] is False
        assert "account 'nobody' does not exist" in run("settle", "nobody", *where, code=2).stderr


def test_what_only_a_running_server_can_do_is_one_sentence_on_a_store(tmp_path: Path) -> None:
    """Nothing is recorded, and it says what to do."""
    store = f"sqlite:{tmp_path / 'books.db'}"
    with serving(str(write_engine(tmp_path, ENGINE)), "--store", store, folder=tmp_path) as server:
        server.create()
        where = ("--admin-url", server.admin_url)
        table = run("engine", *where, code=1).stdout
        assert "chain head" in table
        assert table.splitlines()[-1] == "ALARM: no funds"
        server.tell("there are funds now")
        assert run("engine", *where).stdout.splitlines()[-1] == "Engine has no alarm"
    assert "start one" in run("settle", "alice", "--store", store, code=2).stderr
    assert "only a running engine can tell" in run("engine", "--store", store, code=2).stderr


HALTING = """
class Engine:
    async def settle(self, account_id, amount):
        return amount + 1 if amount == 5 else amount

async def connect_engine(services):
    return Engine()
"""


def test_a_halted_account_says_so_and_resume_is_the_way_out(tmp_path: Path) -> None:
    """With its reason, in accounts and attempts; told to settle it refuses, and no message says what did not happen."""
    with serving(str(write_engine(tmp_path, HALTING)), "--store", "memory:", folder=tmp_path) as server:
        where, why = ("--admin-url", server.admin_url), ("--reason", "compared", "--by", "ann")
        server.create()
        assert run("resume", "alice", *why, *where).stdout == (
            "account alice was neither paused nor halted; nothing changed\n"
        )
        assert server.settle("5", "key") == 201
        until(lambda: bool(server.books("/accounts")[0]["halted"]), "for the account to halt")
        (account,) = run_json("accounts", *where)
        assert "settled 6, more than the 5 it may" in account["halted"]["outgoing"]
        said = run("accounts", *where).stdout
        assert "open, halted" in said
        assert "account alice is halted, outgoing: " in said
        assert "settlement-core resume alice --reason" in said
        (attempt,) = run_json("attempts", *where)
        assert (attempt["state"], attempt["halted"]) == ("open", account["halted"]["outgoing"])
        assert "open, halted" in run("attempts", *where).stdout
        refused = run("settle", "alice", *where, code=2).stderr
        assert "nothing is tried: account 'alice' is halted, outgoing: " in refused
        assert server.settle("7", "later") == 201
        said = run("resume", "alice", *why, *where).stdout
        assert said == "account alice is looked at again, as at the next start: outgoing\n"
        until(lambda: server.books("/accounts")[0]["outgoing"]["settled"] == "7", "for what waited to be paid")
        (account,) = run_json("accounts", *where)
        assert (account["halted"], account["outgoing"]["in_doubt"]) == ({}, "5")
        (doubt,) = run_json("attempts", "--state", "in_doubt", *where)
        assert "it was under way when the account halted (EngineError: " in doubt["reason"]
        assert "settled 6, more than the 5 it may" in doubt["reason"]


def test_a_decision_that_is_not_carried_out_yet_says_why(tmp_path: Path) -> None:
    """Money resolved as not paid is queued; in a paused account, or while the server is stopped, it stays there."""
    store = f"sqlite:{tmp_path / 'books.db'}"
    why = ("--reason", "looked", "--by", "ann")
    with serving(str(write_engine(tmp_path, MINIMAL)), "--store", store, folder=tmp_path, PAID="x") as server:
        where = ("--admin-url", server.admin_url)
        server.create()
        for key in ("first", "second"):
            assert server.settle("13", key) == 201
            until(lambda key=key: len(server.books("/attempts?state=in_doubt")) == 1 + (key == "second"))  # type: ignore[misc]
        run("pause", "alice", *why, *where)
        first, second = (attempt["id"] for attempt in server.books("/attempts?state=in_doubt"))
        said = run("resolve", first, "--nothing", *why, *where).stdout
        assert "but not yet: account 'alice' is paused by ann: looked; settlement-core resume alice --reason" in said
        assert "nothing is tried: account 'alice' is paused by ann" in run("settle", "alice", *where, code=2).stderr
        assert server.stop() == 0
        said = run("resolve", second, "--nothing", *why, "--store", store).stdout
        assert "but not yet: its server is stopped" in said
        assert "but not yet: its server is stopped" in run("resume", "alice", *why, "--store", store).stdout

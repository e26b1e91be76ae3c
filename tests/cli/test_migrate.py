"""`migrate` and `workers` as commands: between a SQLite file and a real Redis, there and back, cut off, and refused."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from settlement_core.store_urls import open_store
from settlement_core.values import commands as c
from settlement_core.values.records import Direction
from tests.cli.processes import (
    COMMAND,
    MINIMAL,
    VERIFIABLE,
    D,
    Server,
    clean_environment,
    run,
    run_json,
    serving,
    until,
    write_engine,
)
from tests.redis.servers import RedisServer

_names = count()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a server for all tests of this module."""
    with RedisServer(tmp_path_factory.mktemp("redis"), requirepass="correct-horse") as server:
        yield server


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    """Return the URL of a store that does not exist yet."""
    return f"{redis.url()}?namespace=test{next(_names)}"


def shown(url: str) -> str:
    """Return a URL as it may be printed."""
    return url.replace(":correct-horse@", "")


def fill(url: str, *, accounts: int = 3, entries: int = 5) -> None:
    """Put books into a store: some settled, some in doubt, some queued, some without an owner."""
    store = open_store(url)
    try:
        for number in range(accounts):
            account = f"account-{number}"
            store.apply([c.OpenAccount(account_id=account, at=1.0)])
            batch: list[c.Command[Any]] = [
                c.Enqueue(account_id=account, direction=direction, entry_id=str(n), amount=D("1.5"), at=1.0)
                for direction in Direction
                for n in range(entries)
            ]
            for direction in Direction:
                name = f"{number}-{direction}"
                batch.append(
                    c.Claim(account_id=account, direction=direction, attempt_id=name, at=2.0, max_entries=entries - 1)
                )
                batch.append(c.Hold(account_id=account, attempt_id=name, reason="no answer"))
            store.apply(batch)
        store.apply([c.Suspend(settlement_id="tx", amount=D(7), details={"memo": "?"}, at=1.0)])
        store.apply([c.Put(account_id="", key="cursor", value=5)])
    finally:
        store.close()


def books(url: str) -> dict[str, Any]:
    """Return everything the commands show of a store."""
    found = {name: run_json(name, "--store", url) for name in ("accounts", "attempts", "suspense")}
    found["audit"] = run_json("audit", "--store", url, code=None)
    # the stores' names
    del found["audit"]["store"], found["audit"]["audited"]
    # those claimed at the same instant are in any order, but for those of the same account
    found["attempts"].sort(key=lambda attempt: attempt["account"])
    return found


def refusal(*arguments: str) -> str:
    """Run a command that must be refused; return its one sentence."""
    refused = run(*arguments, code=2, PAID="x")
    assert refused.stdout == ""
    line = refused.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    assert "correct-horse" not in refused.stderr
    return line.removeprefix("Error: ")


def test_there_and_back_everything_is_as_it_was(redis_url: str, tmp_path: Path) -> None:
    """The same books, to the last digit; the one that is left can be read and not served, nor decided upon."""
    first, last = f"sqlite:{tmp_path / 'first.db'}", f"sqlite:{tmp_path / 'last.db'}"
    fill(first)
    before = books(first)
    done = run("migrate", first, redis_url)
    assert "copying: " in done.stderr
    assert "correct-horse" not in done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["entries", "30", "30"] in lines
    assert ["outgoing", "in", "doubt", "18", "18"] in lines
    assert done.stdout.splitlines()[-1] == (
        f"everything is in {shown(redis_url)} now: serve that one; {first} is kept, to be read"
    )
    assert books(redis_url) == before
    assert books(first) == before
    engine = str(write_engine(tmp_path, MINIMAL))
    serve = ("serve", engine, "--port", "0", "--admin-port", "-1")
    assert refusal(*serve, "--store", first).startswith(f"the store {first} was moved to {shown(redis_url)}:")
    said = refusal("resolve", "0-outgoing", "--all", "--reason", "seen", "--store", first)
    assert said.startswith(f"the store {first} was moved to ")
    assert refusal("migrate", first, last).startswith(f"the store {first} was moved to ")
    assert not Path(last.removeprefix("sqlite:")).exists()
    run("migrate", redis_url, last)
    assert books(last) == before
    with serving(engine, "--store", last, folder=tmp_path, PAID=str(tmp_path / "paid")) as server:
        until(lambda: D(server.books("/accounts")[0]["outgoing"]["settled"]) == D("1.5"))
        assert server.stop() == 0


SLOW = '''
"""Connects while WAIT/connect is missing, and pays once WAIT/hold is gone, by a line in a file."""

import os
import pathlib
from contextlib import asynccontextmanager

import anyio

WAIT = pathlib.Path(os.environ["WAIT"])


class Engine:
    async def settle(self, account_id, amount):
        while (WAIT / "hold").exists():
            await anyio.sleep(0.02)
        with open(os.environ["PAID"], "a") as paid:
            paid.write(f"{os.environ['WHO']} pays {account_id} {amount:f}\\n")
        return amount


@asynccontextmanager
async def connect_engine(services):
    (WAIT / f"{os.environ['WHO']} connects").touch()
    while (WAIT / f"{os.environ['WHO']} is slow").exists():
        await anyio.sleep(0.02)
    yield Engine()
'''


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("state", ["silent", "starting"])
def test_a_worker_that_was_silent_or_starting_during_a_migration_pays_nothing_afterwards(
    state: str, backend: str, redis_url: str, tmp_path: Path
) -> None:
    """It is stopped, or its engine connects slowly; then it goes on, finds the old store fenced, and ends."""
    new, engine = f"sqlite:{tmp_path / 'new.db'}", str(write_engine(tmp_path, SLOW))
    known = {"PAID": str(tmp_path / "paid"), "WAIT": str(tmp_path)}
    options = ("--lease", "2", "--backend", backend, "--store")

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    (tmp_path / "hold").touch()
    with ExitStack() as stack:
        serve = partial(serving, engine, *options)
        first = stack.enter_context(serve(redis_url, folder=folder("first"), WHO="first", **known))
        assert first.create() == 201
        assert first.settle("5", "in the ledger's hands") == 201
        until(lambda: D(first.books("/accounts")[0]["outgoing"]["open"]) == 5)
        assert first.settle("7", "queued") == 201
        old = first
        if state == "silent":
            first.signal(signal.SIGSTOP)
        else:
            first.kill()
            (tmp_path / "old is slow").touch()
            old = Server([engine, *options, redis_url, "--port", "0"], folder("old"), {"WHO": "old", **known})
            stack.callback(_end, old)
            thread = threading.Thread(target=_start, args=(old,))
            thread.start()
            stack.callback(thread.join)
            until((tmp_path / "old connects").exists)
        until(lambda: run_json("workers", "--store", redis_url)["workers"][0]["expires_in_s"] <= 0)
        run("migrate", redis_url, new)
        (tmp_path / "hold").unlink()
        fresh = stack.enter_context(serve(new, folder=folder("fresh"), WHO="fresh", **known))
        until(lambda: D(fresh.books("/accounts")[0]["outgoing"]["settled"]) == 7)
        if state == "silent":
            first.signal(signal.SIGCONT)
        else:
            (tmp_path / "old is slow").unlink()
        assert old.wait() == 1
        assert "it was taken over since" in old.log.read_text()
        outgoing = fresh.books("/accounts")[0]["outgoing"]
        assert {name: D(outgoing[name]) for name in ("entered", "settled", "in_doubt")} == {
            "entered": 12,
            "settled": 7,
            "in_doubt": 5,
        }
        assert fresh.stop() == 0
    # what was in the ledger's hands when the worker was stopped is in doubt, and the ledger may have paid it
    lines = (tmp_path / "paid").read_text().splitlines()
    assert [line for line in lines if line != "first pays alice 5"] == ["fresh pays alice 7"]
    assert lines.count("first pays alice 5") <= (state == "silent")
    assert D(run_json("audit", "--store", redis_url, code=None)["outgoing"]["queued"]) == 7


def _end(server: Server) -> None:
    if server.process is not None and server.process.poll() is None:
        server.kill()


def _start(server: Server) -> None:
    with suppress(AssertionError):  # it ends instead of listening
        server.start()


def test_a_store_in_use_is_not_migrated(redis_url: str, tmp_path: Path) -> None:
    """Neither a file that is open, nor a Redis that somebody serves; what was to be the new store is not made."""
    engine = str(write_engine(tmp_path, MINIMAL))
    for number, store in enumerate((f"sqlite:{tmp_path / 'used.db'}", redis_url)):
        other = f"sqlite:{tmp_path / f'new-{number}.db'}"
        with serving(engine, "--store", store, folder=tmp_path, PAID="x") as server:
            if number == 0:
                assert "another process has it open" in refusal("migrate", store, other)
            else:
                until(lambda: bool(server.books("/workers")["workers"]))
                assert "is in use by 1 worker (" in refusal("migrate", store, other)
            assert server.stop() == 0
        assert not Path(other.removeprefix("sqlite:")).exists()
        run("migrate", store, other)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sqlite:nosuch.db", "sqlite:new.db"), "nosuch.db; nothing was read"),
        (("sqlite:old.db", "sqlite:./old.db"), "FROM and TO are both sqlite:"),
        (("sqlite:old.db", "memory:"), "would end with this command; name another store"),
        (("memory:", "sqlite:new.db"), "store memory: lives and ends with its server"),
        (("sqlite:old.db", "mysql://x"), "store mysql:… is not known"),
        (("sqlite:old.db",), "Missing argument 'TO'"),
        (("sqlite:old.db", "sqlite:full.db"), "full.db is not empty: migrate to a new one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_arguments_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And exit code 2; the old store can be served as ever."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "full"):
        fill(f"sqlite:{name}.db", accounts=1)
    assert sentence in refusal("migrate", *arguments)
    run("migrate", "sqlite:old.db", "sqlite:another.db")


def test_books_that_do_not_add_up_stay_where_they_are(redis_url: str, tmp_path: Path) -> None:
    """The audit comes first."""
    store = open_store(redis_url)
    fill(redis_url)
    places = store._places  # type: ignore[attr-defined]
    keys = places.account("account-1")
    client = store._servers.client_for(keys.account)  # type: ignore[attr-defined]
    client.hdel(keys.entries[Direction.OUTGOING], "1")
    client.hset(keys.entries[Direction.OUTGOING], "1", '["request","0","9",1.0]')
    store.close()
    said = refusal("migrate", redis_url, f"sqlite:{tmp_path / 'new.db'}")
    assert said.startswith(f"the books of {shown(redis_url)} do not add up")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["to Redis", "to SQLite"])
def test_killed_anywhere_the_old_store_serves_on_and_the_new_one_is_refused(
    way: str, redis_url: str, tmp_path: Path
) -> None:
    """SIGKILL while accounts are copied; the half-filled store is refused by everything but readers."""
    file = f"sqlite:{tmp_path / 'file.db'}"
    old, new = (file, redis_url) if way == "to Redis" else (redis_url, file)
    fill(old, accounts=300, entries=20)
    before = run_json("audit", "--store", old, code=None)
    process = subprocess.Popen(
        [*COMMAND, "migrate", old, new], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=clean_environment()
    )
    assert process.stderr is not None
    with process, process.stderr:
        for line in process.stderr:
            if line.startswith(b"copying: "):
                break
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    sentence = f"the store {shown(new)} is not complete: its migration from {shown(old)} did not finish; delete it "
    engine = str(write_engine(tmp_path, VERIFIABLE))
    (tmp_path / "ledger").mkdir()
    serve = (engine, "--port", "0", "--admin-port", "-1", "--store")
    assert refusal("serve", *serve, new).startswith(sentence)
    assert refusal("migrate", old, new).startswith(sentence)
    assert len(run_json("accounts", "--store", new)) < 300
    assert run_json("audit", "--store", old, code=None) == before
    with serving(engine, "--store", old, folder=tmp_path, PAID=str(tmp_path / "ledger")) as server:
        # to audit all the time would take the server's time
        until(lambda: len(list((tmp_path / "ledger").iterdir())) >= 300)
        until(lambda: D(server.books("/audit")["outgoing"]["queued"]) == 0)
        assert server.stop() == 0
    again = f"{redis_url}again" if way == "to Redis" else f"sqlite:{tmp_path / 'again.db'}"
    run("migrate", old, again)
    assert run_json("audit", "--store", again, code=None)["ok"]


# who shares a store


def test_workers_shows_who_shares_a_store(redis_url: str, tmp_path: Path) -> None:
    """Through the operator's port and from the store; and what nobody holds."""
    engine = str(write_engine(tmp_path, MINIMAL))
    with serving(engine, "--store", redis_url, "--lease", "3", folder=tmp_path, PAID="x") as server:
        until(lambda: len(server.books("/workers")["workers"][0]["partitions"]) == 64)
        for where in (("--admin-url", server.admin_url), ("--store", redis_url)):
            told = run_json("workers", *where)
            assert (told["shared"], told["partitions"], len(told["workers"])) == (True, 64, 1)
            said = run("workers", *where).stdout.splitlines()
            assert said[0].split() == ["worker", "partitions", "which", "lease"]
            assert said[1].split()[:5] == [told["workers"][0]["id"], "64", "0-63", "runs", "out"]
            assert said[-1] == "all 64 partitions are held, by 1 worker"
        server.kill()
        until(lambda: run_json("workers", "--store", redis_url)["workers"][0]["expires_in_s"] <= 0)
        said = run("workers", "--store", redis_url).stdout.splitlines()
        assert said[1].endswith("has run out")
        assert said[-1] == (
            "all 64 partitions are held by workers not heard of any more: what is owed there waits until somebody "
            "serves this store"
        )
        server.start()
        # nothing is taken from others for as long as a lease lasts, after a time in which nobody was here
        until(lambda: server.books("/statistics")["partitions_held"] == 64, "for the partitions to be taken over")
        assert server.stop() == 0
    assert run("workers", "--store", redis_url).stdout == (
        "all 64 partitions are nobody's: what is owed there waits until somebody serves this store\n"
    )
    store = open_store(redis_url)
    store.apply([c.Share(worker="half", lease_s=60.0)])
    store.apply([c.Share(worker="half", lease_s=60.0, yielding=frozenset({0, 1, 5}))])
    store.close()
    said = run("workers", "--store", redis_url).stdout.splitlines()
    assert said[1].split()[:5] == ["half", "61", "2-4,", "6-63", "runs"]
    assert said[-1].startswith("partitions 0-1, 5 are nobody's: look again in a few seconds, ")


def test_a_store_that_is_one_process_s_says_so(tmp_path: Path) -> None:
    """Whether it is served or not."""
    engine = str(write_engine(tmp_path, MINIMAL))
    store = f"sqlite:{tmp_path / 's.db'}"
    with serving(engine, "--store", store, folder=tmp_path, PAID="x") as server:
        served = run("workers", "--admin-url", server.admin_url).stdout
        assert server.stop() == 0
    assert served == run("workers", "--store", store).stdout == "this store is one process's: no workers share it\n"

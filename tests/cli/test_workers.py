"""`serve --workers N` as real processes on a real Redis: one port, one line, one exit code, and no money twice."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from settlement_core.engines.simulated import LedgerSettings, SimulatedLedger, open_ledger
from tests.cli.processes import MINIMAL, VERIFIABLE, Server, ask, run, run_json, serving, until, write_engine
from tests.redis.servers import RedisServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="a process's children are looked up in /proc"),
]

WORKERS = 3
ACCOUNTS = [f"account-{number}" for number in range(12)]
LINE = re.compile(
    r"settlement engine (?P<target>\S+) on (?P<url>http://127\.0\.0\.1:\d+), 3 workers, "
    r"admin (?P<admin>http://127\.0\.0\.1:\d+(, http://127\.0\.0\.1:\d+){2}), "
    r"store redis://127\.0\.0\.1:\d+/0(, which was created now)?\n"
)

_names = count()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a server for all tests of this module."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def store(redis: RedisServer) -> str:
    """Return the URL of an empty store."""
    return f"{redis.url()}?namespace=test{next(_names)}"


def engine(folder: Path, source: str = VERIFIABLE) -> str:
    """Return an engine's file, having made its ledger if that is a folder."""
    if source == VERIFIABLE:
        (folder / "ledger").mkdir(exist_ok=True)
    return str(write_engine(folder, source))


@contextmanager
def crew(target: str, store: str, folder: Path, *arguments: str) -> Iterator[Server]:
    """Run a parent and its workers for the block; nothing of them is left afterwards."""
    paid = str(folder / ("ledger" if (folder / "ledger").is_dir() else "paid"))
    settings = [target, "--store", store, "--workers", str(WORKERS), "--lease", "3", *arguments]
    left: set[int] = set()
    try:
        with serving(*settings, folder=folder, PAID=paid) as server:
            assert server.process is not None
            left = set(children(server))
            yield server
            left |= set(children(server))
    finally:
        for pid in left:
            end(pid)


def end(pid: int) -> None:
    """Kill a process of ours, if it lives."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def admin_urls(server: Server) -> list[str]:
    """Return the URL of each worker's operator's port."""
    return server.printed.split(", admin ")[1].split(", store")[0].split(", ")


def _settling(server: Server) -> int:
    """Return how many payments all workers have under way."""
    return sum(ask(url, "GET", "/statistics")[1].count(b'"settling"') for url in admin_urls(server))


def children(server: Server) -> list[int]:
    """Return the processes of a server's workers."""
    assert server.process is not None
    return sorted(pid for pid, (_, parent) in processes().items() if parent == server.process.pid)


def processes() -> dict[int, tuple[str, int]]:
    """Return all processes, each with its state and its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # gone meanwhile
        if state != "Z":
            found[int(path.parent.name)] = (state, int(parent))
    return found


def lives(pid: int) -> bool:
    """Tell whether a process runs."""
    return pid in processes()


# processes


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_they_print_one_line_serve_one_port_and_end_in_order_with_0(backend: str, store: str, tmp_path: Path) -> None:
    """Each has an operator's port, and all show the same books; SIGTERM ends all, and one line is all that was said."""
    with crew(engine(tmp_path), store, tmp_path, "--backend", backend) as server:
        found = LINE.fullmatch(server.printed)
        assert found is not None, server.printed
        pids = children(server)
        assert len(pids) == WORKERS
        assert server.create() == 201
        assert server.settle("5", "a key") == 201
        for url in found["admin"].split(", "):
            until(lambda url=url: b'"settled":"5"' in ask(url, "GET", "/accounts")[1])  # type: ignore[misc]
        assert server.stop() == 0
        assert not any(map(lives, pids))
        assert server.out.read_text() == server.printed
        assert "Traceback" not in server.log.read_text()
    assert [path.read_text() for path in (tmp_path / "ledger").iterdir()] == ["5"]


def test_a_worker_that_is_killed_is_replaced_on_its_own_ports(store: str, tmp_path: Path) -> None:
    """The log says who was killed; the line is not printed again."""
    with crew(engine(tmp_path), store, tmp_path) as server:
        before = children(server)
        end(before[0])
        until(lambda: "was killed by SIGKILL: another takes its place in 1 s" in server.log.read_text())
        until(lambda: len(children(server)) == WORKERS, "for another worker")
        for url in admin_urls(server):
            until(lambda url=url: ask(url, "GET", "/statistics")[0] == 200)  # type: ignore[misc]
        assert server.stop() == 0
        assert server.out.read_text() == server.printed


def test_a_second_signal_cuts_what_all_of_them_have_under_way(store: str, tmp_path: Path) -> None:
    """Payments of 19 hang for ever, and the shutdown would for a minute."""
    with crew(engine(tmp_path, MINIMAL), store, tmp_path, "--shutdown", "60") as server:
        for account in ACCOUNTS:
            server.create(account)
            server.settle("19", "a key", account)
        until(lambda: _settling(server) == len(ACCOUNTS), "for all payments to be under way")
        server.signal(signal.SIGINT)
        until(lambda: "SIGINT: shutting down 3 workers" in server.log.read_text())
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "SIGTERM again: stopping at once" in server.log.read_text()


def test_an_engine_that_fails_for_good_ends_all_of_them_with_its_code(store: str, tmp_path: Path) -> None:
    """One worker's engine dies; the others end in order, and the cause is told once."""
    with crew(engine(tmp_path, MINIMAL), store, tmp_path, "--log-level", "error") as server:
        pids = children(server)
        server.create()
        server.tell({"die": True})
        assert server.wait() == 1
        assert not any(map(lives, pids))
        said = server.log.read_text()
        assert said.count("Error: ConnectionError: the ledger went away\n") == 1
        assert "ended with exit code 1: shutting down the others" in said


def test_workers_whose_parent_is_killed_end_in_order(store: str, tmp_path: Path) -> None:
    """A payment under way is finished and recorded first; nothing is left running."""
    with crew(engine(tmp_path, MINIMAL), store, tmp_path) as server:
        pids = children(server)
        server.create()
        server.settle("17", "a key")
        until(lambda: _settling(server) == 1, "for the payment to be under way")
        server.kill()
        until(lambda: not any(map(lives, pids)), "for the workers to end")
        assert (tmp_path / "paid").read_text() == "alice 17\n"
        assert server.log.read_text().count("settled 17 of 17") == 1
        assert server.log.read_text().count("the parent process is gone") == WORKERS
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["engine.py", "--store", "sqlite:s.db"], "--workers 3 needs a store that several processes can use"),
        (["engine.py", "--store", "memory:"], "memory: is one process's"),
        (["nosuch.py"], "no engine: there is no file 'nosuch.py'"),
        (["none.py"], "'none.py' has no 'connect_engine'"),
        (["no_settle.py"], "Engine is no settlement engine: it has neither settle nor prepare, submit and verify"),
        (["engine.py", "--store", "redis://127.0.0.1:1"], "cannot use the store at redis://127.0.0.1:1"),
        (["engine.py", "--connector-url", "ftp://x"], "connector"),
        (["engine.py", "--lease", "0"], "a setting is wrong: poll_s"),
        (["engine.py", "--workers", "0"], "0 is not in the range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_setting_is_told_once_with_exit_code_2(
    arguments: list[str], sentence: str, store: str, tmp_path: Path
) -> None:
    """Not once for each worker."""
    write_engine(tmp_path, MINIMAL)
    write_engine(tmp_path, "x = 1\n", "none.py")
    factory = "async def connect_engine(services):\n    return Engine()\n"
    write_engine(tmp_path, f"class Engine:\n    pass\n\n\n{factory}", "no_settle.py")
    common = ["--port", "0", "--admin-port", "0", "--workers", "3", "--store", store, "--log-level", "warning"]
    refused = run("serve", *common, *arguments, code=2, cwd=tmp_path, PAID="x")
    assert refused.stdout == ""
    (line,) = [line for line in refused.stderr.splitlines() if not line.startswith(("Usage:", "Try ")) and line]
    assert line.startswith("Error: ")
    assert sentence in line


def test_a_port_in_use_is_told_once(store: str, tmp_path: Path) -> None:
    """The port itself, and any worker's port for operators."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments in (("--port", str(port)), ("--port", "0", "--admin-port", str(port - 1))):
            refused = run("serve", engine(tmp_path), "--workers", "3", "--store", store, *arguments, code=2)
            (line,) = refused.stderr.splitlines()
            assert line.startswith("Error: cannot listen on 127.0.0.1:")
            assert "choose another with --" in line


# money


def test_what_is_accepted_through_one_port_is_paid_exactly_whoever_is_killed(store: str, tmp_path: Path) -> None:
    """Three workers on one simulated ledger, killed one by one under load: paid once each, and nothing is in doubt."""
    path = tmp_path / "ledger.db"
    with open_ledger(path, create=LedgerSettings()) as ledger:
        ledger.open_address("us", Decimal(10**9))
        options = ("-o", f"ledger={path}", "-o", "address=us", "--log-level", "warning")
        with crew("simulated", store, tmp_path, *options) as server:
            _introduce(server, ledger)
            with _load(server) as accepted:
                for kill in range(1, 4):
                    before = len(accepted)
                    until(lambda before=before: len(accepted) >= before + 20, "for requests to be accepted")  # type: ignore[misc]
                    end(children(server)[0])
                    until(lambda kill=kill: server.log.read_text().count("was killed by SIGKILL") == kill)  # type: ignore[misc]
                    until(lambda: len(children(server)) == WORKERS, "for another to take its place")
            wanted = sum(accepted.values())

            def settled() -> int:
                return sum(int(account["outgoing"]["settled"]) for account in server.books("/accounts"))

            until(lambda: settled() == wanted, f"for {wanted} to be settled")
            assert server.stop() == 0
        report = run_json("audit", "--store", store, code=None)
        assert report["ok"]
        assert report["outgoing"]["entered"] == report["outgoing"]["settled"] == str(wanted)
        assert report["in_doubt"] == []
        assert sum(ledger.balance(account) for account in ACCOUNTS) == wanted


def _introduce(server: Server, ledger: SimulatedLedger) -> None:
    """Open the accounts, and say as each peer where it wants to be paid."""
    for account in ACCOUNTS:
        ledger.open_address(account)
        assert server.create(account) == 201
        details = {"type": "paymentDetails", "address": account, "memo": account}
        assert server.tell(details, account)[0] == 201


@contextmanager
def _load(server: Server, clients: int = 4) -> Iterator[dict[str, int]]:
    """Ask for settlements all the time, each again under its key until it is accepted; give what was, by key."""
    accepted: dict[str, int] = {}
    enough = threading.Event()

    def work(client: int) -> None:
        for number in count():
            key, account = f"{client}-{number}", ACCOUNTS[(client + number) % len(ACCOUNTS)]
            while server.settle(str(number + 1), key, account) != 201:
                enough.wait(0.01)
            accepted[key] = number + 1
            if enough.wait(0.005):
                return

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield accepted
    finally:
        enough.set()
        for thread in threads:
            thread.join()

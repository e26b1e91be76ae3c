"""SIGKILL under load: what was accepted is paid, what cannot be known is listed, and nothing is paid twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.cli.processes import MINIMAL, VERIFIABLE, D, Server, run, run_json, serving, until, write_engine

pytestmark = pytest.mark.slow

CLIENTS = 4
KILLS = 5
ACCOUNTS = ("alice", "bob")


@contextmanager
def load(server: Server) -> Iterator[dict[str, int]]:
    """Ask for settlements all the time, each again under its key until it is accepted; give what was, by key."""
    accepted: dict[str, int] = {}
    enough = threading.Event()

    def work(client: int) -> None:
        chance = Random(client)
        number = 0
        while not enough.is_set():
            key, amount = f"{client}-{number}", 100 * chance.randrange(1, 12)
            while server.settle(str(amount), key, ACCOUNTS[client % 2]) != 201:
                threading.Event().wait(0.01)
            accepted[key] = amount
            number += 1

    threads = [threading.Thread(target=work, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield accepted
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def live_through_kills(server: Server) -> int:
    """Kill the server in the middle of its work again and again; return the sum of what it accepted."""
    chance = Random(7)
    for account in ACCOUNTS:
        server.create(account)
    port = server.url.rsplit(":", 1)[1]
    server.arguments[server.arguments.index("--port") + 1] = port
    with load(server) as accepted:
        for _ in range(KILLS):
            before = len(accepted)
            until(lambda before=before: len(accepted) >= before + 20, "for requests to be accepted")  # type: ignore[misc]
            threading.Event().wait(chance.random() / 10)
            server.kill()
            server.start()
        before = len(accepted)
        until(lambda: len(accepted) >= before + 10)
    return sum(accepted.values())


def test_with_a_verifiable_engine_everything_accepted_is_paid_exactly(tmp_path: Path) -> None:
    """The ledger's files add up to what the connector was promised, and nothing waits for a person."""
    engine, ledger = write_engine(tmp_path, VERIFIABLE), tmp_path / "ledger"
    ledger.mkdir()
    store = f"sqlite:{tmp_path / 'store.db'}"
    arguments = (str(engine), "--store", store, "--log-level", "warning")
    with serving(*arguments, folder=tmp_path, PAID=str(ledger)) as server:
        accepted = live_through_kills(server)

        def settled() -> int:
            return sum(int(account["outgoing"]["settled"]) for account in server.books("/accounts"))

        until(lambda: settled() == accepted, f"for {accepted} to be settled")
        assert server.stop() == 0
    paid = sum(int(path.read_text()) for path in ledger.iterdir() if not path.name.startswith("."))
    assert paid == accepted
    report = run_json("audit", "--store", store, code=None)
    assert report["ok"]
    assert report["outgoing"]["entered"] == report["outgoing"]["settled"] == str(accepted)
    assert report["in_doubt"] == []


def test_with_a_minimal_engine_what_is_not_paid_is_listed(tmp_path: Path) -> None:
    """Never more is paid than was accepted; what a kill left unclear is in doubt, with its amount, for a person."""
    engine, paid_file = write_engine(tmp_path, MINIMAL), tmp_path / "paid"
    store = f"sqlite:{tmp_path / 'store.db'}"
    arguments = (str(engine), "--store", store, "--log-level", "error", "--backend", "asyncio")
    with serving(*arguments, folder=tmp_path, PAID=str(paid_file)) as server:
        accepted = live_through_kills(server)
        until(lambda: all(a["outgoing"]["open"] == a["outgoing"]["queued"] == "0" for a in _accounts(server)))
        assert server.stop() == 0
    paid = sum(int(line.split()[1]) for line in paid_file.read_text().splitlines())
    report = run_json("audit", "--store", store, code=None)
    assert report["ok"]
    figures = {name: D(report["outgoing"][name]) for name in ("entered", "queued", "open", "settled", "parked")}
    assert figures["entered"] == accepted
    assert figures["queued"] == figures["open"] == 0
    assert figures["settled"] + figures["parked"] == accepted
    assert figures["settled"] <= paid <= accepted
    assert sum(D(item["amount"]) for item in report["in_doubt"]) == figures["parked"]
    said = run("audit", "--store", store, code=None).stdout
    assert all(f"in doubt: {item['amount']} of account {item['account']}" in said for item in report["in_doubt"])


def _accounts(server: Server) -> list[dict[str, dict[str, str]]]:
    found: list[dict[str, dict[str, str]]] = server.books("/accounts")
    return found


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_demonstration_proves_its_point_and_leaves_nothing_behind(backend: str, tmp_path: Path) -> None:
    """60 settlements, 2 kills: exit code 0, every difference is 0, no process and no folder is left."""
    marker = f"demo-{backend}-{os.getpid()}-{tmp_path.name}"
    done = run(
        *("demo", "--settlements", "60", "--kills", "2", "--seed", "3", "--json", "--backend", backend),
        TMPDIR=str(tmp_path),
        SETTLEMENT_TEST_MARKER=marker,
    )
    verdict = json.loads(done.stdout)
    assert (verdict["ok"], verdict["settlements"], verdict["kills"], verdict["problems"]) == (True, 60, 2, [])
    assert {D(row["difference"]) for row in verdict["rows"]} == {D(0)}
    assert sum(D(row["requested"]) for row in verdict["rows"]) > 0
    assert list(tmp_path.iterdir()) == []
    assert _processes_with(marker) == []


def _processes_with(marker: str) -> list[str]:
    """Return processes that inherited an environment variable of this value; none where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue  # gone, or not ours
    return found

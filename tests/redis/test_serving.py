"""Servers on a Redis that fails: requests are told to come again, nothing is lost, nothing is paid twice."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.processes import MINIMAL, VERIFIABLE, D, Server, run, run_json, serving, until, write_engine
from tests.redis.servers import RedisServer
from tests.redis.topologies import Sentinels

pytestmark = pytest.mark.slow

LEASE_S = 2


@contextmanager
def server_on(url: str, folder: Path, *arguments: str, engine: str = VERIFIABLE) -> Iterator[Server]:
    """Serve a store, paying into files of the folder."""
    folder.mkdir(exist_ok=True)
    ledger = folder.parent / "ledger"
    if engine == VERIFIABLE:
        ledger.mkdir(exist_ok=True)
    path = str(write_engine(folder, engine))
    options = ("--store", url, "--lease", str(LEASE_S), "--log-level", "warning", *arguments)
    with serving(path, *options, folder=folder, PAID=str(ledger)) as server:
        yield server


def paid(folder: Path) -> dict[str, int]:
    """Return what is on the ledger, by transaction."""
    return {tx.name: int(tx.read_text()) for tx in (folder / "ledger").iterdir() if not tx.name.startswith(".")}


def refusal(server: Server, amount: str, key: str) -> tuple[int, str | None, str]:
    """Ask for a settlement; return the status, Retry-After and the sentence of what was answered."""
    body = json.dumps({"amount": amount, "scale": 0}).encode()
    headers = {"content-type": "application/json", "idempotency-key": key}
    request = urllib.request.Request(f"{server.url}/accounts/alice/settlements", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, None, ""
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers["Retry-After"], json.loads(refused.read())["detail"]


def kill(redis: RedisServer) -> Callable[[], object]:
    """Have it gone, with a SIGKILL."""
    redis.kill()
    return redis.restart


def pause(redis: RedisServer) -> Callable[[], object]:
    """Have it answer nobody."""
    redis.pause()
    return redis.resume


def make_a_replica(redis: RedisServer) -> Callable[[], object]:
    """Have it take no writes."""
    client = redis.client()
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: client.execute_command("REPLICAOF", "NO", "ONE")


def fill(redis: RedisServer) -> Callable[[], object]:
    """Have it out of memory."""
    client = redis.client()
    client.config_set("maxmemory", "1mb")
    return lambda: client.config_set("maxmemory", "0")


# on both loops what ends a connection, or leaves it silent; on one what is only answered otherwise
@pytest.mark.parametrize(
    ("failure", "backend"),
    [
        (kill, "trio"),
        (kill, "asyncio"),
        (pause, "trio"),
        (pause, "asyncio"),
        (make_a_replica, "trio"),
        (fill, "asyncio"),
    ],
)
def test_while_redis_fails_requests_are_503_and_afterwards_everything_goes_on(
    tmp_path: Path, failure: Callable[[RedisServer], Callable[[], object]], backend: str
) -> None:
    """The same request again is entered and paid once, and so is what was accepted before."""
    with RedisServer(tmp_path) as redis, server_on(redis.url(), tmp_path / "a", "--backend", backend) as server:
        assert server.create() == 201
        assert server.settle("5", "before") == 201
        until(lambda: sum(paid(tmp_path).values()) == 5, "for the first payment")
        mend = failure(redis)
        status, retry_after, sentence = refusal(server, "7", "meanwhile")
        assert (status, retry_after) == (503, "1")
        assert "safe" in sentence or "nothing was recorded" in sentence
        assert sum(paid(tmp_path).values()) == 5
        mend()
        until(lambda: server.settle("7", "meanwhile") == 201, "for Redis to take requests again")
        until(lambda: sum(paid(tmp_path).values()) == 12, "for both to be paid")
        assert server.settle("7", "meanwhile") == 201
        assert server.stop() == 0
        report = run_json("audit", "--store", redis.url(), code=None)
    assert report["ok"], report["problems"]
    assert D(report["outgoing"]["settled"]) == 12


def test_a_debt_accepted_before_redis_was_killed_is_paid_by_the_next_server(tmp_path: Path) -> None:
    """What was answered 201 was on the disk: both Redis and the server may be gone the next moment."""
    with RedisServer(tmp_path) as redis:
        with server_on(redis.url(), tmp_path / "a", engine=MINIMAL) as server:
            server.create()
            assert server.settle("19", "never answered by the ledger") == 201
            assert server.settle("4", "later") == 201
            redis.kill()
            server.kill()
        redis.restart()
        # the first is in doubt for a person; the second nobody had begun
        with server_on(redis.url(), tmp_path / "b", engine=MINIMAL) as server:
            until(lambda: D(server.books("/accounts")[0]["outgoing"]["queued"]) == 0)
            (account,) = server.books("/accounts")
            assert server.stop() == 0
        report = run_json("audit", "--store", redis.url(), code=None)
    sums = {name: D(account["outgoing"][name]) for name in ("entered", "open", "settled", "in_doubt")}
    assert sums["entered"] == 23 == sums["settled"] + sums["in_doubt"] + sums["open"]
    assert report["ok"], report["problems"]


def test_of_three_workers_one_is_killed_and_the_others_settle_its_accounts(tmp_path: Path) -> None:
    """Within the lease and a look; none twice, none lost."""
    names = [f"account-{number}" for number in range(40)]
    with RedisServer(tmp_path) as redis, ExitStack() as running:
        servers = [running.enter_context(server_on(redis.url(), tmp_path / f"{n}")) for n in range(3)]
        until(lambda: sorted(len(w["partitions"]) for w in _workers(redis)) == [21, 21, 22], "for even shares")
        for name in names:
            assert servers[0].create(name) == 201
        servers[1].kill()
        for number, name in enumerate(names):
            assert servers[2 * (number % 2)].settle("3", "key", name) == 201
        until(lambda: sum(paid(tmp_path).values()) == 3 * len(names), "for all to be paid by the other two")
        until(lambda: all(D(a["outgoing"]["settled"]) == 3 for a in servers[0].books("/accounts")))
        assert len(paid(tmp_path)) == len(names)
        assert [server.stop() for server in (servers[0], servers[2])] == [0, 0]
        report = run_json("audit", "--store", redis.url(), code=None)
    assert report["ok"], report["problems"]
    assert D(report["outgoing"]["settled"]) == 3 * len(names)


def _workers(redis: RedisServer) -> list[dict[str, list[int]]]:
    found: list[dict[str, list[int]]] = run_json("workers", "--store", redis.url())["workers"]
    return found


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_redis_that_was_emptied_ends_the_server_and_pays_nothing_again(tmp_path: Path, backend: str) -> None:
    """From FLUSHALL on the same request is refused, though unknown accounts would be created for it."""
    arguments = ("--create-unknown-accounts", "--backend", backend)
    with RedisServer(tmp_path) as redis, server_on(redis.url(), tmp_path / "a", *arguments) as server:
        assert server.settle("5", "invoice-7") == 201
        until(lambda: sum(paid(tmp_path).values()) == 5, "for the payment")
        with redis.client() as client:
            client.flushall()
        # 0 is nobody there any more
        assert server.settle("5", "invoice-7") in {503, 0}
        assert server.wait() == 1
        said = server.log.read_text()
        assert "is not the one it was, and is used no more: its mark is gone" in said
        refused = run("audit", "--store", redis.url(), code=2)
        assert "there is no store 'settlement'" in refused.stderr
        assert "all right" not in refused.stdout
        with redis.client() as client:
            assert client.dbsize() == 0
    assert sum(paid(tmp_path).values()) == 5


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_redis_that_stands_still_has_no_request_recorded_whose_client_left(tmp_path: Path, backend: str) -> None:
    """Five clients ask under keys of their own, wait a second each and leave; the sixth stays, and alone is billed."""
    body = json.dumps({"amount": "5", "scale": 0}).encode()
    with RedisServer(tmp_path) as redis, server_on(redis.url(), tmp_path / "a", "--backend", backend) as server:
        assert server.create() == 201
        # who asks first finds everything warm, and its batch is quick
        assert server.settle("1", "before") == 201
        redis.pause()
        for number in range(5):
            headers = {"content-type": "application/json", "idempotency-key": f"left {number}"}
            request = urllib.request.Request(f"{server.url}/accounts/alice/settlements", data=body, headers=headers)
            with pytest.raises(TimeoutError):
                urllib.request.urlopen(request, timeout=1.0)
        redis.resume()
        until(lambda: server.settle("5", "stayed") == 201, "for the request to be taken")
        until(lambda: sum(paid(tmp_path).values()) == 6, "for the payment")
        assert server.stop() == 0
        (account,) = run_json("accounts", "--store", redis.url())
        assert account["outgoing"]["entered"] == "6"
    assert sum(paid(tmp_path).values()) == 6


def test_a_failover_loses_nothing_that_a_replica_had_to_confirm(tmp_path: Path) -> None:
    """The primary is killed under load; its replica has everything that was accepted."""
    with Sentinels(tmp_path) as redis:
        url = f"{redis.url}?replicas=1"
        with server_on(url, tmp_path / "a") as server:
            assert server.create() == 201
            accepted = 0
            for number in range(30):
                if number == 10:
                    old = redis.kill_primary()
                    # the replica is the only one left: none can confirm until the old primary is back
                    redis.wait_for_new_primary(old)
                    redis.restart(old)
                until(lambda number=number: server.settle("2", f"key-{number}") == 201, "for it to be accepted")  # type: ignore[misc]
                accepted += 2
            until(lambda: sum(paid(tmp_path).values()) == accepted, "for all to be paid")
            assert server.stop() == 0
        report = run_json("audit", "--store", url, code=None)
    assert report["ok"], report["problems"]
    assert D(report["outgoing"]["entered"]) == D(report["outgoing"]["settled"]) == accepted

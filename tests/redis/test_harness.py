"""The harness does what tests of stores rely on: servers keep their data, and faults strike where they are meant to."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis.frames import Frames
from tests.redis.proxy import HANDSHAKE, TcpProxy
from tests.redis.servers import HOST, RedisServer
from tests.redis.topologies import Cluster, Sentinels

BROKEN = (redis.ConnectionError, redis.TimeoutError)


@pytest.fixture(name="server")
def server_fixture(tmp_path: Path) -> Iterator[RedisServer]:
    """Run one server."""
    with RedisServer(tmp_path / "server") as server:
        yield server


@pytest.fixture(name="proxy")
def proxy_fixture(server: RedisServer) -> Iterator[TcpProxy]:
    """Run a proxy before it whose losses do not count what clients say of their own accord."""
    with TcpProxy(HOST, server.port, uncounted=HANDSHAKE) as proxy:
        yield proxy


@pytest.fixture(name="client")
def client_fixture(proxy: TcpProxy) -> Iterator[redis.Redis]:
    """Open a client of the proxy that repeats nothing."""
    with through(proxy) as client:
        yield client


def through(proxy: TcpProxy, *, timeout_s: float = 5.0) -> redis.Redis:
    """Return a client of the proxy that repeats nothing."""
    return redis.Redis.from_url(proxy.url(), retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s)


def test_what_was_acknowledged_survives_a_kill(server: RedisServer) -> None:
    """Every write that was answered is there after each of five kills."""
    with server.client() as client:
        for number in range(5):
            client.rpush("list", number)
            server.restart()
        assert client.lrange("list", 0, -1) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_paused_server_holds_its_connections(server: RedisServer) -> None:
    """It answers nothing, and goes on as if nothing had been."""
    with server.client() as client, redis.Redis.from_url(server.url(), socket_timeout=0.1) as hasty:
        client.set("key", 1)
        server.pause()
        with pytest.raises(redis.TimeoutError):
            hasty.get("key")
        server.resume()
        assert client.get("key") == b"1"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error holds the end of the server's log."""
    with pytest.raises(RuntimeError, match="(?s)ended at its start.*nonsense"), RedisServer(tmp_path, nonsense=True):
        pass


def test_a_server_speaks_tls_and_on_a_unix_socket(tmp_path: Path) -> None:
    """Both URLs reach it, with its password."""
    with (
        RedisServer(tmp_path, tls=trustme.CA(), unix=True, requirepass="secret") as server,
        server.client() as over_tls,
        redis.Redis.from_url(server.unix_url()) as local,
    ):
        local.set("key", 1)
        assert server.url().startswith("rediss://:secret@")
        assert over_tls.get("key") == b"1"


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_values_are_found_in_segments_of_any_size(size: int) -> None:
    """Nested, null, attributed and pushed values count as what they are."""
    values = [
        b"*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n:1\r\n%1\r\n+a\r\n_\r\n",
        b"|1\r\n+a\r\n+b\r\n*1\r\n$0\r\n\r\n",
        b">2\r\n+message\r\n#t\r\n",
        b"PING\r\n",
    ]
    stream, frames = b"".join(values), Frames()
    assert [value for at in range(0, len(stream), size) for value in frames.feed(stream[at : at + size])] == values


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_lost_reply_was_executed_and_a_lost_request_was_not(
    server: RedisServer, proxy: TcpProxy, client: redis.Redis, number: int
) -> None:
    """Fifty times over, the server holds exactly what it should, and the next command passes."""
    with server.client() as direct:
        for arm, executed in ((proxy.lose_reply_of, number), (proxy.lose_request, number - 1)):
            for _ in range(50):
                direct.flushall()
                arm(number)
                with pytest.raises(BROKEN):
                    for key in "abc":
                        client.set(key, 1)
                assert direct.dbsize() == executed
                assert not proxy.armed
                assert client.get("a") == (b"1" if executed else None)
    assert proxy.dropped_replies == 50


def test_a_loss_strikes_inside_a_pipeline_of_many_segments(
    server: RedisServer, proxy: TcpProxy, client: redis.Redis
) -> None:
    """What comes after it in the same burst is not executed either."""
    for arm, executed in ((proxy.lose_reply_of, 70), (proxy.lose_request, 69)):
        client.delete("list")
        arm(70)
        pipeline = client.pipeline(transaction=False)
        for number in range(100):
            pipeline.rpush("list", str(number) * 20_000)
        with pytest.raises(BROKEN):
            pipeline.execute()
        with server.client() as direct:
            assert direct.llen("list") == executed


def test_replies_before_a_lost_one_are_delivered(proxy: TcpProxy) -> None:
    """A client that sends on for megabytes, and only then reads, finds 99 answers and an orderly end."""
    command = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$20000\r\n%s\r\n" % (b"x" * 20_000)
    for arm in (proxy.lose_reply_of, proxy.lose_request):
        with socket.create_connection((HOST, proxy.port), timeout=5) as connection:
            arm(100)
            connection.sendall(command * 1000)
            assert b"".join(iter(lambda: connection.recv(65536), b"")) == b"+OK\r\n" * 99


def test_dropped_replies_are_those_of_a_whole_burst(server: RedisServer, proxy: TcpProxy, client: redis.Redis) -> None:
    """A transaction is executed to its end though none of its replies arrives."""
    client.ping()
    proxy.drop_replies_after(1)
    client.set("first", 1)
    pipeline = client.pipeline(transaction=True)
    pipeline.set("second", 1)
    pipeline.set("third", 1)
    with pytest.raises(BROKEN):
        pipeline.execute()
    with server.client() as direct:
        assert direct.exists("first", "second", "third") == 3
    assert proxy.dropped_replies == 4


def test_connections_are_refused_stalled_and_cut(proxy: TcpProxy, client: redis.Redis) -> None:
    """Each fault does what its name says, until it is ended."""
    client.set("key", 1)
    proxy.cut()
    assert proxy.connections == 1
    proxy.refuse()
    with through(proxy) as other, pytest.raises(BROKEN):
        other.get("key")
    proxy.pass_through()
    assert client.get("key") == b"1"
    proxy.stall()
    with through(proxy, timeout_s=0.1) as other, pytest.raises(redis.TimeoutError):
        other.get("key")
    proxy.resume()
    assert client.get("key") == b"1"


def test_a_delayed_request_is_executed_after_its_client_has_gone(
    server: RedisServer, proxy: TcpProxy, client: redis.Redis
) -> None:
    """That is what makes a time-out unclear."""
    with through(proxy, timeout_s=0.1) as hasty, server.client() as direct:
        hasty.ping()
        proxy.delay(0.3)
        with pytest.raises(redis.TimeoutError):
            hasty.set("key", 1)
        hasty.close()
        assert direct.get("key") is None
        time.sleep(0.4)
        assert direct.get("key") == b"1"
        proxy.pass_through()
        client.ping()
        proxy.delay(0.2, replies=True)
        begun = time.monotonic()
        assert client.get("key") == b"1"
        assert time.monotonic() - begun >= 0.2


@pytest.mark.slow
def test_sentinels_promote_the_replica(tmp_path: Path) -> None:
    """On request and after a kill; the old primary comes back as the replica, and no awaited write is lost."""
    with Sentinels(tmp_path) as sentinels:
        first = sentinels.primary()
        with first.client() as client:
            client.set("key", 1)
            assert client.wait(1, 5000) == 1
        second = sentinels.failover()
        assert second is not first
        sentinels.wait_until_whole()
        with second.client() as client:
            assert client.incr("key") == 2
            assert client.wait(1, 5000) == 1
        assert sentinels.kill_primary() is second
        assert sentinels.wait_for_new_primary(second) is first
        sentinels.restart(second)
        assert sentinels.primary() is first
        assert sentinels.replica() is second
        with first.client() as client:
            assert client.get("key") == b"2"


@pytest.mark.slow
def test_a_migrated_slot_is_served_by_its_new_node_with_its_keys(tmp_path: Path) -> None:
    """Half-way the old node answers ASK for what has gone, and TRYAGAIN where keys of a command are apart."""
    with Cluster(tmp_path) as cluster:
        slot = cluster.slot_of("{tag}")
        source, target = cluster.node_of(slot), (cluster.node_of(slot) + 1) % 3
        keys, refusals = [f"{{tag}}{number}" for number in range(4)], set()
        with cluster.servers[source].client() as client, cluster.servers[target].client() as other:
            client.mset(dict.fromkeys(keys, "value"))

            def ask_for_all() -> None:
                for command in (["GET", keys[0]], ["MGET", *keys]):
                    try:
                        client.execute_command(*command)
                    except redis.ResponseError as refusal:
                        refusals.add(type(refusal).__name__)

            assert cluster.migrate_slot(slot, target, pause_s=0.01, between=ask_for_all) == 4
            assert refusals == {"AskError", "TryAgainError"}
            assert cluster.node_of(slot) == target
            assert other.mget(keys) == [b"value"] * 4
            with pytest.raises(redis.ResponseError):
                client.get(keys[0])
            cluster.kill(target)
            cluster.restart(target)
            assert other.mget(keys) == [b"value"] * 4

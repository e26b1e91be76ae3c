"""A request that was given up is never recorded later, however long its server, or the way to it, stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.sentinel import SentinelConnectionPool

from settlement_core.stores.redis import RedisStore, connect_redis
from settlement_core.stores.redis.connections import Connections
from settlement_core.values.errors import LocalError, StoreUnavailable, TooLate, UnknownAccount
from settlement_core.values.results import Entered
from tests.redis.proxy import TcpProxy
from tests.redis.servers import HOST, RedisServer, wait_until
from tests.redis.support import apply_until_taken, overview_of, places_of, raised, store_on
from tests.redis.topologies import Cluster
from tests.stores.books import entered, opened

TIMEOUT_S = 0.3
"""How long an impatient store waits for its server."""

Ways = tuple[str, TcpProxy, Callable[..., RedisStore]]
"""The URL of a server, a proxy before it, and what opens a store by way of the proxy."""


class _Sentinels:
    """Names the proxy as the primary, as sentinels would; its pool's settings have no address."""

    def __init__(self, port: int) -> None:
        self.connection_kwargs: dict[str, Any] = {}
        self._port = port

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where the primary is."""
        assert service_name == "settlement"
        return HOST, self._port


@contextmanager
def _ways(topology: str, server: RedisServer, folder: Path) -> Iterator[Ways]:
    with ExitStack() as stack:
        if topology == "cluster":
            cluster = stack.enter_context(Cluster(folder / "cluster", count=1))
            server = cluster.servers[0]
        unix = folder / "proxy.sock" if topology == "unix" else None
        proxy = stack.enter_context(TcpProxy(HOST, server.port, unix=unix))

        def connect(**options: Any) -> RedisStore:
            if topology == "sentinel":
                sentinels: Any = _Sentinels(proxy.port)
                pool = SentinelConnectionPool("settlement", sentinels, socket_timeout=TIMEOUT_S)
                return connect_redis(redis.Redis(connection_pool=pool), replicas=0, **options)
            known: dict[str, Any] = {"socket_timeout": TIMEOUT_S} | options
            if topology == "unix":
                return connect_redis(f"unix://{unix}", **known)
            if topology == "cluster":
                remap: dict[str, Any] = {"address_remap": lambda _: (HOST, proxy.port)}
                return connect_redis(f"redis+cluster://{proxy.address}?replicas=0", **remap, **known)
            return connect_redis(proxy.url(), **known)

        url = cluster.url if topology == "cluster" else server.url()
        yield url, proxy, connect


@pytest.mark.parametrize("topology", ["single", "unix", "sentinel", "cluster"])
def test_a_request_that_was_refused_when_repeated_is_not_accepted_later(
    topology: str, shared: RedisServer, tmp_path: Path
) -> None:
    """Its first sending is still under way when the account is opened: it must never arrive."""
    with _ways(topology, shared, tmp_path) as (url, proxy, connect):
        direct = store_on(url)
        store = connect(namespace=places_of(direct).namespace)
        assert isinstance(apply_until_taken(store, [entered("0", "1")])[0], UnknownAccount)
        proxy.delay(5 * TIMEOUT_S)
        with pytest.raises(StoreUnavailable, match="Timeout"):
            store.apply([entered("1", "5")])
        proxy.pass_through()
        assert isinstance(apply_until_taken(store, [entered("1", "5")])[0], UnknownAccount)
        direct.apply([opened()])
        # longer than the first sending is held
        time.sleep(8 * TIMEOUT_S)
        assert overview_of(direct).outgoing.entered == 0
        store.close()
        direct.close()


def test_connections_of_another_server_are_not_ended_for_those_of_one_before_it(own: RedisServer) -> None:
    """Numbers are a server's own: those of a server that was killed mean somebody else on the next."""
    made = Connections()
    greet: Any = made.greet
    with redis.Redis(port=own.port, redis_connect_func=greet, decode_responses=True) as client:
        for _ in range(20):
            client.ping()
            client.connection_pool.disconnect()
    made.drop()
    (numbers,) = made._dropped.values()
    assert len(numbers) == 20
    own.restart()
    with ExitStack() as stack:
        connected: set[int] = set()
        while max(connected, default=0) < max(numbers):
            connected.add(int(stack.enter_context(own.client()).client().client_id()))
        assert connected & numbers
        other = stack.enter_context(own.client())
        made.end_dropped(other, forgiving=False)
        known: Any = other.client_list()
        assert connected <= {int(found["id"]) for found in known}


def test_a_server_that_does_not_let_connections_be_ended_is_refused_unless_that_is_accepted(own: RedisServer) -> None:
    """What was given up could be carried out later."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "joe", "on", ">pw", "~*", "&*", "+@all", "-client|kill")
    url = own.url().replace("redis://", "redis://joe:pw@")
    with pytest.raises(LocalError, match=r"allow CLIENT ID and CLIENT KILL, or accept that with \?unchecked=yes"):
        store_on(url)
    store = store_on(f"{url}?unchecked=yes")
    assert not raised(store.apply([opened(), entered("1", "5")]))
    store._servers._doubt()
    assert not raised(store.apply([entered("2", "5")]))
    store.close()


def _stop(server: RedisServer) -> Callable[[], object]:
    server.pause()
    return server.resume


def _pause_clients(server: RedisServer) -> Callable[[], object]:
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 2000, "ALL")
    return lambda: None  # it goes on by itself


def test_a_server_that_was_stopped_records_nothing_that_was_given_up(own: RedisServer) -> None:
    """What waits in its sockets is carried out when it goes on, later than its asker waited for it."""
    store = store_on(own.url(), socket_timeout=TIMEOUT_S)
    store.apply([opened(), entered("0", "1")])
    own.pause()
    with pytest.raises(StoreUnavailable):
        store.apply([replace(entered("1", "5"), within_s=TIMEOUT_S)])
    own.resume()
    with own.client() as client:
        known: Any = client.client_list
        wait_until(lambda: len(known()) == 1, "what was in its sockets has been read")
    assert apply_until_taken(store, [replace(entered("2", "5"), within_s=30.0)]) == [
        Entered(entered("2", "5").amount, replay=False)
    ]
    assert overview_of(store).outgoing.entered == 6
    store.close()


@pytest.mark.parametrize("stand_still", [_stop, _pause_clients])
def test_a_batch_under_way_at_a_server_that_stands_still_comes_too_late(
    own: RedisServer, stand_still: Callable[[RedisServer], Callable[[], object]]
) -> None:
    """The store waits for longer than its asker did, and is answered in the end."""
    store = store_on(own.url(), socket_timeout=30)
    store.apply([opened(), entered("0", "1")])
    go_on = stand_still(own)
    later = threading.Timer(1.0, go_on)
    later.start()
    (answer,) = store.apply([replace(entered("1", "5"), within_s=0.5)])
    later.join()
    assert isinstance(answer, TooLate)
    assert overview_of(store).outgoing.entered == 1
    store.close()


def test_a_request_is_taken_within_its_time_and_known_at_any(books: RedisStore) -> None:
    """Measured by the server's clock from the moment it was given to the store."""
    books.apply([opened()])
    timely, late = replace(entered("1", "5"), within_s=30.0), replace(entered("2", "5"), within_s=0.0)
    assert isinstance(books.apply([late])[0], TooLate)
    assert books.apply([timely]) == [Entered(timely.amount, replay=False)]
    assert books.apply([replace(timely, within_s=0.0)]) == [Entered(timely.amount, replay=True)]
    # one that is held up on our side of the socket, too
    run = books._servers.run

    def held_up(calls: Any) -> Any:
        time.sleep(0.3)
        return run(calls)

    books._servers.run = held_up  # type: ignore[method-assign]
    assert isinstance(books.apply([replace(late, within_s=0.2)])[0], TooLate)
    assert overview_of(books).outgoing.entered == 5


def test_a_server_clock_that_jumps_refuses_until_it_is_read_again(books: RedisStore) -> None:
    """Ahead, all requests seem late; the next check reads the clock, and takes them."""
    books.apply([opened()])
    (guard,) = books._servers._guards.values()
    guard.ahead_ms -= 3_600_000  # what it is after the server's clock went an hour ahead
    request = replace(entered("1", "5"), within_s=30.0)
    assert isinstance(books.apply([request])[0], TooLate)
    books._servers._check_at = 0.0
    assert books.apply([request]) == [Entered(request.amount, replay=False)]

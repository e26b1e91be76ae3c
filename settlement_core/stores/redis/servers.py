"""Redis itself: one server, a primary that sentinels name, or a Cluster; every call gets there or nobody is told.

Calls go in pipelines, in order. What cannot be had now raises `StoreUnavailable`, and the whole batch is applied
again, which is safe: every script recognises what it did before, and one that arrives late does nothing any more.

Scripts go to one server on a connection that is kept, of which only the arrival of answers is waited for; all else that
redis-py does (connect, check, follow a Cluster, speak TLS) is one wait as a whole.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import redis
from redis import exceptions as failures
from redis.cluster import RedisCluster

from settlement_core.abc import Arrival
from settlement_core.stores._steps import Steps
from settlement_core.stores.redis.exchange import Exchange
from settlement_core.stores.redis.scripts import Call, Reply, Script
from settlement_core.stores.redis.settings import Durability, check_server
from settlement_core.values.errors import LocalError, StoreBroken, StoreUnavailable

__all__ = ["ClusterServers", "Servers", "SingleServer"]

# answers that may be otherwise when asked again, without anybody changing the data
_PASSING = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "UNKILLABLE",
)
_WITHIN_SCRIPT = re.compile(r"Error running script .*?: -(.*)", re.DOTALL)
_PASSING_TYPES = (
    failures.ConnectionError,
    failures.TimeoutError,
    failures.ReadOnlyError,
    failures.OutOfMemoryError,
    failures.ClusterDownError,
    failures.TryAgainError,
    failures.AskError,
    failures.NoPermissionError,
    failures.NoScriptError,
    failures.RedisClusterException,
    OSError,
)

SENT_AT_ONCE = 32 * 1024
"""Bytes that a system takes from us without waiting, where all that was sent before has been answered."""


class Servers(ABC):
    """Where the calls of one store go. Used by one thread at a time, but for `pubsub`."""

    _one_slot = True
    """Whether calls for several partitions may be made in one transaction."""

    def __init__(self, name: str, durability: Durability) -> None:
        self.name = name
        self._durability = durability
        self._doubted = True
        self._checked = 0

    def run(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        """Make the calls, those of one partition in order; return their replies once what they wrote is durable.

        Raises `StoreUnavailable` if any cannot be had now, `StoreBroken` if one never can.
        """
        try:
            if self._doubted:
                yield self._renew
            replies = yield from self._run(calls)
            if self._checked != self._durability.connections:
                # redis-py has connected anew, who knows to what
                yield self._check_again
        except (failures.RedisError, failures.RedisClusterException, OSError) as problem:
            self._doubt()
            raise self._explain(problem) from problem
        except LocalError as problem:
            # found wanting while running: an operator may be at it just now
            raise StoreUnavailable(str(problem)) from problem
        except BaseException:
            # given up, or a fault of ours: answers still to come belong to nobody, least of all to the next calls
            self._doubt()
            raise
        return replies

    def _doubt(self) -> None:
        self._doubted = True
        self._drop_connections()

    def _renew(self) -> None:
        for client in self.primaries():
            self._durability.end_dropped(client)
        # whom we talk to may have changed
        self.check()

    def _check_again(self) -> None:
        known = self._durability.confirmation
        self.check()
        if known != self._durability.confirmation:
            raise failures.ConnectionError("its settings changed")

    def check(self) -> None:
        """Raise `LocalError` if a server is not set up to keep money."""
        self._doubted = True
        for _ in range(2):
            self._checked = self._durability.connections
            for client in self.primaries():
                check_server(client, self._durability, self.name)
            if self._checked == self._durability.connections:
                break
        self._doubted = False

    def open(self) -> None:
        """Check the servers for the first time; raises `LocalError` if they cannot be used as they are."""
        try:
            self.check()
        except (failures.RedisError, failures.RedisClusterException, OSError) as problem:
            raise LocalError(f"cannot use the store at {self.name}: {_said(problem)}") from problem

    @abstractmethod
    def primaries(self) -> Iterable[redis.Redis]:
        """Return a client of every primary."""

    def client_for(self, key: str) -> redis.Redis:  # noqa: ARG002 - one server has all keys
        """Return a client of the primary that has the key."""
        return next(iter(self.primaries()))

    @abstractmethod
    def pubsub(self) -> Any:
        """Return a new subscriber."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    @abstractmethod
    def _run(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        """Make the calls; raises what redis-py raises."""

    @abstractmethod
    def _drop_connections(self) -> None:
        """Forget connections on which answers may still be under way."""

    def _run_on(self, client: redis.Redis, calls: Sequence[Call], *, asking: bool = False) -> list[Reply]:
        """Make calls to one server, having it load scripts it does not know."""
        return self._load_unknown(client, calls, self._pipeline(client, calls, asking=asking), asking=asking)

    def _load_unknown(
        self, client: redis.Redis, calls: Sequence[Call], replies: list[Reply], *, asking: bool = False
    ) -> list[Reply]:
        """Return the replies, with those to scripts that the server did not know asked for again."""
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, failures.NoScriptError)]
        if unknown:
            for what in {calls[place].what for place in unknown}:
                assert isinstance(what, Script), "no other call is answered so"
                client.script_load(what.source)
            # what was read since then is read again, for it is to see what now comes before it
            later = [place for place in range(unknown[0], len(calls)) if place in unknown or not calls[place].writes]
            again = [calls[place] for place in later]
            for place, reply in zip(later, self._pipeline(client, again, asking=asking), strict=True):
                replies[place] = reply
        return replies

    def _pipeline(self, client: redis.Redis, calls: Sequence[Call], *, asking: bool) -> list[Reply]:
        exchange = Exchange(calls, self._durability, asking=asking, one_slot=self._one_slot)
        with client.pipeline(transaction=False) as pipeline:
            for command in exchange.commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return exchange.replies(answers, self.name)

    def _explain(self, problem: Exception) -> StoreUnavailable | StoreBroken:
        # version 6.2 puts what a script's command was answered behind a sentence of its own
        within = _WITHIN_SCRIPT.match(str(problem))
        said = within[1] if within else str(problem)
        if isinstance(problem, _PASSING_TYPES) or said.startswith(_PASSING):
            return StoreUnavailable(
                f"the store at {self.name} takes nothing now: {_said(problem)}; the same batch may safely be applied "
                "again"
            )
        return StoreBroken(f"the store at {self.name} is broken: {_said(problem)}")


class SingleServer(Servers):
    """One server, or the primary that sentinels name: `client` finds it anew for each new connection."""

    def __init__(self, client: redis.Redis, name: str, durability: Durability) -> None:
        super().__init__(name, durability)
        self._client = client
        # what TLS has decrypted already does not show on the socket
        self._tls = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
        self._kept: Any = None
        """The connection for scripts."""

    def primaries(self) -> Iterable[redis.Redis]:
        """Return the only client."""
        return [self._client]

    def pubsub(self) -> Any:
        """Return a new subscriber."""
        return self._client.pubsub()

    def close(self) -> None:
        """Close all connections."""
        self._drop_connections()
        self._client.close()

    def _run(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        if self._tls or not all(isinstance(call.what, Script) for call in calls):
            replies: list[Reply] = yield partial(self._run_on, self._client, calls)
        else:
            replies = yield from self._exchange(calls)
            if any(isinstance(reply, failures.NoScriptError) for reply in replies):
                replies = yield partial(self._load_unknown, self._client, calls, replies)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _exchange(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        """Do what a pipeline does, and wait for nothing but answers to arrive."""
        exchange = Exchange(calls, self._durability, asking=False, one_slot=self._one_slot)
        if self._kept is None or not _is_quiet(self._kept):
            self._drop_kept()
            self._kept = yield self._client.connection_pool.get_connection
        connection = self._kept
        packed = connection.pack_commands(exchange.commands)
        send = partial(connection.send_packed_command, packed)
        if sum(map(len, packed)) <= SENT_AT_ONCE:
            send()
        else:
            yield send
        answers: list[Any] = []
        arrival = Arrival(connection._sock.fileno(), connection.socket_timeout)  # noqa: SLF001 - it tells nobody
        while len(answers) < len(exchange.commands):
            if not (yield arrival):
                raise failures.TimeoutError(f"no answer within {connection.socket_timeout:g} s")
            _read_what_is_there(connection, answers, len(exchange.commands))
        return exchange.replies(answers, self.name)

    def _drop_connections(self) -> None:
        self._drop_kept()
        # but not the one a subscriber listens on, in another thread
        self._client.connection_pool.disconnect(inuse_connections=False)

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.disconnect()
            self._client.connection_pool.release(kept)


class ClusterServers(Servers):
    """A Cluster: each partition lives on one of its primaries, and may move."""

    _one_slot = False

    def __init__(self, connect: Callable[[], RedisCluster], name: str, durability: Durability) -> None:
        super().__init__(name, durability)
        self._connect = connect
        self._cluster: RedisCluster | None = None
        # another thread listens: it has connections of its own
        self._listening: RedisCluster | None = None

    @property
    def _nodes(self) -> RedisCluster:
        cluster = self._cluster
        if cluster is None:
            cluster = self._cluster = self._connect()
        return cluster

    def primaries(self) -> Iterable[redis.Redis]:
        """Return a client of every primary."""
        return [self._nodes.get_redis_connection(node) for node in self._nodes.get_primaries()]

    def client_for(self, key: str) -> redis.Redis:
        """Return a client of the primary that has the key."""
        nodes = self._nodes
        return nodes.get_redis_connection(nodes.get_node_from_key(key))

    def pubsub(self) -> Any:
        """Return a new subscriber; what one node publishes reaches the subscribers of all."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
        self._listening = self._connect()
        return self._listening.pubsub()

    def close(self) -> None:
        """Close all connections."""
        self._drop_connections()
        if self._listening is not None:
            self._listening.close()

    def _run(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        replies: list[Reply] = yield partial(self._run_everywhere, calls)
        return replies

    def _run_everywhere(self, calls: Sequence[Call]) -> list[Reply]:
        places: dict[str, list[int]] = {}
        for place, call in enumerate(calls):
            node = self._nodes.get_node_from_key(call.keys[0])
            places.setdefault(node.name, []).append(place)
        replies: list[Reply] = [None] * len(calls)
        for name, chosen in places.items():
            client = self._nodes.get_redis_connection(self._nodes.get_node(node_name=name))
            for place, reply in zip(chosen, self._run_on(client, [calls[p] for p in chosen]), strict=True):
                replies[place] = self._follow(calls[place], reply)
        return replies

    def _follow(self, call: Call, reply: Reply) -> Reply:
        """Return the reply, from where a partition moved to if it did."""
        if isinstance(reply, failures.AskError):
            # MovedError is one too, which is how redis-py has it
            moved = isinstance(reply, failures.MovedError)
            if moved:
                self._nodes.nodes_manager.initialize()
            node = self._nodes.get_node(host=reply.host, port=reply.port)
            if node is None:
                raise reply
            (reply,) = self._run_on(self._nodes.get_redis_connection(node), [call], asking=not moved)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _drop_connections(self) -> None:
        # after a failure the nodes are looked up anew
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


def _is_quiet(connection: Any) -> bool:
    """Tell whether a connection is still there, and nothing comes that nobody asked for."""
    try:
        return not connection.can_read(timeout=0)
    except (failures.RedisError, OSError):
        return False


def _read_what_is_there(connection: Any, answers: list[Any], wanted: int) -> None:
    """Append the answers that have arrived whole, errors among them."""
    with suppress(failures.TimeoutError):  # the rest has not
        while len(answers) < wanted:
            try:
                answers.append(connection.read_response(timeout=0, disconnect_on_error=False))
            except failures.ResponseError as error:
                answers.append(error)


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"

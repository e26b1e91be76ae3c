"""Redis itself: one server, a primary that sentinels name, or a Cluster; every call gets there or nobody is told.

Calls go in pipelines, in order. What cannot be had now raises `StoreUnavailable`, and the whole batch is applied
again, which is safe: every script recognises what it did before, and one that arrives late does nothing any more.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from redis import exceptions as failures
from redis.cluster import RedisCluster

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


class Servers(ABC):
    """Where the calls of one store go. Used by one thread at a time, but for `pubsub`."""

    _one_slot = True
    """Whether calls for several partitions may be made in one transaction."""

    def __init__(self, name: str, durability: Durability) -> None:
        self.name = name
        self._durability = durability
        self._doubted = True
        self._checked = 0

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Make the calls, those of one partition in order; return their replies once what they wrote is durable.

        Raises `StoreUnavailable` if any cannot be had now, `StoreBroken` if one never can.
        """
        try:
            if self._doubted:
                self._end_dropped()
                # whom we talk to may have changed
                self.check()
            replies = self._run(calls)
            self._check_new_connections()
        except (failures.RedisError, failures.RedisClusterException, OSError) as problem:
            self._doubted = True
            self._drop_connections()
            raise self._explain(problem) from problem
        except LocalError as problem:
            # found wanting while running: an operator may be at it just now
            raise StoreUnavailable(str(problem)) from problem
        return replies

    def _end_dropped(self) -> None:
        for client in self.primaries():
            self._durability.end_dropped(client)

    def _check_new_connections(self) -> None:
        """Check the servers, if redis-py has connected anew, who knows to what."""
        if self._checked != self._durability.connections:
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
    def _run(self, calls: Sequence[Call]) -> list[Reply]:
        """Make the calls; raises what redis-py raises."""

    @abstractmethod
    def _drop_connections(self) -> None:
        """Forget connections on which answers may still be under way."""

    def _run_on(self, client: redis.Redis, calls: Sequence[Call], *, asking: bool = False) -> list[Reply]:
        """Make calls to one server, having it load scripts it does not know."""
        replies = self._pipeline(client, calls, asking=asking)
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
        writing = any(call.writes for call in calls)
        confirmation = self._durability.confirmation if writing else None
        # a server reads a pipeline in parts, and writes to the disk after each: once will do (of other calls than
        # scripts redis-py takes apart the answer, and knows nothing of transactions begun like this)
        scripts = all(isinstance(call.what, Script) for call in calls)
        together = writing and scripts and len(calls) > 1 and self._one_slot
        with client.pipeline(transaction=False) as pipeline:
            if together:
                pipeline.execute_command("MULTI")
            for call in calls:
                if asking:
                    pipeline.execute_command("ASKING")
                if isinstance(call.what, Script):
                    pipeline.execute_command("EVALSHA", call.what.sha, len(call.keys), *call.keys, *call.arguments)
                else:
                    pipeline.execute_command(call.what, *call.keys, *call.arguments)
            if together:
                pipeline.execute_command("EXEC")
            if confirmation is not None:
                pipeline.execute_command(*confirmation)
            replies: list[Reply] = pipeline.execute(raise_on_error=False)
        if confirmation is not None:
            self._durability.require_confirmed(replies.pop(), self.name)
        if together:
            return _carried_out(replies)
        return replies[1::2] if asking else replies

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

    def primaries(self) -> Iterable[redis.Redis]:
        """Return the only client."""
        return [self._client]

    def pubsub(self) -> Any:
        """Return a new subscriber."""
        return self._client.pubsub()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _run(self, calls: Sequence[Call]) -> list[Reply]:
        replies = self._run_on(self._client, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _drop_connections(self) -> None:
        # but not the one a subscriber listens on, in another thread
        self._client.connection_pool.disconnect(inuse_connections=False)


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

    def _run(self, calls: Sequence[Call]) -> list[Reply]:
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


def _carried_out(replies: Sequence[Reply]) -> list[Reply]:
    """Return what the calls of a transaction were answered, given the replies to all of it."""
    *taken, carried_out = replies
    for reply in taken:
        if isinstance(reply, Exception):
            raise reply  # it was not even queued, and so nothing was carried out
    if isinstance(carried_out, Exception):
        raise carried_out
    answers: list[Reply] = carried_out
    return answers


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"

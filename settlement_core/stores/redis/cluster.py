"""A Cluster: each partition lives on one of several primaries, and every call follows it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import redis
from redis import exceptions as failures
from redis.cluster import RedisCluster

from settlement_core.stores._steps import Steps
from settlement_core.stores.redis.connections import Connections
from settlement_core.stores.redis.scripts import Call, Reply
from settlement_core.stores.redis.servers import Servers
from settlement_core.stores.redis.settings import Durability

__all__ = ["ClusterServers"]


class ClusterServers(Servers):
    """A Cluster: each partition lives on one of its primaries, and may move."""

    _one_slot = False

    def __init__(
        self, connect: Callable[[], RedisCluster], name: str, durability: Durability, connections: Connections
    ) -> None:
        super().__init__(name, durability, connections)
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

    def primaries(self) -> Mapping[str, redis.Redis]:
        """Return a client of every primary."""
        return {node.name: self._nodes.get_redis_connection(node) for node in self._nodes.get_primaries()}

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
            for place, reply in zip(chosen, self._run_on(name, client, [calls[p] for p in chosen]), strict=True):
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
            client = self._nodes.get_redis_connection(node)
            (reply,) = self._run_on(node.name, client, [call], asking=not moved)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _drop_connections(self) -> None:
        # after a failure the nodes are looked up anew
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

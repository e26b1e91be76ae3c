"""Servers that belong together: a primary with a replica that sentinels watch, and a cluster of primaries."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
from redis.crc import key_slot

from tests.redis.servers import HOST, RedisServer, wait_until

__all__ = ["Cluster", "Sentinels"]

_SERVICE = "settlement"
_SLOTS = 16384


class _Group:
    """Servers that start together and end together."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self._all = servers

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Kill all servers and give up their ports."""
        with ExitStack() as stack:
            for server in self._all:
                stack.callback(server.close)


def _launch(servers: list[RedisServer]) -> None:
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_ready()


def _ask(server: RedisServer, *command: str | int) -> Any:
    """Send one command on a connection of its own; return the answer as JSON-like values of text."""
    with server.client() as client:
        return _text(client.execute_command(*command))


def _text(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode()
        case list():
            return [_text(item) for item in value]
        case dict():
            return {_text(key): _text(item) for key, item in value.items()}
        case _:
            return value


class Sentinels(_Group):
    """A primary, a replica, and three sentinels, two of which can agree that the primary is down and promote the other.

    Replication is asynchronous, as it always is: what must survive a failover has to be waited for (`WAIT`), or
    demanded of the servers by their settings.

    Args:
        directory: Where all of them keep their files.
        settings: Settings of the two that hold data, as of `RedisServer`.
    """

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.servers = [RedisServer(directory / name, **settings) for name in ("first", "second")]
        first, second = self.servers
        with (second.directory / "redis.conf").open("a") as conf:
            conf.write(f"replicaof {HOST} {first.port}\n")
        watching = [
            f"monitor {_SERVICE} {HOST} {first.port} 2",
            f"down-after-milliseconds {_SERVICE} 1500",
            f"failover-timeout {_SERVICE} 2000",
        ]
        names = ("sentinel-1", "sentinel-2", "sentinel-3")
        self.sentinels = [RedisServer(directory / name, sentinel=watching) for name in names]
        super().__init__(self.servers + self.sentinels)

    @property
    def url(self) -> str:
        """The URL of database 0 of whichever server is the primary."""
        return f"redis+sentinel://{','.join(sentinel.address for sentinel in self.sentinels)}/{_SERVICE}/0"

    def primary(self) -> RedisServer:
        """Return the server that the sentinels call the primary, once they are of one mind."""
        wait_until(lambda: len(self._named()) == 1, "all sentinels name the same primary")
        (port,) = self._named()
        return next(server for server in self.servers if server.port == port)

    def replica(self) -> RedisServer:
        """Return the server that is not the primary, whether it follows it yet or not."""
        primary = self.primary()
        return next(server for server in self.servers if server is not primary)

    def kill_primary(self) -> RedisServer:
        """Kill the primary, and return it; `wait_for_new_primary` tells when the other has taken over."""
        primary = self.primary()
        primary.kill()
        return primary

    def failover(self) -> RedisServer:
        """Have the sentinels promote the replica though the primary is well; return the new primary."""
        self.wait_until_whole()
        old = self.primary()

        def accepted() -> bool:
            # Refused while an earlier failover is being finished.
            return bool(_ask(self.sentinels[0], "SENTINEL", "FAILOVER", _SERVICE))

        wait_until(accepted, "a sentinel accepts to fail over")
        return self.wait_for_new_primary(old)

    def wait_for_new_primary(self, old: RedisServer) -> RedisServer:
        """Wait until all sentinels name another primary than this one, and it says so itself; return it."""
        new = next(server for server in self.servers if server is not old)
        wait_until(
            lambda: self._named() == {new.port} and _ask(new, "ROLE")[0] == "master", f"{new.address} is the primary"
        )
        return new

    def restart(self, server: RedisServer) -> None:
        """Start a server again; return once the sentinels have given it its place, and it has caught up."""
        server.restart()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until the replica follows the primary and has caught up, and every sentinel is ready to promote it."""
        wait_until(self._is_whole, "the replica follows the primary, and all sentinels know")

    def _start(self) -> None:
        _launch(self.servers)
        _launch(self.sentinels)
        for sentinel in self.sentinels:
            self._hasten(sentinel)
        self.wait_until_whole()

    @staticmethod
    def _hasten(sentinel: RedisServer) -> None:
        """Have a sentinel look more often than production wants, and not pause for 30 s when this machine was busy."""
        # Older servers have fixed periods, and are only slower.
        with contextlib.suppress(redis.ResponseError):
            periods = ("info-period", 300, "publish-period", 200, "ask-period", 200, "tilt-period", 500)
            _ask(sentinel, "SENTINEL", "DEBUG", *periods)

    def _named(self) -> set[int]:
        """Return the ports of all primaries that any live sentinel names."""
        live = [sentinel for sentinel in self.sentinels if sentinel.running]
        return {int(_ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", _SERVICE)[1]) for sentinel in live}

    def _is_whole(self) -> bool:
        named = self._named()
        if len(named) != 1:
            return False
        primary, replica = sorted(self.servers, key=lambda server: server.port not in named)
        role, followers = _ask(primary, "ROLE")[::2]
        if role != "master" or [follower[1] for follower in followers] != [str(replica.port)]:
            return False
        if _ask(replica, "ROLE")[:4] != ["slave", HOST, primary.port, "connected"]:
            return False
        return all(self._is_ready(sentinel) for sentinel in self.sentinels if sentinel.running)

    @staticmethod
    def _is_ready(sentinel: RedisServer) -> bool:
        """Tell whether a sentinel sees the primary, a replica it could promote, and both other sentinels."""
        facts = _pairs(_ask(sentinel, "SENTINEL", "MASTER", _SERVICE))
        replicas = [_pairs(item) for item in _ask(sentinel, "SENTINEL", "REPLICAS", _SERVICE)]
        return (
            facts["flags"] == "master"
            and int(facts["num-other-sentinels"]) == 2
            and [(item["flags"], item["master-link-status"]) for item in replicas] == [("slave", "ok")]
        )


def _pairs(answer: Any) -> dict[str, Any]:
    """Return what version 3 of the protocol gives as a map, and version 2 as a list of names and values."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


class Cluster(_Group):
    """A cluster of primaries that share all slots evenly, without replicas.

    Args:
        directory: Where all of them keep their files.
        count: How many servers there are.
        settings: Settings of all of them, as of `RedisServer`.
    """

    def __init__(self, directory: Path, *, count: int = 3, **settings: Any) -> None:
        shared: dict[str, Any] = {"cluster-enabled": True, "cluster-node-timeout": 1000}
        self.servers = [RedisServer(directory / f"node-{i}", **(shared | settings)) for i in range(count)]
        super().__init__(self.servers)

    @property
    def url(self) -> str:
        """The URL of the cluster; there is nobody to wait for besides who is asked."""
        return f"redis+cluster://{','.join(server.address for server in self.servers)}?replicas=0"

    @staticmethod
    def slot_of(key: str | bytes) -> int:
        """Return the slot a key belongs to."""
        return int(key_slot(key.encode() if isinstance(key, str) else key))

    def node_of(self, slot: int) -> int:
        """Return the index of the server that holds a slot, as the first live server knows it."""
        for first, last, holder, *_ in _ask(self._live()[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(i for i, server in enumerate(self.servers) if server.port == holder[1])
        raise LookupError(f"nobody holds slot {slot}")

    def migrate_slot(
        self, slot: int, to_index: int, *, pause_s: float = 0.0, between: Callable[[], object] = lambda: None
    ) -> int:
        """Move a slot to another server while clients use it, key by key; return how many keys were moved.

        Until the last key has moved, its holder answers ASK for keys that are gone, and TRYAGAIN where some of a
        command's keys are.

        Args:
            slot: The slot.
            to_index: The server it goes to.
            pause_s: How long to wait before each key, and before the slot changes hands.
            between: What to do then.
        """
        source, target = self.servers[self.node_of(slot)], self.servers[to_index]
        if source is target:
            return 0
        source_id, target_id = _ask(source, "CLUSTER", "MYID"), _ask(target, "CLUSTER", "MYID")
        _ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        _ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        moved = 0
        with source.client() as client:
            while True:
                time.sleep(pause_s)
                between()
                keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1)
                if not keys:
                    break
                # NOKEY if it has been deleted since.
                moved += client.execute_command("MIGRATE", HOST, target.port, keys[0], 0, 10_000) in {b"OK", "OK"}
        # The target first: between the two a redirected client must find it willing.
        for server in (target, source, *(other for other in self._live() if other not in {source, target})):
            _ask(server, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        wait_until(self._agreed, "all servers know who holds what")
        return moved

    def kill(self, index: int) -> None:
        """Kill a server; the others soon refuse all commands, unless their settings say otherwise."""
        self.servers[index].kill()

    def restart(self, index: int) -> None:
        """Start a server again; return once the whole cluster serves."""
        self.servers[index].restart()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until every server says that all slots are served, and by whom they all agree."""
        wait_until(lambda: all(self._is_ok(server) for server in self.servers), "the cluster is whole")
        wait_until(self._agreed, "all servers know who holds what")

    def _start(self) -> None:
        _launch(self.servers)
        count = len(self.servers)
        for i, server in enumerate(self.servers):
            _ask(server, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            first, last = _SLOTS * i // count, _SLOTS * (i + 1) // count - 1
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
            _ask(server, "CLUSTER", "MEET", HOST, self.servers[0].port)
        self.wait_until_whole()

    def _live(self) -> list[RedisServer]:
        return [server for server in self.servers if server.running]

    @staticmethod
    def _is_ok(server: RedisServer) -> bool:
        answer = _ask(server, "CLUSTER", "INFO")
        facts = answer if isinstance(answer, dict) else dict(line.split(":") for line in answer.split())
        return str(facts["cluster_state"]) == "ok"

    def _agreed(self) -> bool:
        """Tell whether all live servers draw the same map, which covers every slot."""
        maps = [
            sorted((first, last, holder[1]) for first, last, holder, *_ in _ask(server, "CLUSTER", "SLOTS"))
            for server in self._live()
        ]
        covered = sum(last - first + 1 for first, last, _ in maps[0])
        return covered == _SLOTS and all(drawn == maps[0] for drawn in maps)

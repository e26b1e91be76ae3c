"""Redis itself: one server, or a primary that sentinels name; every call gets there or nobody is told.

Calls go in pipelines, in order. What cannot be had now raises `StoreUnavailable`, and the whole batch is applied
again, which is safe: every script recognises what it did before, and one that arrives late does nothing any more.

Calls go to one server on a connection that is kept, of which only the arrival of answers is waited for; all else that
redis-py does (connect, check, follow a Cluster, speak TLS) is one wait as a whole.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import redis
from redis import exceptions as failures

from settlement_core.abc import Arrival
from settlement_core.stores._steps import Steps
from settlement_core.stores.redis.connections import Connections
from settlement_core.stores.redis.exchange import FOREIGN, Exchange
from settlement_core.stores.redis.marks import Mark, explain_foreign
from settlement_core.stores.redis.scripts import Call, Reply
from settlement_core.stores.redis.settings import Durability, Guard
from settlement_core.values.errors import LocalError, StoreBroken, StoreUnavailable

__all__ = ["Servers", "SingleServer"]

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

CHECK_EVERY_S = 5.0
"""How long settings are believed that no batch confirms, and the difference between the clocks."""

ALONE = ""
"""The name of the only server."""


class Servers(ABC):
    """Where the calls of one store go. Used by one thread at a time, but for `pubsub`.

    Attributes:
        mark: of the store, which every script compares with what it finds; None until it is known.
    """

    _one_slot = True
    """Whether calls for several partitions may be made in one transaction."""

    def __init__(self, name: str, durability: Durability, connections: Connections) -> None:
        self.name = name
        self.mark: Mark | None = None
        self._durability = durability
        self._connections = connections
        self._guards: dict[str, Guard] = {}
        self._broken: StoreBroken | None = None
        self._doubted = True
        self._checked = 0
        self._check_at = 0.0

    def run(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        """Make the calls, those of one partition in order; return their replies once what they wrote is durable.

        Raises `StoreUnavailable` if any cannot be had now, `StoreBroken` if one never can.
        """
        if self._broken is not None:
            raise self._broken
        try:
            if self._doubted or monotonic() >= self._check_at:
                yield self._renew
            replies = yield from self._run(calls)
            if self._checked != self._connections.made:
                # redis-py has connected anew, who knows to what
                yield self._check_again
        except (failures.RedisError, failures.RedisClusterException, OSError) as problem:
            self._doubt()
            raise self._explain(problem) from problem
        except LocalError as problem:
            # found wanting while running: an operator may be at it just now, and it is looked at before the next batch
            self._doubted = True
            raise StoreUnavailable(str(problem)) from problem
        except BaseException:
            # given up, or a fault of ours: answers still to come belong to nobody, least of all to the next calls
            self._doubt()
            raise
        return replies

    def _doubt(self) -> None:
        self._doubted = True
        self._connections.drop()
        self._drop_connections()

    def _renew(self) -> None:
        for client in self.primaries().values():
            self._connections.end_dropped(client, forgiving=self._durability.unchecked)
        # whom we talk to may have changed
        self.check()

    def _check_again(self) -> None:
        known = {name: guard.confirmation for name, guard in self._guards.items()}
        self.check()
        if any(guard.confirmation != known.get(name, guard.confirmation) for name, guard in self._guards.items()):
            raise failures.ConnectionError("its settings changed")

    def check(self) -> None:
        """Raise `LocalError` if a server is not set up to keep money."""
        self._doubted = True
        for _ in range(2):
            self._checked = self._connections.made
            for name, client in self.primaries().items():
                self._guards.setdefault(name, Guard(self._durability, self.name)).check(client)
            if self._checked == self._connections.made:
                break
        self._doubted = False
        self._check_at = monotonic() + CHECK_EVERY_S

    def open(self) -> None:
        """Check the servers for the first time; raises `LocalError` if they cannot be used as they are."""
        try:
            self.check()
        except (failures.RedisError, failures.RedisClusterException, OSError) as problem:
            raise LocalError(f"cannot use the store at {self.name}: {_said(problem)}") from problem

    @abstractmethod
    def primaries(self) -> Mapping[str, redis.Redis]:
        """Return a client of every primary, by name."""

    def client_for(self, key: str) -> redis.Redis:  # noqa: ARG002 - one server has all keys
        """Return a client of the primary that has the key."""
        return self.primaries()[ALONE]

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

    def _run_on(self, name: str, client: redis.Redis, calls: Sequence[Call], *, asking: bool = False) -> list[Reply]:
        """Make calls to one server, having it load scripts it does not know."""
        replies = self._pipeline(name, client, calls, asking=asking)
        return self._load_unknown(name, client, calls, replies, asking=asking)

    def _load_unknown(
        self, name: str, client: redis.Redis, calls: Sequence[Call], replies: list[Reply], *, asking: bool = False
    ) -> list[Reply]:
        """Return the replies, with those to scripts that the server did not know asked for again."""
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, failures.NoScriptError)]
        if unknown:
            for script in {calls[place].what for place in unknown}:
                client.script_load(script.source)
            # what was read since then is read again, for it is to see what now comes before it
            later = [place for place in range(unknown[0], len(calls)) if place in unknown or not calls[place].writes]
            again = [calls[place] for place in later]
            for place, reply in zip(later, self._pipeline(name, client, again, asking=asking), strict=True):
                replies[place] = reply
        return replies

    def _pipeline(self, name: str, client: redis.Redis, calls: Sequence[Call], *, asking: bool) -> list[Reply]:
        exchange = self._exchange_with(name, calls, asking=asking)
        with client.pipeline(transaction=False) as pipeline:
            for command in exchange.commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return exchange.replies(answers)

    def _exchange_with(self, name: str, calls: Sequence[Call], *, asking: bool) -> Exchange:
        """Return what is sent to a server, which was checked before."""
        if name not in self._guards:
            raise failures.ConnectionError(f"{name} is new")  # and is checked before the next batch
        mark = "" if self.mark is None else str(self.mark)
        return Exchange(calls, self._guards[name], mark=mark, asking=asking, one_slot=self._one_slot)

    def _explain(self, problem: Exception) -> StoreUnavailable | StoreBroken:
        # version 6.2 puts what a script's command was answered behind a sentence of its own
        within = _WITHIN_SCRIPT.match(str(problem))
        said = within[1] if within else str(problem)
        if said.startswith(FOREIGN):
            found = said.removeprefix(FOREIGN).strip()
            self._broken = StoreBroken(explain_foreign(self.name, self.mark, found))
            return self._broken
        if isinstance(problem, _PASSING_TYPES) or said.startswith(_PASSING):
            return StoreUnavailable(
                f"the store at {self.name} takes nothing now: {_said(problem)}; the same batch may safely be applied "
                "again"
            )
        return StoreBroken(f"the store at {self.name} is broken: {_said(problem)}")


class SingleServer(Servers):
    """One server, or the primary that sentinels name: `client` finds it anew for each new connection."""

    def __init__(self, client: redis.Redis, name: str, durability: Durability, connections: Connections) -> None:
        super().__init__(name, durability, connections)
        self._client = client
        # what TLS has decrypted already does not show on the socket
        self._tls = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
        self._kept: Any = None
        """The connection for calls."""

    def primaries(self) -> Mapping[str, redis.Redis]:
        """Return the only client."""
        return {ALONE: self._client}

    def pubsub(self) -> Any:
        """Return a new subscriber."""
        return self._client.pubsub()

    def close(self) -> None:
        """Close all connections."""
        self._drop_connections()
        self._client.close()

    def _run(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        if self._tls:
            replies: list[Reply] = yield partial(self._run_on, ALONE, self._client, calls)
        else:
            replies = yield from self._exchange(calls)
            if any(isinstance(reply, failures.NoScriptError) for reply in replies):
                replies = yield partial(self._load_unknown, ALONE, self._client, calls, replies)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _exchange(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        """Do what a pipeline does, and wait for nothing but answers to arrive."""
        exchange = self._exchange_with(ALONE, calls, asking=False)
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
        return exchange.replies(answers)

    def _drop_connections(self) -> None:
        self._drop_kept()
        # but not the one a subscriber listens on, in another thread
        self._client.connection_pool.disconnect(inuse_connections=False)

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.disconnect()
            self._client.connection_pool.release(kept)


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

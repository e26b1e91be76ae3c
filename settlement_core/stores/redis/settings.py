"""Whether a Redis server is set up to keep money; a refusal says what to change there, and what overrides it here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import redis
from redis import exceptions as failures

from settlement_core.values.errors import LocalError, StoreUnavailable

__all__ = ["DURABILITIES", "Durability", "DurabilityName", "check_server"]

DurabilityName: TypeAlias = Literal["always", "everysec", "none"]

DURABILITIES: tuple[DurabilityName, ...] = get_args(DurabilityName)

_NEEDED = (6, 2)
"""The oldest version tried; 6.2 is the oldest that its makers still mended when this was written."""

_WAITAOF = (7, 2)

_CONFIRM_MS = 2000
"""How long a disk or a replica may take to confirm a batch, before it is applied again."""


@dataclass(slots=True)
class Durability:
    """What must be true of a batch before anybody is told that it holds.

    Attributes:
        wanted: "always": on the disk, by the server's `appendfsync always` or by asking it with WAITAOF; "everysec":
            on the disk a second later; "none": whenever the server likes.
        replicas: how many replicas must have it, too.
        allow_eviction: take a server that may drop keys when its memory is full.
        unchecked: take a server that does not let its settings be read.
        confirmation: the command that confirms a batch, found out by `check_server`; None if none is needed.
        connections: how many were made so far.
        client_ids: what servers, by address, call the connections made since they were last dropped.
    """

    wanted: DurabilityName = "always"
    replicas: int = 0
    allow_eviction: bool = False
    unchecked: bool = False
    confirmation: tuple[Any, ...] | None = None
    connections: int = 0
    client_ids: dict[str, set[int]] = field(default_factory=dict)

    def greet(self, connection: Any) -> None:
        """Count a new connection, after what redis-py says on it first: whom it leads to is to be checked."""
        connection.on_connect()
        self.connections += 1
        try:
            connection.send_command("CLIENT", "ID")
            where = {name: getattr(connection, name, None) for name in ("path", "host", "port")}
            self.client_ids.setdefault(_address(where), set()).add(connection.read_response())
        except failures.ResponseError:
            pass  # it is not allowed to know

    def end_dropped(self, client: redis.Redis) -> None:
        """Have the server end connections made before the failure, if it allows that; a subscriber's is made anew.

        What was sent on them and is not carried out yet never will be: a request that is refused when it is repeated
        cannot be accepted later after all.
        """
        dropped = self.client_ids.get(_address(client.connection_pool.connection_kwargs), set())
        for client_id in tuple(dropped):
            with suppress(failures.ResponseError):  # it ended by itself, or this is not allowed
                client.execute_command("CLIENT", "KILL", "ID", client_id)
            # not before: a server that cannot be reached now may come back with what was sent
            dropped.discard(client_id)

    def require_confirmed(self, reply: Any, name: str) -> None:
        """Raise `StoreUnavailable` unless the answer to `confirmation` says that the batch is safe."""
        if isinstance(reply, Exception):
            raise reply
        on_disk, replicas = reply if isinstance(reply, list) else (1, reply)
        if on_disk < 1 or replicas < self.replicas:
            raise StoreUnavailable(
                f"the store at {name} did not confirm a batch within {_CONFIRM_MS / 1000:g} s: it is on "
                f"{replicas} of {self.replicas} replicas asked for"
                f"{'' if on_disk else ' and not on its own disk'}; the same batch may safely be applied again"
            )


def _address(settings: Mapping[str, Any]) -> str:
    return str(settings.get("path") or f"{settings.get('host')}:{settings.get('port')}")


def check_server(client: redis.Redis, durability: Durability, name: str) -> None:
    """Find out how the server confirms a batch, or raise `LocalError` if it cannot keep money as it is set up."""
    info: dict[str, Any] = client.info()
    where = f"the Redis server of store {name}"
    found = str(info.get("redis_version", "0"))
    version = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if version < _NEEDED:
        raise LocalError(f"{where} has version {found}; {'.'.join(map(str, _NEEDED))} or newer is needed: upgrade it")
    if info.get("role") != "master":
        raise LocalError(
            f"{where} is a replica, which forgets what it is told: name its primary, or its sentinels with "
            "redis+sentinel://"
        )
    settings = _settings(client, durability, where)
    if settings is None:
        durability.confirmation = _wait(durability)
        return
    if settings["maxmemory-policy"] != "noeviction" and not durability.allow_eviction:
        raise LocalError(
            f"{where} may drop debts when its memory is full (maxmemory-policy is {settings['maxmemory-policy']}): "
            "CONFIG SET maxmemory-policy noeviction, or accept that with ?allow_eviction=yes"
        )
    durability.confirmation = _confirmation(settings, durability, version, where)


def _settings(client: redis.Redis, durability: Durability, where: str) -> dict[str, str] | None:
    """Return the settings that matter, None if they are not told and need not be."""
    try:
        found: dict[str, Any] = {
            key: client.config_get(key) for key in ("appendonly", "appendfsync", "maxmemory-policy")
        }
        return {key: answer[key] for key, answer in found.items()}
    except (failures.ResponseError, KeyError) as problem:
        if durability.unchecked:
            return None
        raise LocalError(
            f"{where} does not let its settings be read ({problem}): allow CONFIG GET, or, if it has appendonly yes, "
            "appendfsync always and maxmemory-policy noeviction, say so with ?unchecked=yes"
        ) from None


def _confirmation(
    settings: dict[str, str], durability: Durability, version: tuple[int, ...], where: str
) -> tuple[Any, ...] | None:
    if durability.wanted == "none":
        return _wait(durability)
    if settings["appendonly"] != "yes":
        raise LocalError(
            f"{where} forgets everything when it stops (appendonly is no): CONFIG SET appendonly yes, or accept that "
            "with ?durability=none"
        )
    if settings["appendfsync"] == "always" or (durability.wanted == "everysec" and settings["appendfsync"] != "no"):
        return _wait(durability)
    if settings["appendfsync"] == "no":
        # WAITAOF would wait for as long as the system likes
        raise LocalError(
            f"{where} leaves it to its system when money gets to the disk (appendfsync is no): CONFIG SET appendfsync "
            "always, or accept to forget everything with ?durability=none"
        )
    if version >= _WAITAOF:
        return ("WAITAOF", 1, durability.replicas, _CONFIRM_MS)
    raise LocalError(
        f"{where} tells us that money is recorded before it is on the disk (appendfsync is "
        f"{settings['appendfsync']}, and version {'.'.join(map(str, version))} has no WAITAOF): CONFIG SET appendfsync "
        "always, or accept to forget the last second with ?durability=everysec"
    )


def _wait(durability: Durability) -> tuple[Any, ...] | None:
    return ("WAIT", durability.replicas, _CONFIRM_MS) if durability.replicas else None

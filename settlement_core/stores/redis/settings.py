"""Whether a Redis server keeps money: checked when it is opened, confirmed for each batch, and checked again and again.

A refusal says what to change there, so that it survives the server's restart, and what overrides it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, TypeAlias, get_args

import redis
from redis import exceptions as failures

from settlement_core.values.errors import LocalError, StoreUnavailable

__all__ = ["DURABILITIES", "Durability", "DurabilityName", "Guard"]

DurabilityName: TypeAlias = Literal["always", "everysec", "none"]

DURABILITIES: tuple[DurabilityName, ...] = get_args(DurabilityName)

_NEEDED = (6, 2)
"""The oldest version tried; 6.2 is the oldest that its makers still mended when this was written."""

_SEVERAL = (7, 0)
"""From this version on CONFIG GET takes several names."""

_WAITAOF = (7, 2)

_CONFIRM_MS = 2000
"""How long a disk or a replica may take to confirm a batch, before it is applied again."""

_NOBODY = 2**62
"""The number of a connection that no server has made."""

_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """What must be true of a batch before anybody is told that it holds.

    Attributes:
        wanted: "always": on the disk, by the server's `appendfsync always` or by asking it with WAITAOF; "everysec":
            on the disk a second later; "none": whenever the server likes.
        replicas: how many replicas must have it, too.
        allow_eviction: take a server that may drop keys when its memory is full.
        unchecked: take a server that does not let its settings be read, or its connections be ended.
    """

    wanted: DurabilityName = "always"
    replicas: int = 0
    allow_eviction: bool = False
    unchecked: bool = False


class Guard:
    """Watches one server, or whichever is the primary.

    Attributes:
        confirmation: what is asked behind each batch that writes.
        counts_writes: whether that waits for what the connection wrote, so that a batch must write something.
        ahead_ms: how far the server's clock is ahead of `time.monotonic` here, at least, as of the latest check.
    """

    def __init__(self, durability: Durability, name: str) -> None:
        self.confirmation: Sequence[tuple[Any, ...]] = ()
        self.counts_writes = False
        self.ahead_ms = 0
        self._durability = durability
        self._name = name
        self._version: tuple[int, ...] = ()
        self._was_off = False

    @property
    def _asks_the_disk(self) -> bool:
        """Whether each batch is confirmed by WAITAOF, whatever the settings say."""
        return self._durability.wanted == "always" and self._version >= _WAITAOF

    @property
    def _where(self) -> str:
        return f"the Redis server of store {self._name}"

    # checking

    def check(self, client: redis.Redis) -> None:
        """Find out how the server confirms a batch, or raise `LocalError` if it cannot keep money as it is set up."""
        info: dict[str, Any] = client.info()
        found = str(info.get("redis_version", "0"))
        self._version = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
        if self._version < _NEEDED:
            needed = ".".join(map(str, _NEEDED))
            raise LocalError(f"{self._where} has version {found}; {needed} or newer is needed: upgrade it")
        if info.get("role") != "master":
            raise LocalError(
                f"{self._where} is a replica, which forgets what it is told: name its primary, or its sentinels with "
                "redis+sentinel://"
            )
        self._require_endable(client, told=bool(info.get("run_id")))
        settings = self._read_settings(client)
        if settings is not None:
            self._require_safe(settings, info)
        self.confirmation = tuple(self._confirm(told=settings is not None))
        self.counts_writes = any(command[0] in {"WAIT", "WAITAOF"} for command in self.confirmation)
        seconds, microseconds = client.time()
        # the answer was under way for a while, which makes it less
        self.ahead_ms = int(seconds) * 1000 + int(microseconds) // 1000 - int(monotonic() * 1000) - 1

    def _require_endable(self, client: redis.Redis, *, told: bool) -> None:
        """Raise `LocalError` if connections cannot be ended: what was sent on them might be carried out any time."""
        try:
            if not told:
                raise failures.ResponseError("INFO tells no run_id")
            client.execute_command("CLIENT", "ID")
            client.execute_command("CLIENT", "KILL", "ID", _NOBODY)
        except failures.ResponseError as problem:
            if not self._durability.unchecked:
                raise LocalError(
                    f"{self._where} does not let connections be ended ({problem}), so that what was given up could be "
                    "carried out later: allow CLIENT ID and CLIENT KILL, or accept that with ?unchecked=yes"
                ) from None

    def _read_settings(self, client: redis.Redis) -> dict[str, str] | None:
        """Return the settings that matter, None if they are not told and need not be."""
        try:
            found: dict[str, Any] = {key: client.config_get(key) for key in _SETTINGS}
            return {key: answer[key] for key, answer in found.items()}
        except (failures.ResponseError, KeyError) as problem:
            if self._durability.unchecked:
                return None
            raise LocalError(
                f"{self._where} does not let its settings be read ({problem}): allow CONFIG GET, or, if it has "
                "appendonly yes, appendfsync always, no-appendfsync-on-rewrite no and maxmemory-policy noeviction, say "
                "so with ?unchecked=yes"
            ) from None

    def _require_safe(self, settings: Mapping[str, str], persistence: Mapping[str, Any]) -> None:
        """Raise `LocalError` if money may be lost under these settings, as far as they are told."""
        policy = settings.get("maxmemory-policy", "noeviction")
        if policy != "noeviction" and not self._durability.allow_eviction:
            raise LocalError(
                f"{self._where} may drop debts when its memory is full (maxmemory-policy is {policy}): "
                f"{_advice('maxmemory-policy', 'noeviction')}, or accept that with ?allow_eviction=yes"
            )
        if self._durability.wanted == "none":
            return
        if settings["appendonly"] != "yes":
            self._was_off = True
            raise LocalError(
                f"{self._where} forgets everything when it stops (appendonly is no): {_advice('appendonly', 'yes')}, "
                "or accept that with ?durability=none"
            )
        self._require_synced(settings)
        self._require_rewritten(persistence)

    def _require_synced(self, settings: Mapping[str, str]) -> None:
        wanted, policy = self._durability.wanted, settings["appendfsync"]
        if policy == "no":
            # WAITAOF would wait for as long as the system likes
            raise LocalError(
                f"{self._where} leaves it to its system when money gets to the disk (appendfsync is no): "
                f"{_advice('appendfsync', 'always')}, or accept to forget everything with ?durability=none"
            )
        if self._asks_the_disk:
            return
        if wanted == "always" and policy != "always":
            version = ".".join(map(str, self._version))
            raise LocalError(
                f"{self._where} tells us that money is recorded before it is on the disk (appendfsync is {policy}, and "
                f"version {version} has no WAITAOF): {_advice('appendfsync', 'always')}, or accept to forget the last "
                "second with ?durability=everysec"
            )
        if settings["no-appendfsync-on-rewrite"] != "no":
            raise LocalError(
                f"{self._where} does not write to its disk while it saves or rewrites its files "
                f"(no-appendfsync-on-rewrite is yes): {_advice('no-appendfsync-on-rewrite', 'no')}, or accept to "
                "forget everything with ?durability=none"
            )

    def _require_rewritten(self, persistence: Mapping[str, Any]) -> None:
        """Raise `LocalError` while an append-only file that was switched on is not in force.

        Until its first rewrite has ended the server would start without it. A rewrite with nothing before it is the
        first one, of this file or, on servers that began with an empty one, of all.
        """
        if self._asks_the_disk:
            return
        pending = _is_set(persistence, "aof_rewrite_in_progress") or _is_set(persistence, "aof_rewrite_scheduled")
        if pending and (self._was_off or not _is_set(persistence, "aof_base_size")):
            raise LocalError(
                f"{self._where} has not finished the first rewrite of its append-only file, and would forget "
                "everything if it stopped now: wait until INFO persistence says aof_rewrite_in_progress:0"
            )
        self._was_off = False

    # confirming

    def _confirm(self, *, told: bool) -> list[tuple[Any, ...]]:
        """Return what is asked behind a batch that writes."""
        commands: list[tuple[Any, ...]] = []
        if self._durability.replicas:
            commands.append(("WAIT", self._durability.replicas, _CONFIRM_MS))
        if self._asks_the_disk:
            commands.append(("WAITAOF", 1, 0, _CONFIRM_MS))
        elif self._durability.wanted != "none" and told:
            # what was in force just after the batch
            names = _SETTINGS if self._version >= _SEVERAL else ("*append*",)
            commands += [("CONFIG", "GET", *names), ("INFO", "persistence")]
        return commands

    def require_confirmed(self, replies: Sequence[Any]) -> None:
        """Raise `StoreUnavailable` unless the answers to `confirmation` say that the batch is safe."""
        answers: dict[str, Any] = {}
        for command, reply in zip(self.confirmation, replies, strict=True):
            if isinstance(reply, Exception):
                raise StoreUnavailable(
                    f"the store at {self._name} did not confirm a batch ({command[0]}: {reply}); the same batch may "
                    "safely be applied again"
                )
            answers[command[0]] = reply
        replicas, (on_disk, _) = answers.get("WAIT", 0), answers.get("WAITAOF", (1, 0))
        if on_disk < 1 or replicas < self._durability.replicas:
            raise StoreUnavailable(
                f"the store at {self._name} did not confirm a batch within {_CONFIRM_MS / 1000:g} s: it is on "
                f"{replicas} of {self._durability.replicas} replicas asked for (?replicas=N; with 0 a failover may "
                f"forget it){'' if on_disk else ' and not on its own disk'}; the same batch may safely be applied again"
            )
        if "CONFIG" in answers:
            self._require_safe(_pairs(answers["CONFIG"]), _info(answers["INFO"]))


def _advice(name: str, value: str) -> str:
    return (
        f"CONFIG SET {name} {value} and then CONFIG REWRITE, without which its next restart forgets it (or write "
        f"'{name} {value}' to its configuration)"
    )


def _is_set(facts: Mapping[str, Any], name: str) -> bool:
    return int(facts.get(name, 0)) != 0


def _pairs(reply: Any) -> Mapping[str, str]:
    """Return the settings that were told, whether redis-py has read the answer or not."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _info(reply: Any) -> Mapping[str, Any]:
    return reply if isinstance(reply, dict) else dict(re.findall(r"(\w+):(\S*)", reply))

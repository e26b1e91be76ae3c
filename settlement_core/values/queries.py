"""What a store can be asked without changing it; `settlement_core.values.commands` has them too."""

from __future__ import annotations

from dataclasses import dataclass, field

from settlement_core.values.command import Command
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    EngineValue,
    Entry,
    SuspenseItem,
    WorkerOverview,
)

__all__ = ["Due", "Entries", "Get", "History", "KnowsSettlement", "Overview", "Suspense", "Values", "Workers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers(Command[list[WorkerOverview]]):
    """Who shares the store, in order of ids; nobody if it is for one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Get(Command[object]):
    """One JSON value of the engine, or None."""

    account_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Values(Command[list[EngineValue]]):
    """The engine's JSON values in order of account ids and keys, after the pair `after`; of any account ids."""

    after: tuple[str, str] | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview(Command[list[AccountOverview]]):
    """Accounts in order of their ids, those after `after`; with `account_id` only that one."""

    account_id: str | None = None
    after: str = ""
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Due(Command[list[str]]):
    """Ids, in order and after `after`, of accounts with a step, a queue, an open or a released attempt.

    With `partition` only those of that one, with `direction` only those with any of it there; steps are outgoing.
    """

    after: str = ""
    limit: int = 500
    partition: int | None = None
    direction: Direction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Command[list[Attempt]]):
    """Attempts, oldest first, after the attempt with id `after`; only those in `states`, if any are named.

    With `partition` only those of accounts of that one. With `newest` they come newest first, so that those after an
    attempt are older than it.

    Those of one account are in the exact order of their claims. Where no account is named, `after_account` says
    whose the attempt `after` is; without it, a store of many accounts may take long to find it.
    """

    account_id: str | None = None
    states: frozenset[AttemptState] = field(default_factory=frozenset)
    after: str | None = None
    limit: int = 100
    after_account: str | None = None
    newest: bool = False
    partition: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowsSettlement(Command[bool]):
    """Whether the account was ever credited under this settlement id, however long ago."""

    account_id: str
    settlement_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries(Command[list[Entry]]):
    """The entries of one direction of an account, oldest first, with a sequence number above `after`."""

    account_id: str
    direction: Direction
    after: int = 0
    limit: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspense(Command[list[SuspenseItem]]):
    """Unattributed money that waits, in order of settlement ids, after `after`; with `assigned` all there ever was."""

    after: str = ""
    limit: int = 100
    assigned: bool = False

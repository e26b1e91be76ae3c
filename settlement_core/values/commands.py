"""Everything a store can be asked, as frozen values.

Each command is atomic by itself, durable once `Store.apply` returns, and idempotent by its ids: a batch whose
answer was lost may simply be applied again. Times are wall-clock seconds since 1970, handed in by the core.
A store answers each command with its result, or with a `LocalError` value where it refuses.

Text for people (`reason`, `by`) may be any: a command holds it as every store can keep it (`whole_text`).

Several workers may share one store. A worker then holds leases on some of its partitions, and says in what it
records about an attempt under which lease it does so (`lease`, a token): a worker that has lost the lease meanwhile
is refused with `LeaseLost`. A store for one process knows one partition, and takes any lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from settlement_core.values.command import OWN_VALUES, Command, Result, make_whole
from settlement_core.values.queries import (
    Due,
    Entries,
    Get,
    History,
    KnowsSettlement,
    Overview,
    Suspense,
    Values,
    Workers,
)
from settlement_core.values.records import Direction, Payment, Step
from settlement_core.values.results import Applied, Claimed, Entered, NothingToClaim, Ring, Shares, StepDue, Ticked
from settlement_core.values.upkeep import Prune, Retire, Tick

__all__ = [
    "OWN_VALUES",
    "Applied",
    "Assign",
    "Claim",
    "Claimed",
    "Close",
    "CloseAccount",
    "Command",
    "Dismiss",
    "Due",
    "Enqueue",
    "Entered",
    "Entries",
    "Fence",
    "FinishStep",
    "Get",
    "History",
    "Hold",
    "KnowsSettlement",
    "Note",
    "NothingToClaim",
    "Nudge",
    "OpenAccount",
    "Overview",
    "Pause",
    "Prune",
    "Put",
    "Release",
    "Resolve",
    "Result",
    "Retire",
    "Ring",
    "Share",
    "Shares",
    "StepDue",
    "Suspend",
    "Suspense",
    "Tick",
    "Ticked",
    "Values",
    "Workers",
]

# accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount(Command[Applied]):
    """Create the account or revive its tombstone. An open account stays as it is.

    `set_up` asks that outgoing claims wait until `FinishStep` says the set-up is done.
    """

    account_id: str
    at: float
    set_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAccount(Command[Applied]):
    """Leave a tombstone that takes no new requests; its money keeps draining. Refused: `UnknownAccount`.

    `tear_down` asks for the account's last step once nothing outgoing can be claimed any more, and nothing is in
    doubt.
    """

    account_id: str
    at: float
    tear_down: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStep(Command[Applied]):
    """The account's pending step is done. Nothing happens if another step, or none, is pending.

    Refused: `LeaseLost`, `UnknownAccount`.
    """

    account_id: str
    step: Step
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Command[Applied]):
    """A person has nothing new begun in the account, or, with `paused` False, has it go on.

    A paused account takes requests and payments as ever, and what is open goes on to its end; nothing is claimed and no
    step is due. The same again changes nothing, not even the reason. Refused: `UnknownAccount`.
    """

    account_id: str
    paused: bool
    reason: str
    by: str
    at: float

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason", "by")


# entries and attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue(Command[Entered]):
    """Record an amount under the caller's id. The same id and amount again is a replay.

    Incoming money is also taken for a tombstone: it must not be lost. Outgoing requests are not.

    With `within_s` a new entry is recorded within so many seconds from now, measured by the store's own clock where it
    has one, or not at all: a request that was given up must not be recorded later. A replay is recognised at any time.

    Refused: `UnknownAccount`, `IdempotencyConflict`, `TooLate`; `SuspenseConflict` for incoming money whose settlement
    id is kept as unattributed, was dismissed, or was assigned to another account.
    """

    account_id: str
    direction: Direction
    entry_id: str
    amount: Decimal
    at: float
    within_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Command["Claimed | NothingToClaim | StepDue"]):
    """Move queued entries into one new attempt, unless one is open: then that is the answer.

    Nothing else is begun in a paused account. A released attempt is opened again before anything new. While an incoming
    attempt is held, nothing new is claimed of that account's incoming queue. What is finer than `scale` or above `cap`
    queues again in the same step, and so do the last digits of an amount that `Quantity` would write with an integer
    above `max_integer`, which is 9 or more. At most `max_entries` entries are taken, or some times as many if fewer do
    not reach one unit of `scale`. If even these do not, and the queue holds a unit, they become one entry, in a closed
    attempt of 0, and the answer is `NothingToClaim` with `summed_up`. Refused: `LeaseLost`, `UnknownAccount`.
    """

    account_id: str
    direction: Direction
    attempt_id: str
    at: float
    max_entries: int = 1000
    scale: int | None = None
    cap: Decimal | None = None
    max_integer: int | None = None
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Command[Applied]):
    """Keep what the engine prepared, before it is first submitted. Refused as `Close`."""

    account_id: str
    attempt_id: str
    payment: Payment
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Command[Applied]):
    """End an open attempt of which `settled` moved; the rest is queued again, and `reason` says why, if it is known.

    Refused: `LeaseLost`, `UnknownAccount`, `UnknownAttempt`, `AttemptConflict`.
    """

    account_id: str
    attempt_id: str
    settled: Decimal
    at: float
    reason: str = ""
    lease: str = ""

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Command[Applied]):
    """Park an open attempt: in doubt if outgoing, held if incoming. Refused as `Close`."""

    account_id: str
    attempt_id: str
    reason: str
    lease: str = ""

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Command[Applied]):
    """Offer a held credit to the connector again, under the same key. Refused as `Close`."""

    account_id: str
    attempt_id: str
    reason: str
    by: str

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason", "by")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve(Command[Applied]):
    """A person says how much of a parked attempt moved; the rest is queued again. Refused as `Close`."""

    account_id: str
    attempt_id: str
    settled: Decimal
    reason: str
    by: str
    at: float

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason", "by")


# money whose owner is unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend(Command[Applied]):
    """Keep money whose owner the engine cannot tell. Refused: `SuspenseConflict`, for another amount."""

    settlement_id: str
    amount: Decimal
    details: object
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign(Command[Entered]):
    """A person says whose the money is: it becomes an incoming entry of that account, even if it was dismissed.

    Refused: `UnknownSuspense`, `SuspenseConflict`, also if another account was credited under the same settlement id,
    and as `Enqueue`.
    """

    settlement_id: str
    account_id: str
    reason: str
    by: str
    at: float
    amount: Decimal | None = None
    """What it must be of, if that is known."""
    learned: bool = False
    """An engine says so, not an operator: refused for money that an operator dismissed."""

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason", "by")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismiss(Command[Applied]):
    """An operator says that the money is not ours: it waits no longer, and is credited to nobody.

    It stays on record, and an operator who finds out better can still assign it; an engine cannot. The same again
    changes nothing, not even the reason. Refused: `UnknownSuspense`; `SuspenseConflict` once it is assigned.
    """

    settlement_id: str
    reason: str
    by: str
    at: float

    def __post_init__(self) -> None:
        """Make its text whole."""
        make_whole(self, "reason", "by")


# the engine's own durable notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Put(Command[Applied]):
    """Set, or with None delete, one JSON value of the engine. `account_id` "" is the engine as a whole."""

    account_id: str
    key: str
    value: object
    lease: str = ""


# sharing a store


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Command[Shares]):
    """One round of a worker's part in sharing the accounts: keep its leases, take free ones up to its fair share.

    Attributes:
        worker: its id, used by this process in this run only.
        lease_s: how long without another round until others may take what it holds.
        heard: by partition, the number of the last ring acted upon.
        yielding: partitions to give up now; nothing may be under way there.
        leaving: give up everything, and take no further part.
        alone: share with nobody: whoever holds the partition of account "" takes all others, everybody else nothing.
    """

    worker: str
    lease_s: float
    heard: Mapping[int, int] = field(default_factory=dict)
    yielding: frozenset[int] = frozenset()
    leaving: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence(Command[Applied]):
    """Take the store away from every worker that has it open, but for the asker: each of their writes is refused.

    Nothing happens if the store is not shared.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge(Command[Applied]):
    """Ring the account's worker, whichever it is, to try again now. Nothing happens if the store is not shared."""

    account_id: str

"""What a store answers: the results of commands, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from settlement_core.values.records import Attempt, Step

__all__ = ["Applied", "Claimed", "Entered", "NothingToClaim", "Ring", "Shares", "StepDue", "Ticked"]


@dataclass(frozen=True, slots=True)
class Applied:
    """The command holds now; `changed` is False if it already did."""

    changed: bool


@dataclass(frozen=True, slots=True)
class Entered:
    """The entry is durable. `amount` is what was recorded first; `replay` says it was there before."""

    amount: Decimal
    replay: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """The account's open attempt; `fresh` unless it was claimed before.

    `more` tells whether anything is left to claim, or a step to take, once it has ended. `reopened` tells that an
    operator had released the attempt, and that this very claim opened it again.
    """

    attempt: Attempt
    fresh: bool
    more: bool
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class NothingToClaim:
    """Nothing can be claimed; `queued` is what is too little for now, or waits for an operator.

    `summed_up` says that the queue holds more dust than one claim reads, and fewer entries of it now: claim again.
    """

    queued: Decimal
    summed_up: bool = False


@dataclass(frozen=True, slots=True)
class StepDue:
    """The account itself must be set up, or torn down, first."""

    step: Step


@dataclass(frozen=True, slots=True)
class Ring:
    """Another worker's command left an account with something to do; `nudge` if a person asked to try now.

    `number` grows within a partition.
    """

    partition: int
    number: int
    account_id: str
    nudge: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What a worker holds after a round of sharing.

    Attributes:
        shared: False if the store is for one process: it holds everything, for ever.
        partitions: how many there are; `partition_of` tells an account's.
        leases: the tokens of the leases held, by partition.
        excess: how many partitions it should give up, so that each worker has its fair share.
        rings: what to look at in partitions held, until the next round says it was heard.
    """

    shared: bool
    partitions: int
    leases: Mapping[int, str]
    excess: int = 0
    rings: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """How long the store has been in use, and what follows for its idempotency keys.

    Attributes:
        lived_s: seconds for which workers have used it, by their loops' clocks; never less than before.
        unused_before: whatever was last used before this wall-clock time has not been used for as long as readings are
            kept; None while the store has not been in use for that long.
        ended_before: whatever ended before this wall-clock time has been over for as long as history is kept; None
            while the store has not been in use for that long, or if history is kept for ever.
    """

    lived_s: float
    unused_before: float | None
    ended_before: float | None = None

"""What a store knows, as values: entries become attempts, attempts end.

Per account and direction, at every instant and exactly:

    entered = queued + open + settled + parked

`parked` is money out of the way until a person decides: *in doubt* when outgoing, *held* when incoming.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

__all__ = [
    "AccountOverview",
    "AccountState",
    "Attempt",
    "AttemptState",
    "Direction",
    "EngineValue",
    "Entry",
    "EntryKind",
    "Payment",
    "Step",
    "SuspenseItem",
    "Totals",
    "WorkerOverview",
]


class Direction(StrEnum):
    """Which way money goes."""

    OUTGOING = "outgoing"
    """We owe the peer: the connector asked us to settle over the ledger."""

    INCOMING = "incoming"
    """The peer paid us: the connector is to be told."""


class AttemptState(StrEnum):
    """Where an attempt is. An attempt's id and amount never change; its state ends in `CLOSED`."""

    OPEN = "open"
    """Claimed; its effect may be going on. At most one per account and direction."""

    IN_DOUBT = "in_doubt"
    """Outgoing, and nobody here can know whether it was paid: a person resolves it."""

    HELD = "held"
    """Incoming, and refused by the connector, or no longer safe to repeat: a person releases or resolves it."""

    RELEASED = "released"
    """Held before; to be offered to the connector again under the same key."""

    CLOSED = "closed"
    """Done: `settled` says how much of it moved, the rest was queued again."""


class AccountState(StrEnum):
    """Whether the connector may use the account."""

    OPEN = "open"
    DELETED = "deleted"
    """A tombstone: takes no new requests, but the money it still holds keeps draining."""


class Step(StrEnum):
    """Work on the account itself that its task still has to do."""

    SET_UP = "set_up"
    TEAR_DOWN = "tear_down"


class EntryKind(StrEnum):
    """Where queued money came from."""

    REQUEST = "request"
    """Entered from outside: a settlement request, or a payment seen on the ledger."""

    DUST = "dust"
    """Left over when an attempt was claimed: finer than the scale, or above the cap."""

    LEFTOVER = "leftover"
    """Left over when an attempt was closed with less than its amount."""


@dataclass(frozen=True, slots=True)
class Payment:
    """What a verifiable engine prepared: enough to submit, repeat and verify it after any crash.

    Attributes:
        amount: standard units, above zero and at most what was asked.
        reference: JSON-serialisable facts the engine needs (signed bytes, hash, nonce, …).
    """

    amount: Decimal
    reference: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One immutable amount on its way, durable before any effect.

    Attributes:
        attempt_id: ours; the idempotency key of everything done for it, for ever.
        amount: standard units; the sum of the entries claimed for it, less the dust.
        payment: what the engine noted before it first submitted, if it is verifiable.
        settled: once closed, how much of the amount moved.
        reason: why it is in doubt, held or was resolved, or why not all of it moved; empty otherwise.
        resolved_by: who resolved or released it; empty if nobody had to.
        claimed_at, closed_at: wall-clock seconds since 1970.
    """

    account_id: str
    direction: Direction
    attempt_id: str
    amount: Decimal
    state: AttemptState = AttemptState.OPEN
    dust: Decimal = Decimal(0)
    payment: Payment | None = None
    settled: Decimal | None = None
    reason: str = ""
    resolved_by: str = ""
    claimed_at: float
    closed_at: float | None = None
    pruned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One immutable amount in the queue, or already part of an attempt."""

    seq: int
    account_id: str
    direction: Direction
    kind: EntryKind
    entry_id: str
    amount: Decimal
    attempt_id: str | None
    entered_at: float
    used_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The sums of one direction of one account, in standard units.

    `pruned` is the part of `entered` whose entries have been forgotten (idempotency keys are kept at least 24 h
    since their most recent use), `retired` the part of `settled` whose attempts have left the history.
    """

    entered: Decimal = Decimal(0)
    queued: Decimal = Decimal(0)
    open: Decimal = Decimal(0)
    settled: Decimal = Decimal(0)
    parked: Decimal = Decimal(0)
    pruned: Decimal = Decimal(0)
    retired: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausing:
    """A person's latest word on whether an account is paused, `at` wall-clock seconds since 1970."""

    paused: bool
    reason: str
    by: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOverview:
    """One account as the store knows it.

    Attributes:
        steps: pending work on the account itself, in the order in which it is to be done.
        released: attempts to be offered to the connector again, in the order in which they will be.
        pausing: the latest word on whether it is paused; None if nobody ever said anything.
    """

    account_id: str
    state: AccountState
    steps: tuple[Step, ...] = ()
    outgoing: Totals
    incoming: Totals
    released: tuple[str, ...] = ()
    pausing: Pausing | None = None

    @property
    def paused(self) -> bool:
        """Tell whether nothing new is begun in the account."""
        return self.pausing is not None and self.pausing.paused

    @property
    def step(self) -> Step | None:
        """The step to be done next."""
        return self.steps[0] if self.steps else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspenseItem:
    """Money whose owner the engine cannot tell.

    Attributes:
        account_id: whose it is, once an operator has assigned it.
        reason, assigned_by, assigned_at: why, by whom and when it was assigned, or dismissed as not ours.
    """

    settlement_id: str
    amount: Decimal
    details: object
    reported_at: float
    account_id: str | None = None
    reason: str = ""
    assigned_by: str = ""
    assigned_at: float | None = None

    @property
    def dismissed(self) -> bool:
        """Tell whether an operator has said that it is not ours, and nobody has assigned it since."""
        return self.account_id is None and self.assigned_at is not None

    @property
    def waiting(self) -> bool:
        """Tell whether it waits for an operator."""
        return self.assigned_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineValue:
    """One JSON value that the engine saved: for an account, or, with `account_id` "", for itself."""

    account_id: str
    key: str
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOverview:
    """One of the workers that share a store.

    Attributes:
        worker_id: of one run of one process.
        partitions: those it holds a lease on.
        expires_in_s: when others may take them, unless it is heard of before; negative if it is overdue.
    """

    worker_id: str
    partitions: tuple[int, ...]
    expires_in_s: float

"""What happens in one life, as values: what is owed, what goes wrong, and how it ends. Their reprs are Python."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from enum import StrEnum

__all__ = [
    "ACCOUNTS",
    "SIDES",
    "Amnesia",
    "ClockJump",
    "Cut",
    "Deposit",
    "Ending",
    "Fault",
    "Life",
    "Mishap",
    "Outage",
    "Owe",
    "Pausing",
    "Person",
    "Place",
    "Reorganisation",
    "Setting",
]

SIDES = ("A", "B")
"""The two peers. Each has an engine, a connector and a store."""

ACCOUNTS = ("silk", "wool")
"""What both call the two accounts they have with each other; they lie in different partitions of a shared store."""


class Brief:
    """A value whose repr leaves out what is as usual, and names nothing that its place tells."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = []
        for number, fact in enumerate(fields(self)):  # type: ignore[arg-type]
            value = getattr(self, fact.name)
            usual = fact.default
            if usual is MISSING:
                told.append(_written(value) if number < 3 else f"{fact.name}={_written(value)}")
            elif value != usual:
                told.append(f"{fact.name}={_written(value)}")
        return f"{type(self).__name__}({', '.join(told)})"


def _written(value: object) -> str:
    if isinstance(value, StrEnum):
        return f"{type(value).__name__}.{value.name}"
    return f"Decimal('{value}')" if isinstance(value, Decimal) else repr(value)


class Place(StrEnum):
    """A boundary at which something may go wrong."""

    REQUEST = "request to settle"
    CREDIT = "credit"
    MESSAGE = "message"
    SUBMIT = "submit"
    LOOK_UP = "look-up"
    SCAN = "scan"
    STORE = "batch"


class Mishap(StrEnum):
    """What goes wrong. The first six happen on the way to another party, the others in it."""

    LOST_REQUEST = "never arrives"
    LOST_REPLY = "arrives, the reply does not"
    LATE = "arrives late"
    TWICE = "arrives twice"
    ERROR = "is answered with an error"
    ERROR_AFTER = "is done, and answered with an error"
    FAILS = "fails on the ledger"
    BEFORE = "fails before it is applied"
    AFTER = "is applied, the store fails to say so"
    PART = "is applied in part"
    POWER_LOSS = "is applied in part when the power fails"


class Ending(StrEnum):
    """How a worker ends before its time."""

    CRASH = "crash"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, repr=False)
class Owe(Brief):
    """A connector asks its engine to settle; for an engine that is there, the same request until it is answered."""

    side: str
    account: str
    amount: Decimal
    at_s: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Deposit(Brief):
    """A payment that no engine made arrives on the ledger; with another memo than an account's it is nobody's yet."""

    side: str
    memo: str
    amount: Decimal
    at_s: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Fault(Brief):
    """The `nth` thing at a place of one side goes wrong, and those after it until there were `times`.

    `extra` is how many seconds it is late, which status it is answered with, or how many commands of a batch are
    applied, less if it has fewer.
    """

    side: str
    place: Place
    mishap: Mishap
    nth: int = 1
    extra: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Outage(Brief):
    """A side's store cannot be reached, by one worker or, without one, by any."""

    side: str
    at_s: float
    for_s: float
    worker: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ClockJump(Brief):
    """A side's wall clock is set."""

    side: str
    at_s: float
    by_s: float


@dataclass(frozen=True, slots=True, repr=False)
class Reorganisation(Brief):
    """The ledger drops its latest blocks; their transactions are forgotten, or wait to be included again."""

    at_s: float
    forget: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Amnesia(Brief):
    """A side's connector forgets every idempotency key it has seen."""

    side: str
    at_s: float


@dataclass(frozen=True, slots=True, repr=False)
class Person(Brief):
    """Somebody compares a side's books with the ledger and decides what waits for a decision."""

    side: str
    at_s: float


@dataclass(frozen=True, slots=True, repr=False)
class Pausing(Brief):
    """Somebody pauses an account, and has it go on later, in a later life if this one ends before."""

    side: str
    account: str
    at_s: float
    for_s: float


Happening = Outage | ClockJump | Reorganisation | Amnesia | Person | Pausing


@dataclass(frozen=True, slots=True, repr=False)
class Cut(Brief):
    """One worker of a side, or with None all of both sides, ends at this step of the life."""

    ending: Ending
    step: int
    side: str | None = None
    worker: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Life(Brief):
    """From one start of the whole system to the next.

    Attributes:
        owes, deposits: what is asked for, and paid from outside.
        faults, happenings, cuts: what goes wrong.
        workers: of each side, if its store is shared.
        lasts_s: until everybody is asked to stop.
        gap_s: until the next life begins.
        seed: of the order in which ready tasks go first, and of jitter.
    """

    owes: tuple[Owe, ...] = ()
    deposits: tuple[Deposit, ...] = ()
    faults: tuple[Fault, ...] = ()
    happenings: tuple[Happening, ...] = ()
    cuts: tuple[Cut, ...] = ()
    workers: int = 1
    lasts_s: float = 60.0
    gap_s: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Setting(Brief):
    """What stays the same in all lives of a system.

    Attributes:
        verifiable: the contract that each side's engine fulfils.
        shared: stores may be shared by workers.
        leading: each side's engine runs in one worker at a time.
        ledger_scale: the finest the ledger pays.
        connector_scale: the finest that connectors are told; None is any.
        piecemeal: a payment of more than 2 leaves 1 to be paid by the next.
        max_entries: how many entries one attempt gathers.
        credit_cap: the largest credit a connector is told; what is above goes with the next.
        forgetful_after_s: how long connectors keep an idempotency key since its last use. RFC 38 asks for a day.
    """

    verifiable: tuple[bool, bool] = (True, True)
    shared: bool = False
    leading: bool = False
    ledger_scale: int | None = None
    connector_scale: int | None = None
    piecemeal: bool = False
    max_entries: int = 1000
    credit_cap: Decimal | None = None
    forgetful_after_s: float = 86_400.0

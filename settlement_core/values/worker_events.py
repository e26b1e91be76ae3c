"""Events of a whole worker: its start and end, its store, its clock; `settlement_core.values.events` has them, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settlement_core.values.event import Event
from settlement_core.values.texts import visible_text

__all__ = [
    "ArchiveFailed",
    "ClockJumped",
    "CoreStarted",
    "CoreStopped",
    "EngineAlarmed",
    "EngineCalm",
    "HistoryRetired",
    "PartitionsChanged",
    "PaymentsResumed",
    "PaymentsStopped",
    "RecoveryFinished",
    "StandingBy",
    "StoreFailed",
    "StoreRecovered",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreStarted(Event):
    """The core takes work."""

    text: ClassVar[str] = "settling with {engine}, verifiable: {verifiable}"
    engine: str
    verifiable: bool
    asset: str = ""

    def __str__(self) -> str:
        """Return the line for a log, with the unit of all amounts that follow."""
        return Event.__str__(self) + (f", amounts in {visible_text(self.asset)}" if self.asset else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryFinished(Event):
    """Every account that had unfinished work at the start has a task."""

    text: ClassVar[str] = "resumed {accounts} accounts with unfinished work"
    accounts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreStopped(Event):
    """The core has ended; `unfinished` effects were cut and will be looked at, at the next start."""

    text: ClassVar[str] = "stopped, {unfinished} effects cut short"
    unfinished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionsChanged(Event):
    """Workers share the store, and this one looks after other accounts than before."""

    text: ClassVar[str] = "looking after {held} of {partitions} partitions: {gained} gained, {lost} lost"
    held: int
    partitions: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingBy(Event):
    """The engine may run in one worker at a time, and another one runs it; this one waits to take its place."""

    text: ClassVar[str] = "standing by as worker {worker}: another one runs the engine"
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(Event):
    """The wall clock was set; no idempotency key is forgotten for that."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = (
        "the wall clock jumped by {jumped_s:+.0f} s since {since}; idempotency keys are kept by the time in use, but "
        "times that are shown may be wrong: set the clock right, and keep it by NTP"
    )
    jumped_s: float
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRetired(Event):
    """Attempts that were over for long have left the history: their sums and settlement ids stay."""

    text: ClassVar[str] = "the history ends: {attempts} attempts that were over for long have left it; their sums stay"
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFailed(Event):
    """Attempts could not be archived, and stay in the store; tried again within hours."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = (
        "the archive could not be written: {problem}; old attempts stay in the store, and are tried again in an hour: "
        "see that its folder exists, can be written to and has room"
    )
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAlarmed(Event):
    """The engine has an alarm: it pays nothing new until an operator has looked."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "the engine has an alarm: {alarm}"
    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCalm(Event):
    """The engine's alarm has ended."""

    text: ClassVar[str] = "the engine's alarm has ended: {alarm}"
    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsStopped(Event):
    """So many payments in a row are in doubt that nothing new is paid in any account until an operator resumes it."""

    level: ClassVar[str] = "critical"
    text: ClassVar[str] = (
        "payments are stopped, as {in_a_row} in a row are in doubt: nothing new is paid until settlement-core resume "
        "--payments"
    )
    in_a_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsResumed(Event):
    """An operator had payments go on after too many in a row were in doubt."""

    text: ClassVar[str] = "payments go on: {by} decided to resume them: {reason}"
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFailed(Event):
    """The store did not answer; the same commands are applied again."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "store failed {failures} times: {reason}; again in {delay_s:.2f} s"
    failures: int
    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecovered(Event):
    """The store answers again."""

    text: ClassVar[str] = "store answers again after {failures} failures"
    failures: int

"""Events of a whole worker: its start and end, its store, its clock; `settlement_core.values.events` has them, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settlement_core.values.event import Event

__all__ = [
    "ClockJumped",
    "CoreStarted",
    "CoreStopped",
    "EngineAlarmed",
    "EngineCalm",
    "PartitionsChanged",
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

"""What a check promises, and what was found of it: values only.

A deviation from a MUST, or from the API as RFC 38 defines it, is a broken promise. A deviation from what is only
recommended, or only expected by connectors, is told as advice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from settlement_core.values.amounts import plain

if TYPE_CHECKING:
    from settlement_core.conformance.world import World

__all__ = [
    "Advice",
    "Check",
    "Deviation",
    "Examine",
    "Finding",
    "Level",
    "NotObserved",
    "Outcome",
    "Report",
    "Verdict",
    "check",
    "demand",
    "judge",
]


class Level(StrEnum):
    """How strongly something is asked of an engine."""

    MUST = "MUST"
    """RFC 38 says MUST."""

    DEFINED = "defined"
    """RFC 38 defines its API so, without a key word; a client cannot work with anything else."""

    SHOULD = "SHOULD"
    """RFC 38 says SHOULD or RECOMMENDED."""

    EXPECTED = "expected"
    """RFC 38 is silent; connectors that exist rely on it."""

    @property
    def binds(self) -> bool:
        """Tell whether a deviation breaks RFC 38."""
        return self in {Level.MUST, Level.DEFINED}


class Verdict(StrEnum):
    """What became of a check."""

    HELD = "held"
    BROKEN = "broken"
    ADVICE = "advice"
    NOT_OBSERVED = "not observed"


class Outcome(Exception):
    """Ends a check that did not simply hold; `seen` says in one line what was seen."""

    def __init__(self, seen: str) -> None:
        super().__init__(seen)
        self.seen = seen


class Deviation(Outcome):
    """The engine does otherwise."""


class Advice(Outcome):
    """The engine may do so, but somebody will be surprised."""


class NotObserved(Outcome):
    """It cannot be told, and why."""


def demand(holds: object, seen: str) -> None:
    """Raise a `Deviation` unless `holds`."""
    if not holds:
        raise Deviation(seen)


Examine: TypeAlias = "Callable[[World], Awaitable[str]]"
"""Looks at the engine; returns in one line what was seen, or raises an `Outcome`."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of an engine: `group.name`, how strongly it is asked, where, and how to see whether it is kept."""

    name: str
    level: Level
    section: str
    promise: str
    examine: Examine = field(repr=False)

    @property
    def group(self) -> str:
        """Return what comes before the dot."""
        return self.name.partition(".")[0]


def check(name: str, level: Level, section: str, promise: str) -> Callable[[Examine], Check]:
    """Return a decorator that makes a check of a function."""
    return lambda examine: Check(name, level, section, promise, examine)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, what became of it, and what was seen."""

    check: Check
    verdict: Verdict
    seen: str

    @property
    def is_breach(self) -> bool:
        """Tell whether RFC 38 is broken."""
        return self.verdict is Verdict.BROKEN

    def to_json(self) -> dict[str, str]:
        """Return the finding as JSON values."""
        return {
            "check": self.check.name,
            "level": self.check.level,
            "section": self.check.section,
            "promise": self.check.promise,
            "verdict": self.verdict,
            "seen": self.seen,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All findings; `settled` is what the engine was asked to settle and accepted, in standard units."""

    url: str
    settled: Decimal
    findings: Sequence[Finding]

    @property
    def ok(self) -> bool:
        """Tell whether nothing is broken."""
        return not any(finding.is_breach for finding in self.findings)

    def count(self, verdict: Verdict) -> int:
        """Return how many checks ended so."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "ok": self.ok,
            "url": self.url,
            "settled": f"{plain(self.settled):f}",
            "counts": {verdict.value: self.count(verdict) for verdict in Verdict},
            "findings": [finding.to_json() for finding in self.findings],
        }


def judge(check: Check, outcome: Outcome | str) -> Finding:
    """Return what an examination's end means at the check's level."""
    match outcome:
        case str():
            return Finding(check, Verdict.HELD, outcome)
        case NotObserved():
            return Finding(check, Verdict.NOT_OBSERVED, outcome.seen)
        case Deviation() if check.level.binds:
            return Finding(check, Verdict.BROKEN, outcome.seen)
        case _:
            return Finding(check, Verdict.ADVICE, outcome.seen)

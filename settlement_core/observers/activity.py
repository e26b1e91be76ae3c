"""What was settled and credited over time, and how long it took, of this run: for curves, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from settlement_core.observers._requests import RequestTimes
from settlement_core.values.amounts import ZERO, add
from settlement_core.values.events import (
    AttemptWaiting,
    CreditAcknowledged,
    CreditHeld,
    Event,
    SettlementInDoubt,
    SettlementRecorded,
)

__all__ = ["SPANS", "Activity"]

SPANS: Final = {"hour": (10, 360), "day": (300, 288)}
"""For each span, the seconds that one point stands for, and how many points there are at most."""

_CLASSES_PER_DOUBLING: Final = 4
"""Of latencies, which are counted in classes: what is said of them is at most a fifth too much."""


class Activity:
    """An `Observer` that sums up what moved, by when that was.

    Args:
        now: the wall clock, seconds since 1970.
        clock: seconds that only ever grow, for latencies.
    """

    def __init__(self, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._requests = RequestTimes(clock)
        self._since = now()
        self._points: dict[str, deque[_Point]] = {span: deque(maxlen=count) for span, (_, count) in SPANS.items()}

    def observe(self, event: Event) -> None:
        """Count the event."""
        took = self._requests.observe(event)
        match event:
            case SettlementRecorded() | CreditAcknowledged():
                if not event.amount:
                    return
            case SettlementInDoubt() | CreditHeld() | AttemptWaiting():
                pass
            case _:
                return
        for span in SPANS:
            self._point(span).count(event)
            self._point(span).latencies.update(map(_class_of, took))

    def to_json(self, span: str) -> dict[str, Any]:
        """Return the points of a span in which something happened, oldest first; amounts in standard units."""
        width_s, count = SPANS[span]
        now = self._now()
        oldest = now - width_s * count
        points = [point.to_json() for point in self._points[span] if point.at > oldest]
        return {"at": now, "since": self._since, "span_s": width_s * count, "point_s": width_s, "points": points}

    def _point(self, span: str) -> _Point:
        width_s, points = SPANS[span][0], self._points[span]
        at = self._now() // width_s * width_s
        # a clock that was put back must not begin a point that was there before
        if not points or points[-1].at < at:
            points.append(_Point(at))
        return points[-1]


@dataclass(slots=True)
class _Point:
    at: float
    settled: Decimal = ZERO
    settlements: int = 0
    credited: Decimal = ZERO
    credits: int = 0
    set_aside: int = 0
    retries: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def count(self, event: Event) -> None:
        match event:
            case SettlementRecorded():
                self.settled = add(self.settled, event.amount)
                self.settlements += 1
            case CreditAcknowledged():
                self.credited = add(self.credited, event.amount)
                self.credits += 1
            case SettlementInDoubt() | CreditHeld():
                self.set_aside += 1
            case AttemptWaiting():
                self.retries += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "settled": f"{self.settled:f}",
            "settlements": self.settlements,
            "credited": f"{self.credited:f}",
            "credits": self.credits,
            "set_aside": self.set_aside,
            "retries": self.retries,
            "median_s": self._within(0.5),
            "p95_s": self._within(0.95),
        }

    def _within(self, part: float) -> float | None:
        """Return how long this part of the requests took at most; None if none was settled."""
        left = math.ceil(self.latencies.total() * part)
        if not left:
            return None
        for number in sorted(self.latencies):
            left -= self.latencies[number]
            if left <= 0:
                break
        return round(math.exp2(number / _CLASSES_PER_DOUBLING), 6)


def _class_of(took_s: float) -> int:
    return math.ceil(math.log2(max(took_s, 1e-6)) * _CLASSES_PER_DOUBLING)

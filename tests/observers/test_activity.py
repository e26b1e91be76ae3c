"""Activity: exact sums by when money moved, and how long requests took, in bounded memory."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from settlement_core.observers.activity import SPANS, Activity
from settlement_core.values.amounts import total
from settlement_core.values.events import (
    AttemptClaimed,
    AttemptWaiting,
    CreditAcknowledged,
    CreditHeld,
    Event,
    SettlementInDoubt,
    SettlementRecorded,
    SettlementRequested,
)
from tests.core.worlds import D
from tests.observers.listening import sample

START = 1_000_000.0


class Hands:
    """Turns the clocks."""

    def __init__(self) -> None:
        self.at = START
        self.activity = Activity(now=lambda: self.at, clock=lambda: self.at)

    def tell(self, kind: type[Event], **facts: Any) -> None:
        """Have an event happen now."""
        self.activity.observe(sample(kind, account_id="alice", **facts))

    def settle(self, amount: str, takes_s: float) -> None:
        """Have a request settled."""
        self.tell(SettlementRequested, amount=D(amount))
        self.tell(AttemptClaimed, direction="outgoing", amount=D(amount), fresh=True)
        self.at += takes_s
        self.tell(SettlementRecorded, amount=D(amount), attempted=D(amount))

    def points(self, span: str = "hour") -> list[dict[str, Any]]:
        """Return what is told."""
        points: list[dict[str, Any]] = self.activity.to_json(span)["points"]
        return points


def test_amounts_are_summed_exactly_by_when_they_moved() -> None:
    """Twenty digits and a billionth; what did not move is no settlement."""
    hands = Hands()
    for _ in range(3):
        hands.settle("12345678901234567890.000000001", 0)
    hands.tell(SettlementRecorded, amount=D(0), attempted=D(5))
    hands.at += 10
    hands.tell(CreditAcknowledged, amount=D("0.3"))
    hands.tell(CreditHeld)
    hands.tell(SettlementInDoubt)
    hands.tell(AttemptWaiting)
    first, second = hands.points()
    assert (first["at"], first["settlements"], first["credits"]) == (START, 3, 0)
    assert Decimal(first["settled"]) == Decimal("37037036703703703670.000000003")
    assert (second["at"], second["credited"], second["credits"]) == (START + 10, "0.3", 1)
    assert (second["set_aside"], second["retries"], second["settlements"]) == (2, 1, 0)
    (day,) = hands.points("day")
    assert (Decimal(day["settled"]), day["credited"]) == (Decimal(first["settled"]), "0.3")


def test_latencies_are_at_most_a_fifth_too_long() -> None:
    """Of a hundred requests 90 took 0.1 s and 10 took 30 s: half within 0.1 s, 95 % within 30 s."""
    hands = Hands()
    for takes_s in [0.1] * 90 + [30.0] * 10:
        hands.at = START
        hands.settle("1", takes_s)
        hands.at = START
    (point,) = [point for point in hands.points("day") if point["settlements"] == 100]
    assert 0.1 <= point["median_s"] <= 0.12
    assert 30 <= point["p95_s"] <= 36
    hands.at += 3000
    hands.tell(CreditAcknowledged)
    assert (hands.points("day")[-1]["median_s"], hands.points("day")[-1]["p95_s"]) == (None, None)


@pytest.mark.parametrize("span", SPANS)
def test_what_is_older_than_the_span_is_forgotten(span: str) -> None:
    """After a week of one settlement a second there are as many points as the span has, and no more is kept."""
    hands = Hands()
    width_s, most = SPANS[span]
    for _ in range(most * 3):
        hands.settle("1", width_s)
    points = hands.points(span)
    assert len(points) == most
    assert total(Decimal(point["settled"]) for point in points) == most
    hands.at += 10 * width_s * most
    assert hands.points(span) == []
    told = hands.activity.to_json(span)
    assert (told["at"], told["since"], told["span_s"], told["point_s"]) == (hands.at, START, width_s * most, width_s)


def test_a_clock_that_is_put_back_loses_nothing() -> None:
    """What happens then is counted with the latest point."""
    hands = Hands()
    hands.settle("1", 0)
    hands.at -= 3600
    hands.settle("2", 0)
    hands.at += 3600
    assert [point["settled"] for point in hands.points()] == ["3"]

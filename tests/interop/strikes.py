"""The original's faults that change its books: how each is brought about, and what it must then come to.

What the peers' books differ by is computed from what was done to the original and what it still keeps, never from the
difference itself.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from settlement_core.testing.connector import MODES, Answer, Books, Mode
from settlement_core.testing.connector._wire import Request
from settlement_core.values.amounts import Quantity, total

__all__ = ["Credits", "Strike"]


class Strike(StrEnum):
    """What is done to the original; each name is one of its faults' occasions."""

    NONE = "none"
    """Nothing that it cannot bear: requests and replies are lost, delayed and doubled all the same."""

    REFUSED = "refused"
    """Its connector answers some credits 503 and books nothing: they are parked, and merged into the next (A4)."""

    FAILED = "failed"
    """Its connector books some credits and answers 502: they are credited again, under another key (A3)."""

    PLAIN = "plain"
    """Its connector acknowledges some credits without a quantity, as Interledger.rs does: they are credited again."""

    THROWN = "thrown"
    """Its ledger refuses some payments and its engine throws: they count as paid, and are lost (A2)."""

    KILLED = "killed"
    """It is killed while it pays: what it took from its queue is lost (A1, A5)."""


RATE = 0.3
"""How many credits are struck."""

_TAKE = MODES["rfc38"].credit


@dataclass(slots=True)
class Credits:
    """How the original's connector answers credits, and what became of them by their key.

    Attributes:
        booked: what it booked, in standard units.
        disbelieved: what the original takes for not credited, since the answer was no 2xx with a quantity.
    """

    strike: Strike
    seed: int
    booked: dict[str, Decimal] = field(default_factory=dict)
    disbelieved: dict[str, Decimal] = field(default_factory=dict)

    def mode(self) -> Mode:
        """Return a connector to the letter of RFC 38, but for the strike, that answers with the quantity it booked."""
        return replace(MODES["rfc38"], credit=self._credit)

    def repeated(self) -> Decimal:
        """Return what is booked and disbelieved: it comes again, in another credit."""
        return total(amount for key, amount in self.disbelieved.items() if key in self.booked)

    def _credit(self, books: Books, request: Request) -> Answer:
        quantity = Quantity.parse(json.loads(request.body))
        assert request.key is not None
        struck = random.Random(f"{self.seed}/{len(self.booked) + len(self.disbelieved)}").random() < RATE
        if struck and self.strike is Strike.REFUSED:
            self.disbelieved[request.key] = quantity.to_amount()
            return Answer(503)
        answer = _TAKE(books, request)
        assert answer.ok, answer
        self.booked[request.key] = quantity.to_amount()
        if struck and self.strike in {Strike.FAILED, Strike.PLAIN}:
            self.disbelieved[request.key] = quantity.to_amount()
            return Answer(502 if self.strike is Strike.FAILED else 201)
        return Answer(201, json.dumps(quantity.to_json()).encode(), {"content-type": "application/json"})

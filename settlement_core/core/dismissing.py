"""Dismissing unattributed money in bulk: what strangers pay in tiny amounts needs one decision, not one each."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from settlement_core.core.core import Core
from settlement_core.values.commands import Applied, Dismiss, Suspense
from settlement_core.values.errors import SuspenseConflict

__all__ = ["PAGE", "Dismissed", "dismiss_below"]

PAGE = 500
"""Settlements looked at by one request: they leave in a few batches of the store."""


@dataclass(frozen=True, slots=True)
class Dismissed:
    """How many were dismissed, and the settlement id to go on after; None at the end."""

    count: int
    after: str | None


async def dismiss_below(core: Core, below: Decimal, *, reason: str, by: str, at: float, after: str) -> Dismissed:
    """Dismiss what waits of less than an amount, among the next `PAGE` settlements after one, "" at first.

    What another decision took away meanwhile is left as decided.
    """
    found = await core.ask(Suspense(after=after, limit=PAGE))
    chosen = [item.settlement_id for item in found if item.amount < below]
    results = await core.decide_together(
        [Dismiss(settlement_id=settlement_id, reason=reason, by=by, at=at) for settlement_id in chosen]
    )
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, SuspenseConflict):
            raise result
    count = sum(isinstance(result, Applied) and result.changed for result in results)
    return Dismissed(count, found[-1].settlement_id if len(found) == PAGE else None)

"""Records as JSON for operators: amounts as text in standard units, names as RFC 38 and this package use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

from settlement_core.core.lane import LaneStatus
from settlement_core.values.records import (
    AccountOverview,
    Attempt,
    AttemptState,
    Direction,
    SuspenseItem,
    Totals,
    WorkerOverview,
)

__all__ = ["account_view", "attempt_view", "lane_view", "suspense_view", "totals_view", "workers_view"]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def account_view(account: AccountOverview, halts: Mapping[str, str] = _NONE) -> dict[str, Any]:
    """Return an account with both directions' sums; `halts` are those of `CoreStatistics.halted`."""
    lanes = {direction.value: f"{account.account_id} {direction}" for direction in Direction}
    return {
        "id": account.account_id,
        "state": account.state.value,
        "step": None if account.step is None else account.step.value,
        "paused": account.paused,
        "pausing": None if account.pausing is None else asdict(account.pausing),
        "halted": {direction: halts[lane] for direction, lane in lanes.items() if lane in halts},
        "outgoing": totals_view(account.outgoing, parked="in_doubt"),
        "incoming": totals_view(account.incoming, parked="held"),
    }


def totals_view(totals: Totals, *, parked: str) -> dict[str, str]:
    """Return the sums of one direction; `parked` is what it calls money that a person has to decide about."""
    return {
        "entered": f"{totals.entered:f}",
        "queued": f"{totals.queued:f}",
        "open": f"{totals.open:f}",
        "settled": f"{totals.settled:f}",
        parked: f"{totals.parked:f}",
        "retired": f"{totals.retired:f}",
    }


def attempt_view(attempt: Attempt, halts: Mapping[str, str] = _NONE) -> dict[str, Any]:
    """Return an attempt; `halts` are those of `CoreStatistics.halted`."""
    is_open = attempt.state is AttemptState.OPEN
    return {
        "id": attempt.attempt_id,
        "account": attempt.account_id,
        "direction": attempt.direction.value,
        "state": attempt.state.value,
        "amount": f"{attempt.amount:f}",
        "settled": None if attempt.settled is None else f"{attempt.settled:f}",
        "reason": attempt.reason,
        "halted": halts.get(f"{attempt.account_id} {attempt.direction}", "") if is_open else "",
        "resolved_by": attempt.resolved_by,
        "claimed_at": attempt.claimed_at,
        "closed_at": attempt.closed_at,
        "payment": None if attempt.payment is None else attempt.payment.reference,
    }


def suspense_view(item: SuspenseItem) -> dict[str, Any]:
    """Return money whose owner is unknown, or was."""
    state = "waiting" if item.waiting else "dismissed" if item.dismissed else "assigned"
    return asdict(item) | {"amount": f"{item.amount:f}", "state": state}


def workers_view(workers: Sequence[WorkerOverview], *, shared: bool, partitions: int) -> dict[str, Any]:
    """Return who shares a store that is divided into so many partitions."""
    return {
        "shared": shared,
        "partitions": partitions,
        "workers": [
            {"id": worker.worker_id, "partitions": list(worker.partitions), "expires_in_s": worker.expires_in_s}
            for worker in workers
        ],
    }


def lane_view(lane: LaneStatus) -> dict[str, Any]:
    """Return what one direction of an account is doing now."""
    return asdict(lane) | {"direction": lane.direction.value}

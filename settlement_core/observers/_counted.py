"""What is counted of which event: a table, from which metrics are made.

Every event is in it or in `NOT_COUNTED`, and a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from settlement_core.values import events as e
from settlement_core.values.records import Direction, Step

__all__ = ["COUNTED", "NOT_COUNTED", "Counted", "Label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What events of one type are told apart by. Its values are few and known, so that all counters begin at 0."""

    name: str
    values: tuple[str, ...]
    of: Callable[[Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One type of event: the counter's name, what it says, and the event's amount that is added up beside it."""

    name: str
    says: str
    amount: str | None = None
    label: Label | None = None


def _outcome(event: e.SettlementRecorded) -> str:
    if event.amount == 0:
        return "nothing"
    return "whole" if event.amount == event.attempted else "part"


_DIRECTION = Label(name="direction", values=tuple(Direction), of=lambda event: str(event.direction))
_STEP = Label(name="step", values=tuple(Step), of=lambda event: str(event.step))
_DECISION = Label(
    name="decision",
    values=("resolve", "release", "assign", "pause", "resume"),
    of=lambda event: str(event.decision),
)
_OUTCOME = Label(name="outcome", values=("whole", "part", "nothing"), of=_outcome)

COUNTED: Final[Mapping[type[e.Event], Counted]] = MappingProxyType(
    {
        e.SettlementRequested: Counted(
            name="settlements_requested", says="Settlement requests made durable, without replays", amount="amount"
        ),
        e.SettlementReceived: Counted(
            name="settlements_received", says="Incoming settlements made durable, without replays", amount="amount"
        ),
        e.AttemptClaimed: Counted(
            name="attempts_claimed", says="Attempts made durable, or found from before", label=_DIRECTION
        ),
        e.PaymentNoted: Counted(
            name="payments_noted", says="Payments made durable before they were first submitted", amount="amount"
        ),
        e.SettlementRecorded: Counted(
            name="settlements_recorded",
            says="Outgoing attempts closed, by how much of them was settled",
            amount="amount",
            label=_OUTCOME,
        ),
        e.PaymentRejected: Counted(
            name="payments_rejected", says="Payments that the ledger can never apply; queued again", amount="amount"
        ),
        e.SettlementInDoubt: Counted(
            name="settlements_in_doubt", says="Outgoing attempts that a person has to resolve", amount="amount"
        ),
        e.CreditAcknowledged: Counted(
            name="credits_acknowledged", says="Incoming settlements that the connector credited", amount="amount"
        ),
        e.CreditHeld: Counted(
            name="credits_held", says="Credits refused by the connector, which a person has to release", amount="amount"
        ),
        e.CreditBlocked: Counted(
            name="credits_blocked",
            says="Credits refused as unauthorised or unknown where credits went through before; offered again",
            amount="amount",
        ),
        e.CreditedLess: Counted(
            name="credited_less", says="Accounts that the connector counts more coarsely than it was credited"
        ),
        e.MoneyUnattributed: Counted(
            name="unattributed", says="Incoming settlements whose owner nobody can tell", amount="amount"
        ),
        e.MoneyDismissed: Counted(name="dismissed", says="Incoming settlements that an operator dismissed as not ours"),
        e.AttemptWaiting: Counted(name="retries", says="Times that a try was put off for later", label=_DIRECTION),
        e.AccountReady: Counted(name="account_steps", says="Steps finished on accounts themselves", label=_STEP),
        e.StepFailed: Counted(
            name="account_steps_failed", says="Tries of a step on an account that failed", label=_STEP
        ),
        e.StepDormant: Counted(
            name="account_steps_dormant", says="Steps that failed for a day in accounts that owe nothing", label=_STEP
        ),
        e.AccountHalted: Counted(
            name="halts", says="Directions of accounts that stopped since an invariant broke", label=_DIRECTION
        ),
        e.AccountPaused: Counted(name="pauses", says="Accounts that the engine had paused, as they only cost fees"),
        e.DecisionProposed: Counted(
            name="proposals", says="Decisions that wait for a second token, or waited", label=_DECISION
        ),
        e.PaymentsStopped: Counted(
            name="payments_stopped", says="Times that payments were stopped, since several in a row are in doubt"
        ),
        e.PaymentsResumed: Counted(name="payments_resumed", says="Times that an operator had payments go on"),
        e.DecisionTaken: Counted(name="decisions", says="What people decided, each thing once", label=_DECISION),
        e.EngineAlarmed: Counted(name="engine_alarms", says="Times the engine's alarm began, or changed"),
        e.EngineMisbehaved: Counted(name="engine_misbehaved", says="Times the engine raised while being cancelled"),
        e.MessageFailed: Counted(name="messages_failed", says="Messages of peers that the engine could not handle"),
        e.StoreFailed: Counted(name="store_failures", says="Times the store did not answer"),
        e.PartitionsChanged: Counted(name="lease_changes", says="Changes of the partitions that this worker holds"),
        e.LeaseGone: Counted(name="leases_lost", says="Accounts lost to another worker while at work on them"),
        e.ClockJumped: Counted(name="clock_jumps", says="Times the wall clock was set, as far as ticks saw"),
        e.HistoryRetired: Counted(
            name="history_retired", says="Rounds in which attempts that were over for long left the history"
        ),
        e.ArchiveFailed: Counted(name="archive_failures", says="Times old attempts could not be archived"),
        e.MovedUnrecorded: Counted(
            name="moved_unrecorded",
            says="Effects that ended after the lease, and could not be recorded here",
            amount="amount",
            label=_DIRECTION,
        ),
        e.AttemptForgotten: Counted(
            name="attempts_forgotten",
            says="Attempts that the store had acknowledged and then forgot",
            amount="amount",
            label=_DIRECTION,
        ),
        e.MovedMoreThanKnown: Counted(
            name="moved_more_than_known",
            says="Attempts of which more moved than the store will ever account for; the excess",
            amount="excess",
            label=_DIRECTION,
        ),
    }
)

NOT_COUNTED: Final = frozenset(
    {e.CoreStarted, e.RecoveryFinished, e.CoreStopped, e.StandingBy, e.StoreRecovered, e.EngineCalm}
)
"""Told by gauges, by the process itself, or by the counter of the opposite."""

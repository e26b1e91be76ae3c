"""Facts the core tells its observers, as frozen values.

`str(event)` is one lower-case line with ids and amounts in standard units, never a secret or a message body.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from settlement_core.values.event import Event
from settlement_core.values.worker_events import (
    ArchiveFailed,
    ClockJumped,
    CoreStarted,
    CoreStopped,
    EngineAlarmed,
    EngineCalm,
    HistoryRetired,
    PartitionsChanged,
    PaymentsResumed,
    PaymentsStopped,
    RecoveryFinished,
    StandingBy,
    StoreFailed,
    StoreRecovered,
)

__all__ = [
    "AccountHalted",
    "AccountPaused",
    "AccountReady",
    "ArchiveFailed",
    "AttemptClaimed",
    "AttemptForgotten",
    "AttemptWaiting",
    "ClockJumped",
    "CoreStarted",
    "CoreStopped",
    "CreditAcknowledged",
    "CreditBlocked",
    "CreditHeld",
    "CreditedLess",
    "DecisionProposed",
    "DecisionTaken",
    "EngineAlarmed",
    "EngineCalm",
    "EngineMisbehaved",
    "Event",
    "HistoryRetired",
    "LeaseGone",
    "MessageFailed",
    "MoneyDismissed",
    "MoneyUnattributed",
    "MovedMoreThanKnown",
    "MovedUnrecorded",
    "PartitionsChanged",
    "PaymentNoted",
    "PaymentRejected",
    "PaymentsResumed",
    "PaymentsStopped",
    "RecoveryFinished",
    "SettlementInDoubt",
    "SettlementReceived",
    "SettlementRecorded",
    "SettlementRequested",
    "StandingBy",
    "StepDormant",
    "StepFailed",
    "StoreFailed",
    "StoreRecovered",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfAttempt(Event):
    account_id: str
    attempt_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRequested(Event):
    """A settlement request is durable. Not told for replays."""

    level: ClassVar[str] = "debug"
    text: ClassVar[str] = "account {account_id} is to settle {amount} (key {key})"
    account_id: str
    key: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementReceived(Event):
    """An incoming settlement is durable. Not told for replays."""

    level: ClassVar[str] = "debug"
    text: ClassVar[str] = "account {account_id} was paid {amount} (settlement {settlement_id})"
    account_id: str
    settlement_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClaimed(_OfAttempt):
    """An attempt is durable, or one from before a restart was found."""

    level: ClassVar[str] = "debug"
    text: ClassVar[str] = "account {account_id} {direction} attempt {attempt_id} of {amount}, fresh: {fresh}"
    direction: str
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentNoted(_OfAttempt):
    """A payment is durable and about to be submitted for the first time."""

    level: ClassVar[str] = "debug"
    text: ClassVar[str] = "account {account_id} attempt {attempt_id}: paying {amount}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRecorded(Event):
    """An outgoing attempt was closed. `took_s` counts from its claim in this process."""

    text: ClassVar[str] = (
        "account {account_id} settled {amount} of {attempted} in {took_s:.3f} s (attempt {attempt_id})"
    )
    account_id: str
    attempt_id: str
    attempted: Decimal
    amount: Decimal
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRejected(_OfAttempt):
    """The ledger can never apply this payment; its money is queued again."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = "account {account_id} attempt {attempt_id}: payment of {amount} rejected: {reason}"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementInDoubt(_OfAttempt):
    """Nobody here can know whether this was paid; a person has to say (`settlement-core resolve`)."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "account {account_id} attempt {attempt_id}: {amount} is in doubt: {reason}"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditAcknowledged(_OfAttempt):
    """The connector has credited `amount` of an incoming settlement."""

    text: ClassVar[str] = "account {account_id} credited {amount} in {took_s:.3f} s (attempt {attempt_id})"
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditedLess(Event):
    """The connector counts an account more coarsely than a credit was. Emitted once per account and run."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = (
        "account {account_id} attempt {attempt_id}: the connector credited {credited} of {offered}, down to scale "
        "{scale}; the rest is queued until it adds up; set --connector-scale {scale}"
    )
    account_id: str
    attempt_id: str
    offered: Decimal
    credited: Decimal
    scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditBlocked(_OfAttempt):
    """A credit was answered 401, 403 or 404 in an account that was credited before. Emitted once per credit."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = (
        "account {account_id} attempt {attempt_id}: credit of {amount} is blocked: {reason}; the account was credited "
        "before, so it is offered again: check the connector and the proxies before it"
    )
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditHeld(_OfAttempt):
    """The connector refused a credit for good, or may have forgotten its key; an operator releases or resolves it."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "account {account_id} attempt {attempt_id}: credit of {amount} is held: {reason}"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWaiting(Event):
    """An attempt, or money queued again, is tried again later."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = "account {account_id} {direction} attempt {attempt_id}: {reason}; next try in {delay_s:.1f} s"
    account_id: str
    direction: str
    attempt_id: str
    reason: str
    failures: int
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReady(Event):
    """The engine finished a step on the account itself."""

    text: ClassVar[str] = "account {account_id}: {step} finished"
    account_id: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(Event):
    """The engine could not set up, or tear down, the account; it is tried again."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = "account {account_id}: {step} failed: {reason}; next try in {delay_s:.1f} s"
    account_id: str
    step: str
    reason: str
    failures: int
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDormant(Event):
    """A step has failed for a day in an account that owes nothing; further failures are no events."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = (
        "account {account_id}: {step} has failed for a day: {reason}; nothing is owed, so it is tried once an hour "
        "from now on and no longer logged: delete the account if its peer is gone"
    )
    account_id: str
    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountHalted(Event):
    """An invariant broke for one direction of one account; it stops until the next start, the others go on."""

    level: ClassVar[str] = "critical"
    text: ClassVar[str] = "account {account_id} {direction} halted: {reason}"
    account_id: str
    direction: str
    reason: str
    attempt_id: str = ""
    """The one that was under way, if any; it stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMisbehaved(Event):
    """The engine raised while it was being cancelled; what it was doing is verified at the next start."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "account {account_id}: {doing} raised while being cancelled: {reason}"
    account_id: str
    doing: str
    reason: str
    attempt_id: str = ""
    """The one it was about, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFailed(Event):
    """The engine could not handle a message from the peer."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = "account {account_id}: message not handled: {reason}"
    account_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyUnattributed(Event):
    """Money arrived whose owner the engine cannot tell; an operator can assign it, or dismiss it as not ours."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "unattributed settlement {settlement_id} of {amount}"
    settlement_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyDismissed(Event):
    """An operator decided, for the first time, that unattributed money is not ours: it is credited to nobody."""

    text: ClassVar[str] = "unattributed settlement {settlement_id}: {by} decided that it is not ours: {reason}"
    settlement_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTaken(Event):
    """A person decided something, for the first time: `decision` about an attempt, a settlement, or the account."""

    text: ClassVar[str] = "account {account_id} {about}: {by} decided to {decision}: {reason}"
    account_id: str
    decision: str
    about: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionProposed(Event):
    """An operator sent a decision above the limit of four eyes; it is carried out once a second token sends it too."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = "account {account_id} {about}: {by} proposed to {decision}: {reason}"
    account_id: str
    decision: str
    about: str
    amount: Decimal | None
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPaused(Event):
    """The engine had the account paused: nothing new is paid in it until an operator resumes it."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = "account {account_id} is paused until an operator resumes it: {reason}"
    account_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGone(Event):
    """This worker lost an account it was working on; the one that has it now finds out what became of that."""

    level: ClassVar[str] = "warning"
    text: ClassVar[str] = "account {account_id} is another worker's by now; what was under way here is dropped"
    account_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedUnrecorded(Event):
    """An effect ended after its lease: it cannot be recorded here, but may help whoever resolves the attempt."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = (
        "account {account_id} {direction} attempt {attempt_id}: {amount} moved, which is not recorded here since the "
        "account is another worker's by now"
    )
    account_id: str
    direction: str
    attempt_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptForgotten(Event):
    """The store no longer knew an attempt it had acknowledged; it is claimed and recorded again under the same id."""

    level: ClassVar[str] = "error"
    text: ClassVar[str] = (
        "store forgot account {account_id} {direction} attempt {attempt_id} of {amount}; it is recorded again"
    )
    account_id: str
    direction: str
    attempt_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedMoreThanKnown(Event):
    """The store forgot what part of an attempt was asked for: so much more moved than it will ever account for."""

    level: ClassVar[str] = "critical"
    text: ClassVar[str] = (
        "account {account_id} {direction} attempt {attempt_id}: {moved} moved, but the store knows only of {known} "
        "since it forgot what it had acknowledged; {excess} more moved than is accounted for"
    )
    account_id: str
    direction: str
    attempt_id: str
    moved: Decimal
    known: Decimal
    excess: Decimal

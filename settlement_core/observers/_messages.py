"""What webhooks say: which events have a message, and its JSON.

Of a store that fails again and again the first failure has one, and then its recovery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from settlement_core.values.events import (
    AccountHalted,
    AccountPaused,
    ClockJumped,
    CreditAcknowledged,
    CreditHeld,
    EngineAlarmed,
    EngineCalm,
    Event,
    MoneyUnattributed,
    MovedMoreThanKnown,
    PaymentsResumed,
    PaymentsStopped,
    SettlementInDoubt,
    SettlementRecorded,
    StoreFailed,
    StoreRecovered,
)

__all__ = ["Message", "message_of"]


@dataclass(frozen=True, slots=True)
class Message:
    """One event for the world.

    `kind` is "settled", "credited", "in_doubt", "held", "halted", "paused", "unattributed", "excess", "alarm",
    "alarm_ended", "store_failed", "store_recovered" or "clock_jumped"; `account_id` is "" where it is about no account.
    """

    kind: str
    account_id: str
    facts: Mapping[str, str]

    def to_json(self, *, message_id: str, at: float, asset: str = "") -> bytes:
        """Return the body; amounts are text in standard units of `asset`, `time` is in seconds since 1970."""
        content: dict[str, object] = {"id": message_id, "type": self.kind, "time": round(at, 3)}
        if self.account_id:
            content["account"] = self.account_id
        content |= self.facts
        if asset and "amount" in content:
            content["asset"] = asset
        return json.dumps(content).encode()


def message_of(event: Event) -> Message | None:
    """Return what to say of an event; None for most. Money that did not move is nothing to tell anybody."""
    match event:
        case SettlementRecorded():
            if event.amount == 0:
                return None
            facts = {"amount": f"{event.amount:f}", "attempted": f"{event.attempted:f}", "attempt": event.attempt_id}
            return Message("settled", event.account_id, facts)
        case CreditAcknowledged():
            facts = {"amount": f"{event.amount:f}", "attempt": event.attempt_id}
            return Message("credited", event.account_id, facts)
        case SettlementInDoubt() | CreditHeld():
            facts = {"amount": f"{event.amount:f}", "attempt": event.attempt_id, "reason": event.reason}
            kind = "in_doubt" if isinstance(event, SettlementInDoubt) else "held"
            return Message(kind, event.account_id, facts)
        case AccountHalted():
            return Message("halted", event.account_id, {"direction": str(event.direction), "reason": event.reason})
        case AccountPaused():
            return Message("paused", event.account_id, {"reason": event.reason})
        case MovedMoreThanKnown():
            facts = {"direction": str(event.direction), "attempt": event.attempt_id, "excess": f"{event.excess:f}"}
            return Message("excess", event.account_id, facts)
        case _:
            return _message_of_all(event)


def _message_of_all(event: Event) -> Message | None:
    """Return what to say of an event that is about no account."""
    match event:
        case MoneyUnattributed():
            return Message("unattributed", "", {"amount": f"{event.amount:f}", "settlement": event.settlement_id})
        case EngineAlarmed() | EngineCalm():
            kind = "alarm" if isinstance(event, EngineAlarmed) else "alarm_ended"
            return Message(kind, "", {"reason": event.alarm})
        case PaymentsStopped():
            return Message("payments_stopped", "", {"in_a_row": str(event.in_a_row)})
        case PaymentsResumed():
            return Message("payments_resumed", "", {"by": event.by, "reason": event.reason})
        case StoreFailed(failures=1):
            return Message("store_failed", "", {"reason": event.reason})
        case StoreRecovered():
            return Message("store_recovered", "", {"failures": str(event.failures)})
        case ClockJumped():
            return Message("clock_jumped", "", {"jumped_s": f"{event.jumped_s:.0f}", "since": event.since})
        case _:
            return None

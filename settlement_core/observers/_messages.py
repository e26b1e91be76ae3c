"""What webhooks say: which events have a message, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from settlement_core.values.events import (
    AccountHalted,
    CreditAcknowledged,
    CreditHeld,
    Event,
    SettlementInDoubt,
    SettlementRecorded,
)

__all__ = ["Message", "message_of"]


@dataclass(frozen=True, slots=True)
class Message:
    """One event for the world: `kind` is "settled", "credited", "in_doubt", "held" or "halted"."""

    kind: str
    account_id: str
    facts: Mapping[str, str]

    def to_json(self, *, message_id: str, at: float, asset: str = "") -> bytes:
        """Return the body; amounts are text in standard units of `asset`, `time` is in seconds since 1970."""
        content = {"id": message_id, "type": self.kind, "time": round(at, 3), "account": self.account_id, **self.facts}
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
        case _:
            return None

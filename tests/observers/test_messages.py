"""What webhooks say of which event: everybody who should know hears of it, and of nothing twice."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.observers._messages import message_of
from settlement_core.values import events as e
from settlement_core.values.records import Direction

D = Decimal


def said(event: e.Event) -> dict[str, Any] | None:
    """Return the message, but for its id and time."""
    message = message_of(event)
    if message is None:
        return None
    content: dict[str, Any] = json.loads(message.to_json(message_id="m-1", at=1.5))
    assert (content.pop("id"), content.pop("time")) == ("m-1", 1.5)
    return content


@pytest.mark.parametrize(
    ("event", "content"),
    [
        (
            e.MoneyUnattributed(settlement_id="tx 7", amount=D("0.70")),
            {"type": "unattributed", "amount": "0.70", "settlement": "tx 7"},
        ),
        (e.PaymentsStopped(in_a_row=5), {"type": "payments_stopped", "in_a_row": "5"}),
        (
            e.PaymentsResumed(by="carol", reason="the node is back"),
            {"type": "payments_resumed", "by": "carol", "reason": "the node is back"},
        ),
        (e.EngineAlarmed(alarm="key used elsewhere"), {"type": "alarm", "reason": "key used elsewhere"}),
        (e.EngineCalm(alarm="key used elsewhere"), {"type": "alarm_ended", "reason": "key used elsewhere"}),
        (
            e.StoreFailed(failures=1, reason="disk full", delay_s=0.1),
            {"type": "store_failed", "reason": "disk full"},
        ),
        (e.StoreFailed(failures=2, reason="disk full", delay_s=0.1), None),
        (e.StoreRecovered(failures=2), {"type": "store_recovered", "failures": "2"}),
        (
            e.ClockJumped(jumped_s=-3600.2, since="the latest tick"),
            {"type": "clock_jumped", "jumped_s": "-3600", "since": "the latest tick"},
        ),
        (
            e.AccountHalted(account_id="alice", direction=Direction.OUTGOING, reason="too much"),
            {"type": "halted", "account": "alice", "direction": "outgoing", "reason": "too much"},
        ),
        (e.AccountPaused(account_id="alice", reason="fees"), {"type": "paused", "account": "alice", "reason": "fees"}),
        (
            e.MovedMoreThanKnown(
                account_id="alice", direction=Direction.INCOMING, attempt_id="a", moved=D(5), known=D(3), excess=D(2)
            ),
            {"type": "excess", "account": "alice", "direction": "incoming", "attempt": "a", "excess": "2"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, e.Event) else "",
)
def test_what_an_operator_should_know_is_a_message(event: e.Event, content: dict[str, Any] | None) -> None:
    """Amounts are exact text; an account is named where there is one; a store that fails on and on is told once."""
    assert said(event) == content

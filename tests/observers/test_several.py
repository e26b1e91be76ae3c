"""Each observer hears every event, whatever becomes of the others."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from settlement_core.observers.several import SeveralObservers
from settlement_core.values.events import Event, MoneyUnattributed


class _Deaf:
    def observe(self, event: Event) -> None:
        raise ValueError(f"cannot hear {type(event).__name__}")


class _Hearing:
    def __init__(self) -> None:
        self.heard: list[Event] = []

    def observe(self, event: Event) -> None:
        self.heard.append(event)


def test_an_observer_that_raises_does_not_keep_the_others_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    """What it could not hear is logged with its traceback."""
    before, after = _Hearing(), _Hearing()
    event = MoneyUnattributed(settlement_id="s", amount=Decimal(1))
    with caplog.at_level(logging.ERROR, "settlement_core"):
        SeveralObservers(before, _Deaf(), after).observe(event)
    assert before.heard == after.heard == [event]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "failed on: unattributed settlement s of 1" in record.getMessage()

"""Why a payment moved nothing is in the books, and where an unknown outcome was raised is in the log."""

from __future__ import annotations

import logging
import traceback
from decimal import Decimal

import pytest

from settlement_core.values.errors import SettlementFailed
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


async def _no_funds(_amount: Decimal) -> Decimal:
    raise SettlementFailed("insufficient funds " + "x" * 1000)


async def _half(amount: Decimal) -> Decimal:
    return amount / 2


async def _lose_sight(_amount: Decimal) -> Decimal:
    raise ConnectionError("no answer from the ledger")


async def test_why_nothing_or_not_all_was_settled_is_in_the_history() -> None:
    """Bounded, and empty once all was; the rest is settled as ever."""
    world = World(MinimalEngine(script=[_no_funds, _half]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: world.account().outgoing.settled == 8)
    failed, part, rest = world.attempts()
    assert failed.reason.startswith("nothing was settled: insufficient funds xxx")
    assert len(failed.reason) == 500
    assert (part.reason, part.settled) == ("only 4 of 8 was settled", D(4))
    assert (rest.reason, rest.settled) == ("", D(4))


async def test_why_a_ledger_rejected_a_payment_is_in_the_history() -> None:
    """With the attempt that it was about, which is closed; the money is paid by another one."""
    ledger = MemoryLedger(reject_next=1)
    world = World(VerifiableEngine(ledger))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: world.account().outgoing.settled == 8)
    rejected = world.attempts()[0]
    assert (rejected.state, rejected.settled) == (AttemptState.CLOSED, D(0))
    assert rejected.reason.startswith("the payment was rejected: ")
    assert ledger.total() == 8


async def test_an_unknown_outcome_is_a_warning_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """It names the account, the attempt and the line; what failed for certain needs none."""
    caplog.set_level(logging.INFO, "settlement_core")
    world = World(MinimalEngine(script=[_no_funds, _lose_sight]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: world.account().outgoing.parked == 8)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.levelname == "WARNING"
    assert f"account alice attempt {world.attempts()[-1].attempt_id}: settle raised" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ConnectionError
    assert "_lose_sight" in "".join(traceback.format_exception(record.exc_info[1]))

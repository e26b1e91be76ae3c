"""A log line is one line, and names account, attempt and key, so that a settlement can be followed by them."""

from __future__ import annotations

import io
import logging
from decimal import Decimal

import pytest

from settlement_core.observers.logs import start_logging
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.events import (
    AccountHalted,
    AttemptWaiting,
    DecisionTaken,
    Event,
    PaymentRejected,
    SettlementReceived,
)
from tests.core.worlds import D, MinimalEngine, World, until
from tests.observers.listening import every_kind, sample


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_no_fact_from_outside_begins_another_line(kind: type[Event]) -> None:
    """Whoever chooses a reason, a person or a ledger, could otherwise write log lines of their own."""
    evil = "no\r\n2026-01-01T00:00:00Z INFO account bob settled 5\u2028\x1b[2J\x85end"
    texts = {name: evil for name, kind in kind.__annotations__.items() if kind == "str"}
    line = str(sample(kind, **texts))
    assert line.isprintable()


def test_what_people_ledgers_and_engines_say_is_in_the_line() -> None:
    """Word for word, but for what is no word."""
    said = sample(DecisionTaken, reason="called them,\nthey saw it")
    assert str(said).endswith("called them, they saw it")
    assert str(sample(PaymentRejected, reason="nonce\ttaken")).endswith("nonce taken")


@pytest.mark.anyio
async def test_waiting_halting_and_being_paid_are_told_with_their_ids() -> None:
    """The attempt in each, and the settlement's id with the money that came in."""

    async def refuse(_amount: Decimal) -> Decimal:
        raise SettlementFailed("no\nliquidity")

    async def pay_twice(amount: Decimal) -> Decimal:
        return amount * 2

    world = World(MinimalEngine(script=[refuse, pay_twice]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: bool(world.ears.of(AccountHalted)))
        for _ in range(2):
            await world.services[0].credit_settlement("alice", D(3), "tx 1")
    first, second, _ = (attempt.attempt_id for attempt in world.attempts())
    (waiting,), (halted,) = world.ears.of(AttemptWaiting), world.ears.of(AccountHalted)
    assert f"attempt {first}: nothing was settled: no liquidity; next try" in str(waiting)
    assert halted.attempt_id == second
    received = world.ears.of(SettlementReceived)
    assert [str(event) for event in received] == ["account alice was paid 3 (settlement tx 1)"]


def test_no_line_of_the_log_moves_a_cursor_or_passes_for_another() -> None:
    """Messages of libraries and tracebacks of foreign code hold what peers wrote; each record keeps its own lines."""
    odd = "\x1b[2J\r\n2026-01-01T00:00:00.000Z INFO     all is well\x9b31m\u202e"
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("", "settlement_core", "settlement_core.http")]
    handlers, levels = loggers[0].handlers[:], [one.level for one in loggers]
    try:
        start_logging(level="debug", stream=stream)
        log = loggers[1]
        log.warning("the node said %s", odd)
        try:
            raise RuntimeError(odd)
        except RuntimeError:
            log.exception("foreign code raised", stack_info=True)
    finally:
        loggers[0].handlers[:] = handlers
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
    first, second, *rest = stream.getvalue().splitlines()
    assert "WARNING  the node said" in first
    assert "ERROR    foreign code raised" in second
    assert any("all is well" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)
    assert all(line.isprintable() for line in stream.getvalue().split("\n"))

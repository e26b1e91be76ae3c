"""Figures say what happened: as often, as much, and as long."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import anyio
import pytest

from settlement_core.abc import Refused
from settlement_core.observers._counted import COUNTED, NOT_COUNTED
from settlement_core.observers.metrics import Metrics
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.events import Event, SettlementInDoubt, SettlementRecorded, SettlementRequested
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, until
from tests.observers.listening import every_kind, sample, series, world_with


def test_every_event_is_counted_or_left_out_on_purpose() -> None:
    """Whoever adds an event decides which: a row in `COUNTED`, or a name in `NOT_COUNTED`."""
    assert set(COUNTED) | NOT_COUNTED == set(every_kind())
    assert not set(COUNTED) & NOT_COUNTED


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_an_event_is_one_more_of_its_kind_and_nothing_else(kind: type[Event]) -> None:
    """One counter goes up by one, and the amount beside it by the event's."""
    metrics = Metrics()
    before = series(metrics.exposition())
    metrics.observe(sample(kind))
    grown = {
        name: value - before[name]
        for name, value in series(metrics.exposition()).items()
        if value != before[name] and not name.startswith(("settlement_core_attempt_s", "settlement_core_request_s"))
    }
    counted = COUNTED.get(kind)
    if counted is None:
        assert grown == {}
        return
    label = "" if counted.label is None else f'{{{counted.label.name}="{counted.label.of(sample(kind))}"}}'
    expected = {f"settlement_core_{counted.name}_total{label}": 1.0}
    if counted.amount:
        expected[f"settlement_core_{counted.name}_amount_total{label}"] = 7.0
    assert grown == expected


def test_every_counter_begins_at_zero() -> None:
    """The first settlement in doubt is an increase, which an alert can see, and not the birth of a series."""
    found = series(Metrics().exposition())
    assert found['settlement_core_halts_total{direction="incoming"}'] == 0
    assert found["settlement_core_settlements_in_doubt_total"] == 0
    assert set(found.values()) == {0.0}
    assert not [name for name in found if "_created" in name]


def test_an_amount_too_large_for_prometheus_does_not_spoil_the_sum() -> None:
    """A peer may ask for a thousand digits; infinity would be the last thing this counter ever says."""
    metrics = Metrics()
    for amount in (D(5), D(10) ** 999, D(2)):
        metrics.observe(SettlementRequested(account_id="alice", key="k", amount=amount))
    found = series(metrics.exposition())
    assert found["settlement_core_settlements_requested_total"] == 3
    assert found["settlement_core_settlements_requested_amount_total"] == 7


def test_two_cores_in_one_process_have_figures_of_their_own() -> None:
    """Nothing is registered with the library's global registry."""
    one, other = Metrics(), Metrics()
    one.observe(sample(SettlementInDoubt))
    assert series(one.exposition())["settlement_core_settlements_in_doubt_total"] == 1
    assert series(other.exposition())["settlement_core_settlements_in_doubt_total"] == 0


def test_without_the_library_an_error_says_what_to_install() -> None:
    """In a process in which it cannot be imported."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try:\n    import settlement_core.observers.metrics\n"
        "except ModuleNotFoundError as problem:\n    print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "metrics need prometheus-client: pip install 'settlement-core[metrics]'\n"


@pytest.mark.anyio
async def test_a_life_of_the_core_in_figures() -> None:
    """7 requested in two requests, settled in 3 s; 2 paid by the peer, of which the connector takes 1."""
    metrics = Metrics(anyio.current_time)
    engine = MinimalEngine(takes_s=3)
    world = world_with(metrics, engine=engine, connector=FakeConnector([Refused("no")]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.create_account("bob")
        await core.request_settlement("alice", D(3), "a")
        await anyio.sleep(1)  # the first attempt is under way
        await core.request_settlement("alice", D(4), "b")
        await until(lambda: world.account().outgoing.settled == 7)
        await world.services[0].credit_settlement("alice", D(1), "x")
        await until(lambda: world.account().incoming.parked == 1)
        await world.services[0].credit_settlement("bob", D(1), "y")
        await until(lambda: world.account("bob").incoming.settled == 1)
    found = series(metrics.exposition())
    for name, value in {
        "settlements_requested_total": 2,
        "settlements_requested_amount_total": 7,
        'attempts_claimed_total{direction="outgoing"}': 2,
        'settlements_recorded_total{outcome="whole"}': 2,
        'settlements_recorded_amount_total{outcome="whole"}': 7,
        'attempt_seconds_count{direction="outgoing"}': 2,
        'attempt_seconds_sum{direction="outgoing"}': 6,
        "request_seconds_count": 2,
        "request_seconds_sum": 3 + 5,
        "credits_held_total": 1,
        "credits_acknowledged_total": 1,
        "credits_acknowledged_amount_total": 1,
    }.items():
        assert found[f"settlement_core_{name}"] == pytest.approx(value, abs=0.1), name


@pytest.mark.anyio
async def test_a_request_is_as_old_as_its_money_whatever_tries_it_took() -> None:
    """Refused once, then 5 s later settled in part, then as a whole: one latency, up to the last of it."""
    metrics = Metrics(anyio.current_time)

    async def refuse(_amount: Decimal) -> Decimal:
        raise SettlementFailed("no liquidity")

    async def pay_half(amount: Decimal) -> Decimal:
        await anyio.sleep(1)
        return amount / 2

    world = world_with(metrics, engine=MinimalEngine(script=[refuse, pay_half]))
    async with world.core() as core:
        await core.create_account("alice")
        began = anyio.current_time()
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: world.account().outgoing.settled == 8)
        took_s = anyio.current_time() - began
    found = series(metrics.exposition())
    assert found['settlement_core_settlements_recorded_total{outcome="nothing"}'] == 1
    assert found['settlement_core_settlements_recorded_total{outcome="part"}'] == 1
    assert found['settlement_core_settlements_recorded_total{outcome="whole"}'] == 1
    assert found['settlement_core_retries_total{direction="outgoing"}'] == 2
    assert found["settlement_core_request_seconds_count"] == 1
    assert found["settlement_core_request_seconds_sum"] == pytest.approx(took_s, abs=0.02)
    assert took_s > 6


@pytest.mark.anyio
async def test_what_cannot_be_known_has_no_latency() -> None:
    """In doubt, it is counted as such; and a ledger's final word ends the others as ever."""
    metrics = Metrics(anyio.current_time)
    world = world_with(metrics, engine=VerifiableEngine(MemoryLedger(final_after_s=60, reject_next=1)))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: world.account().outgoing.settled == 8)
    found = series(metrics.exposition())
    assert found["settlement_core_payments_rejected_total"] == 1
    assert found["settlement_core_payments_noted_total"] == 2
    assert found["settlement_core_request_seconds_sum"] > 60

    metrics.observe(SettlementRequested(account_id="bob", key="k", amount=D(1)))
    metrics.observe(sample(every_kind_named("AttemptClaimed"), account_id="bob", amount=D(1)))
    metrics.observe(sample(SettlementInDoubt, account_id="bob", amount=D(1)))
    metrics.observe(sample(SettlementRecorded, account_id="bob", amount=D(1), attempted=D(1)))
    assert series(metrics.exposition())["settlement_core_request_seconds_count"] == 1


def every_kind_named(name: str) -> type[Event]:
    """Return a type of event."""
    return next(kind for kind in every_kind() if kind.__name__ == name)

"""`GET /metrics` of a running core: its own state, and what waits in its store, at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Refused
from settlement_core.core.core import Core
from settlement_core.http import _figures
from settlement_core.http.app import make_quart
from settlement_core.http.metrics import add_metrics
from settlement_core.observers.metrics import Metrics
from settlement_core.observers.webhooks import open_webhooks
from settlement_core.stores.memory import create_memory_store
from settlement_core.values.commands import Command, Result
from settlement_core.values.errors import StoreUnavailable
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until
from tests.http.asgi import Client
from tests.observers.listening import Series, series, world_with

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def scraped(world: World, metrics: Metrics, **options: Any) -> AsyncIterator[tuple[Core, Client]]:
    """Run one life of the core with its metrics on an app."""
    async with world.core() as core:
        app = make_quart()
        add_metrics(app, core, metrics, now=lambda: 1_000_000.0 + anyio.current_time(), **options)
        yield core, Client(app, core)


async def scrape(client: Client) -> Series:
    """Return what Prometheus would see."""
    answer = await client.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    found = series(answer.body)
    return {name.removeprefix("settlement_core_"): value for name, value in found.items()}


async def _lose_sight(_amount: Decimal) -> Decimal:
    raise ConnectionError("no answer from the ledger")


async def _hang(_amount: Decimal) -> Decimal:
    await anyio.sleep_forever()
    raise AssertionError


async def test_what_waits_is_told_with_how_much_and_since_when() -> None:
    """5 in doubt, 3 held, 7 without an owner, and 4 of which the engine never answers: each as old as it is."""
    metrics = Metrics(anyio.current_time)
    engine = MinimalEngine(script=[_lose_sight, _hang])
    world = world_with(metrics, engine=engine, connector=FakeConnector([Refused("no")]))
    async with scraped(world, metrics) as (core, client):
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await world.services[0].credit_settlement("alice", D(3), "b")
        await world.services[0].report_unattributed("tx 7", D(7), {})
        await until(lambda: world.account().outgoing.parked == 5 and world.account().incoming.parked == 3)
        await anyio.sleep(100)
        await core.request_settlement("alice", D(4), "c")
        await until(lambda: world.account().outgoing.open == 4)
        await core.request_settlement("alice", D(2), "d")
        await anyio.sleep(20)
        found = await scrape(client)
    for kind, count, amount, age in [
        ("outgoing,in_doubt", 1, 5, 120),
        ("incoming,held", 1, 3, 120),
        ("outgoing,open", 1, 4, 20),
        ("incoming,open", 0, 0, 0),
        ("incoming,released", 0, 0, 0),
    ]:
        direction, state = kind.split(",")
        labels = f'{{direction="{direction}",state="{state}"}}'
        assert found[f"unclosed_attempts{labels}"] == count, kind
        assert found[f"unclosed_amount{labels}"] == amount, kind
        assert found[f"unclosed_oldest_seconds{labels}"] == pytest.approx(age, abs=0.5), kind
    assert found['queued_amount{direction="outgoing"}'] == 2
    assert found['queued_amount{direction="incoming"}'] == 0
    assert found["due_accounts"] == 1
    assert (found["suspense_settlements"], found["suspense_amount"]) == (1, 7)
    assert found["suspense_oldest_seconds"] == pytest.approx(120, abs=0.5)
    assert (found["figures_complete"], found["figures_age_seconds"]) == (1, 0)


async def test_what_the_core_is_doing_is_told_as_of_now() -> None:
    """An engine that breaks its contract halts one direction of one account; the next scrape says so."""

    async def pay_twice(amount: Decimal) -> Decimal:
        return amount * 2

    metrics = Metrics(anyio.current_time)
    world = world_with(metrics, engine=MinimalEngine(script=[pay_twice]))
    async with scraped(world, metrics) as (core, client):
        await until(lambda: core.statistics().recovered)
        before = await scrape(client)
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: bool(core.statistics().halted))
        found = await scrape(client)
        core.refuse_new_work()
        stopping = await scrape(client)
    assert before["recovered"] == 1
    assert before['info{engine="MinimalEngine",verifiable="false"}'] == 1
    assert before['halted_lanes{direction="outgoing"}'] == 0
    assert found['halted_lanes{direction="outgoing"}'] == 1
    assert found['halted_lanes{direction="incoming"}'] == 0
    assert found['halts_total{direction="outgoing"}'] == 1
    assert (found["partitions"], found["partitions_held"]) == (1, 1)
    assert found["active_lanes"] == found["journal_pending"] == found["store_failures_in_a_row"] == 0
    assert found["journal_commands_total"] >= found["journal_batches_total"] > before["journal_batches_total"]
    assert (found["stopping"], stopping["stopping"]) == (0, 1)


class _CountingStore:
    """Counts commands, and does not answer while it is told not to."""

    def __init__(self) -> None:
        self._store = create_memory_store()
        self.threaded = False
        self.commands = 0
        self.broken = False
        self.takes_s = 0.0

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        if self.broken:
            raise StoreUnavailable("nobody there")
        self.commands += len(commands)
        time.sleep(self.takes_s)
        return self._store.apply(commands)

    def close(self) -> None:
        self._store.close()


async def test_the_store_is_asked_now_and_then_however_often_prometheus_asks() -> None:
    """A hundred scrapes at once, and more within 15 s, cost the store what one does."""
    metrics, store = Metrics(anyio.current_time), _CountingStore()
    async with scraped(world_with(metrics, store=store), metrics) as (core, client):
        await until(lambda: core.statistics().recovered)
        before = store.commands
        await scrape(client)
        cost = store.commands - before
        await anyio.sleep(14)
        for _ in range(5):
            assert (await scrape(client))["figures_age_seconds"] == pytest.approx(14)
        assert store.commands == before + cost
        await anyio.sleep(2)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(scrape, client)
        assert store.commands == before + 2 * cost
        assert cost == 3


async def test_the_cost_is_bounded_and_the_figures_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 200 of 250 accounts that wait, the figures are too small, and are not said to be complete."""
    monkeypatch.setattr(_figures, "MAX_COUNTED", 200)
    metrics, store = Metrics(anyio.current_time), _CountingStore()
    world = world_with(metrics, engine=MinimalEngine(script=[_hang] * 250), store=store)
    async with scraped(world, metrics) as (core, client):
        for number in range(250):
            await core.create_account(f"peer-{number}")
            await core.request_settlement(f"peer-{number}", D(1), "a")
        await until(lambda: len(world.engine.calls) == 250)
        before = store.commands
        found = await scrape(client)
        # two pages of attempts, two of accounts, each of these looked at, and one of unattributed money
        assert store.commands - before == 2 + 2 + 200 + 1
    assert found["due_accounts"] == 200
    assert found['unclosed_attempts{direction="outgoing",state="open"}'] == 200
    assert found["figures_complete"] == 0


async def test_a_store_that_does_not_answer_leaves_the_old_figures_and_their_age() -> None:
    """A scrape takes 3 s at most, shows everything else, and is soon right again once the store answers."""
    metrics, store = Metrics(anyio.current_time), _CountingStore()
    async with scraped(world_with(metrics, store=store), metrics) as (_, client):
        await scrape(client)
        store.broken = True
        await anyio.sleep(60)
        began = anyio.current_time()
        found = await scrape(client)
        assert anyio.current_time() - began == pytest.approx(3.0)
        assert found["figures_age_seconds"] == pytest.approx(63)
        assert found["store_failures_in_a_row"] > 0
        assert found["store_failures_total"] > 0
        store.broken = False
        await anyio.sleep(60)
        assert (await scrape(client))["figures_age_seconds"] == pytest.approx(0, abs=0.1)


async def test_figures_that_were_never_taken_are_infinitely_old() -> None:
    """And the others are not there, rather than 0."""
    metrics, store = Metrics(anyio.current_time), _CountingStore()
    async with scraped(world_with(metrics, store=store), metrics) as (_, client):
        store.broken = True
        found = await scrape(client)
        store.broken = False
    assert found["figures_age_seconds"] == float("inf")
    assert "due_accounts" not in found
    assert found["active_lanes"] == 0


async def test_an_engine_tells_figures_of_its_own() -> None:
    """Numbers, and amounts written as text; what is no number is left out, and 100 are shown at most."""

    class Telling(MinimalEngine):
        async def status(self) -> Any:
            return {
                "height": 7,
                "synced": True,
                "wallet": {"balance": "1.50", "address": "0x12"},
                "alarm": None,
                "huge": 10**400,
                "rest": {str(n): n for n in range(200)},
            }

    metrics = Metrics(anyio.current_time)
    async with scraped(world_with(metrics, engine=Telling()), metrics) as (_, client):
        found = await scrape(client)
    told = {name: value for name, value in found.items() if name.startswith("engine_figure{")}
    assert told['engine_figure{name="height"}'] == 7
    assert told['engine_figure{name="synced"}'] == 1
    assert told['engine_figure{name="wallet.balance"}'] == 1.5
    assert 'engine_figure{name="wallet.address"}' not in told
    assert 'engine_figure{name="huge"}' not in told
    assert len(told) == 100
    assert found["engine_status_up"] == 1


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_engine_that_cannot_tell_costs_no_other_figure(hangs: bool) -> None:
    """Whether it raises or hangs: it is down, and the store's figures are there."""

    class Silent(MinimalEngine):
        async def status(self) -> Any:
            if hangs:
                await anyio.sleep_forever()
            raise RuntimeError("node is gone")

    metrics = Metrics(anyio.current_time)
    async with scraped(world_with(metrics, engine=Silent()), metrics) as (_, client):
        found = await scrape(client)
    assert found["engine_status_up"] == 0
    assert found["figures_complete"] == 1


async def test_how_long_the_store_takes_is_counted() -> None:
    """Every batch is in one class of latencies, and those of a store in memory are in the first few."""
    metrics = Metrics(anyio.current_time)
    async with scraped(world_with(metrics), metrics) as (core, client):
        for number in range(20):
            await core.create_account(f"peer-{number}")
        found = await scrape(client)
    batches = found["journal_batches_total"]
    assert found["journal_commit_seconds_count"] == found['journal_commit_seconds_bucket{le="+Inf"}'] == batches
    classes = [value for name, value in found.items() if name.startswith("journal_commit_seconds_bucket")]
    assert classes == sorted(classes)
    assert found["journal_commit_seconds_sum"] > 0


async def test_a_slow_commit_is_told_from_a_quick_one() -> None:
    """One that takes the store at least 30 ms is in no class below that."""
    metrics, store = Metrics(anyio.current_time), _CountingStore()
    async with scraped(world_with(metrics, store=store), metrics) as (core, client):
        store.takes_s = 0.03
        await core.create_account("alice")
        store.takes_s = 0.0
        found = await scrape(client)
    quick, all_of_them = (found[f'journal_commit_seconds_bucket{{le="{le}"}}'] for le in ("0.025", "+Inf"))
    assert quick < all_of_them
    assert found["journal_commit_seconds_sum"] >= 0.03


async def test_webhooks_that_wait_are_shown() -> None:
    """With those dropped, which an operator should hear of."""
    metrics = Metrics(anyio.current_time)
    async with (
        open_webhooks("http://127.0.0.1:1/hook", "a secret of some length") as webhooks,
        scraped(world_with(metrics), metrics, webhooks=webhooks) as (_, client),
    ):
        found = await scrape(client)
    assert {name: value for name, value in found.items() if name.startswith("webhooks")} == {
        "webhooks_queued": 0,
        "webhooks_delivered_total": 0,
        "webhooks_tries_failed_total": 0,
        "webhooks_dropped_total": 0,
        "webhooks_abandoned_total": 0,
    }

"""`GET /metrics`: what observers counted, what the core is doing now, and what waits in its store.

A scrape counts what waits at most every `every_s` seconds, and gives up after `DEADLINE_S`. The age of these figures is
a metric too, so that old ones are not taken for new ones.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, islice
from typing import Any, Final

import anyio
from quart import Quart, Response

from settlement_core.auditing.kinds import KINDS, Grade
from settlement_core.auditing.verdict import Verdict
from settlement_core.core.core import Core
from settlement_core.core.journal import COMMIT_BOUNDS_S
from settlement_core.http._figures import Lot, StoreFigures, look_at_store
from settlement_core.http.summing import Summaries
from settlement_core.observers.metrics import PREFIX, Metrics
from settlement_core.observers.webhooks import Webhooks
from settlement_core.values.errors import SettlementError
from settlement_core.values.records import Direction

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.process_collector import ProcessCollector
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "metrics need prometheus-client: pip install 'settlement-core[metrics]'", name="prometheus_client"
    ) from None

__all__ = ["DEADLINE_S", "add_metrics"]

logger = logging.getLogger("settlement_core")

DEADLINE_S: Final = 3.0
"""How long a scrape waits for store and engine; Prometheus gives up after ten seconds unless told otherwise."""

MAX_ENGINE_FIGURES: Final = 100
"""Each is a series of its own."""

_DECIMAL: Final = re.compile(r"-?[0-9]{1,100}(\.[0-9]{1,100})?")

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


def add_metrics(
    app: Quart,
    core: Core,
    metrics: Metrics,
    *,
    summaries: Summaries | None = None,
    webhooks: Webhooks | None = None,
    every_s: float = 15.0,
    now: Callable[[], float] = time.time,
) -> None:
    """Add `GET /metrics` to the app, which is the operators': figures are as confidential as its other answers.

    Args:
        app: gets the route.
        core: whose state is shown. One `Metrics` is for one core.
        metrics: what the core's observer counted.
        summaries: makes the verdict that is shown; by default one of its own.
        webhooks: whose queue is shown too.
        every_s: how often the store, and the engine for figures of its own, are asked at most.
        now: the wall clock that durable times come from.
    """
    figures = _Figures(core, summaries or Summaries(core, now=now), every_s=every_s, now=now)
    metrics.registry.register(_Collector(lambda: _of_core(core)))
    metrics.registry.register(_Collector(figures.collect))
    if webhooks is not None:
        metrics.registry.register(_Collector(lambda: _of_webhooks(webhooks)))
    ProcessCollector(registry=metrics.registry)

    @app.get("/metrics")
    async def exposition() -> Response:
        await figures.refresh()
        return Response(metrics.exposition(), 200, {"content-type": _TEXT})


class _Collector:
    """What a registry asks at each scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        # asked when it is registered, to find names that clash; there are no figures yet, and no clashes
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families()


class _Figures:
    """The latest figures of the store and of the engine."""

    def __init__(self, core: Core, summaries: Summaries, *, every_s: float, now: Callable[[], float]) -> None:
        self._core = core
        self._summaries = summaries
        self._every_s = every_s
        self._now = now
        self._asked_at = -math.inf
        self._asking = False
        self._store: StoreFigures | None = None
        self._engine: dict[str, Any] = {}

    async def refresh(self) -> None:
        """Ask anew if that was long ago and nobody does so already; where that fails, the old figures stay."""
        # the clock may have been set back
        if self._asking or 0 <= self._now() - self._asked_at < self._every_s:
            return
        self._asking = True
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ask_store, name="figures of the store")
                tasks.start_soon(self._ask_engine, name="figures of the engine")
            self._asked_at = self._now()
            if self._store is not None:
                self._summaries.take(self._store, self._engine)
        finally:
            self._asking = False

    async def _ask_store(self) -> None:
        try:
            with anyio.move_on_after(DEADLINE_S):
                self._store = await look_at_store(self._core, self._now())
        except SettlementError as problem:
            logger.debug("cannot count what waits in the store: %s", problem)

    async def _ask_engine(self) -> None:
        told: dict[str, Any] = {"error": f"no answer within {DEADLINE_S:g} s"}
        with anyio.move_on_after(DEADLINE_S):
            told = await self._core.engine_status()
        self._engine = told

    def collect(self) -> Iterator[Metric]:
        """Yield the verdict, the figures, and how old they are."""
        yield from _of_verdict(self._summaries.verdict())
        yield from _of_engine(self._engine)
        store, now = self._store, self._now()
        age = math.inf if store is None else max(0.0, now - store.taken_at)
        yield _gauge("figures_age_seconds", "How old the figures of what waits in the store are.", age)
        if store is not None:
            yield from _of_store(store, now)


def _of_verdict(verdict: Verdict | None) -> Iterator[Metric]:
    """Yield a series for each grade and each kind of reason, so that all are there from the beginning."""
    grades = _family("verdict", "1 for how the money is: good, waits, stuck or wrong; 0 for the others.", "grade")
    for grade in Grade:
        grades.add_metric([grade], verdict is not None and verdict.grade is grade)
    yield grades
    reasons = _family("verdict_reasons", "How many there are of each kind of reason for the verdict.", "kind", "grade")
    for kind, facts in KINDS.items():
        found = [reason.count for reason in (verdict.reasons if verdict else ()) if reason.kind is kind]
        reasons.add_metric([kind, facts.grade], sum(found))
    yield reasons


_UNITS: Final = "in standard units as a float; of the whole store, so not to be added up over workers"


def _of_store(figures: StoreFigures, now: float) -> Iterator[Metric]:
    says = "1 unless more may wait than is counted: then counts and amounts are too small, oldest ages are right."
    yield _gauge("figures_complete", says, figures.complete)
    yield from _of_attempts(figures, now)
    yield _gauge("due_accounts", "Accounts with something to do, in the whole store.", figures.due_accounts)
    queued = _family("queued_amount", f"Money of these accounts that is not claimed yet, {_UNITS}.", "direction")
    for direction, amount in figures.queued.items():
        queued.add_metric([direction], float(amount))
    yield queued
    suspense = figures.suspense
    yield _gauge("suspense_settlements", "Incoming settlements without an owner now.", suspense.count)
    yield _gauge("suspense_amount", f"Their money, {_UNITS}.", float(suspense.amount))
    yield _gauge("suspense_oldest_seconds", "How long the oldest of them waits.", _age(suspense, now))


def _of_attempts(figures: StoreFigures, now: float) -> Iterator[Metric]:
    labels = ("direction", "state")
    counts = _family("unclosed_attempts", "Attempts that are not closed, in the whole store.", *labels)
    amounts = _family("unclosed_amount", f"Money of these attempts, {_UNITS}.", *labels)
    ages = _family("unclosed_oldest_seconds", "How long ago the oldest of these attempts was claimed.", *labels)
    for kind, lot in figures.unclosed.items():
        counts.add_metric(kind, lot.count)
        amounts.add_metric(kind, float(lot.amount))
        ages.add_metric(kind, _age(lot, now))
    yield from (counts, amounts, ages)


def _age(lot: Lot, now: float) -> float:
    return 0.0 if lot.since is None else max(0.0, now - lot.since)


def _of_core(core: Core) -> Iterator[Metric]:
    state = core.statistics()
    info = {"engine": state.engine, "verifiable": str(state.verifiable).lower()}
    yield InfoMetricFamily(PREFIX, "What settles here.", value=info)
    yield _gauge("recovered", "1 once every account with unfinished work has been taken up.", state.recovered)
    yield _gauge("stopping", "1 while the core takes no new work.", state.stopping)
    yield _gauge("active_lanes", "Directions of accounts at work, or waiting to try again.", state.active_lanes)
    yield _gauge("partitions", "Parts into which the store's accounts are divided.", state.partitions)
    yield _gauge("partitions_held", "Those that this worker looks after.", state.partitions_held)
    halted = _family("halted_lanes", "Directions of accounts that stopped since an invariant broke.", "direction")
    for direction in Direction:
        # an account's id holds no spaces
        halted.add_metric([direction], sum(lane.endswith(f" {direction}") for lane in state.halted))
    yield halted
    journal = state.journal
    yield _gauge("journal_pending", "Commands that wait for the store.", journal.pending)
    yield _gauge("store_failures_in_a_row", "How often the store did not answer since it last did.", journal.failures)
    yield _counter("journal_batches", "Batches of commands made durable.", journal.batches)
    yield _counter("journal_commands", "Commands made durable; by batches, their size.", journal.commands)
    bounds = [*map(str, COMMIT_BOUNDS_S), "+Inf"]
    commits = HistogramMetricFamily(f"{PREFIX}_journal_commit_seconds", "How long the store took to apply a batch.")
    commits.add_metric([], list(zip(bounds, accumulate(journal.commits_within), strict=True)), journal.commits_s)
    yield commits


def _of_webhooks(webhooks: Webhooks) -> Iterator[Metric]:
    state = webhooks.statistics()
    yield _gauge("webhooks_queued", "Webhook messages that wait to be delivered.", state.queued)
    yield _counter("webhooks_delivered", "Webhook messages that the receiver took.", state.delivered)
    yield _counter("webhooks_tries_failed", "Tries to deliver one that failed.", state.tries_failed)
    yield _counter("webhooks_dropped", "Webhook messages never queued, since too many were.", state.dropped)
    yield _counter("webhooks_abandoned", "Webhook messages given up after too long.", state.abandoned)


def _of_engine(told: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("engine_status_up", "0 if the engine failed to tell its own figures.", "error" not in told)
    yield _gauge("engine_alarm", "1 while the engine has an alarm: it pays nothing new.", bool(told.get("alarm")))
    family = _family("engine_figure", "The numbers in what the engine tells of its ledger, by their names.", "name")
    for name, number in islice(_numbers(told, ""), MAX_ENGINE_FIGURES):
        family.add_metric([name], number)
    yield family


def _numbers(told: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    """Yield what is a number, or is written like one, since engines tell amounts exactly."""
    for name, value in told.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{path}{name}.")
        elif isinstance(value, int | float) or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
            with contextlib.suppress(OverflowError):  # an integer may have any number of digits
                yield f"{path}{name}", float(value)


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", says, value=float(value))


def _counter(name: str, says: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", says, value=float(value))


def _family(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", says, labels=labels)

"""Events as Prometheus metrics, on a registry of their own: counts, amounts and latencies, nothing per account.

Amounts are floats here, since Prometheus has nothing else: good for curves and alerts, never for decisions or books.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from settlement_core.observers._counted import COUNTED, Counted
from settlement_core.observers._requests import RequestTimes
from settlement_core.values.events import CreditAcknowledged, Event, SettlementRecorded
from settlement_core.values.records import Direction

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.metrics_core import Metric
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "metrics need prometheus-client: pip install 'settlement-core[metrics]'", name="prometheus_client"
    ) from None

__all__ = ["PREFIX", "Metrics"]

PREFIX: Final = "settlement_core"

# A simulated ledger answers in milliseconds, a chain in minutes.
_ATTEMPT_S: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

_IN_UNITS: Final = "in standard units; a float, which Prometheus counts with, so never for books"


class Metrics:
    """An `Observer` that counts. `exposition` writes everything down for Prometheus.

    Args:
        clock: seconds that only ever grow, for latencies.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._counters = {kind: _Counters(counted, self.registry) for kind, counted in COUNTED.items()}
        self._requests = RequestTimes(clock)
        self._request_s = Histogram(
            f"{PREFIX}_request_seconds",
            "From a settlement request to the record that it was settled, within one run of this process; requests "
            "are matched with attempts in the order in which they came",
            buckets=_ATTEMPT_S,
            registry=self.registry,
        )
        attempt_s = Histogram(
            f"{PREFIX}_attempt_seconds",
            "From an attempt's claim, in this process, to the record of its end; waiting and retries included",
            ["direction"],
            buckets=_ATTEMPT_S,
            registry=self.registry,
        )
        self._attempt_s = {direction: attempt_s.labels(direction) for direction in Direction}

    def observe(self, event: Event) -> None:
        """Count the event."""
        counters = self._counters.get(type(event))
        if counters is not None:
            counters.count(event)
        self._measure(event)

    def exposition(self) -> bytes:
        """Return all metrics of the registry in Prometheus' text format, version 0.0.4."""
        return generate_latest(_WithoutCreation(self.registry))

    def _measure(self, event: Event) -> None:
        for took_s in self._requests.observe(event):
            self._request_s.observe(took_s)
        match event:
            case SettlementRecorded():
                self._attempt_s[Direction.OUTGOING].observe(event.took_s)
            case CreditAcknowledged():
                self._attempt_s[Direction.INCOMING].observe(event.took_s)


class _Counters:
    """How often one type of event was told, and how much it was about."""

    def __init__(self, counted: Counted, registry: CollectorRegistry) -> None:
        label = counted.label
        names = () if label is None else (label.name,)
        self._value_of: Callable[[Any], str] = (lambda _event: "") if label is None else label.of
        times = Counter(f"{PREFIX}_{counted.name}", f"{counted.says}.", names, registry=registry)
        amounts = None
        if counted.amount is not None:
            says = f"{counted.says}: {_IN_UNITS}."
            amounts = Counter(f"{PREFIX}_{counted.name}_amount", says, names, registry=registry)
        values = ("",) if label is None else label.values
        # each begins at 0: the first one in doubt must be an increase, not the birth of a series
        self._times = {value: times.labels(value) if names else times for value in values}
        self._amounts = (
            {} if amounts is None else {value: amounts.labels(value) if names else amounts for value in values}
        )
        self._amount = counted.amount or ""

    def count(self, event: Event) -> None:
        value = self._value_of(event)
        self._times[value].inc()
        if self._amounts:
            amount = float(getattr(event, self._amount))
            # a request may be of a thousand digits; infinity would be the last thing this counter ever says
            if math.isfinite(amount):
                self._amounts[value].inc(amount)


class _WithoutCreation:
    """The registry without the series that tell when each counter was made: one for each, and of no use here."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric

"""Settlements as OpenTelemetry spans: from the request through claim and effect to the record of its end.

A span `settlement` lasts from a request until its money is settled. A span `settle`, or `credit` for an incoming
settlement, lasts from an attempt's claim to its end; what happens on the way are its events. An attempt is a child of
the oldest request it settles, and linked with all of them. Spans carry ids, amounts as text and reasons as logs have
them, never a message body. What has not ended when the process does has no span.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from settlement_core.observers._unsettled import Unsettled
from settlement_core.values.events import (
    AccountHalted,
    AttemptClaimed,
    AttemptForgotten,
    AttemptWaiting,
    CoreStopped,
    CreditAcknowledged,
    CreditHeld,
    Event,
    LeaseGone,
    MovedMoreThanKnown,
    MovedUnrecorded,
    PaymentNoted,
    PaymentRejected,
    SettlementInDoubt,
    SettlementRecorded,
    SettlementRequested,
)
from settlement_core.values.records import Direction

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "tracing needs OpenTelemetry: pip install 'settlement-core[otel]'", name="opentelemetry"
    ) from None

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["TracingObserver", "open_tracing"]

logger = logging.getLogger("settlement_core")

MAX_LINKS: Final = 128
"""Links of one attempt, which may settle a thousand requests: what SDKs keep by default."""

_FACTS: Final = ("account_id", "direction", "attempt_id", "key", "amount", "attempted", "reason", "failures", "delay_s")
_ON_THE_WAY: Final = (
    PaymentNoted,
    AttemptWaiting,
    PaymentRejected,
    MovedUnrecorded,
    AttemptForgotten,
    MovedMoreThanKnown,
)


class TracingObserver:
    """An `Observer` that makes spans.

    Args:
        provider: where they go; the application's own by default. Its span processor must not wait, so have it export
            in batches; `open_tracing` makes such a one.
        now_ns: the wall clock, nanoseconds since 1970.
    """

    def __init__(self, provider: TracerProvider | None = None, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._tracer = trace.get_tracer("settlement_core", tracer_provider=provider)
        self._now_ns = now_ns
        self._requests: Unsettled[Span] = Unsettled()
        # one attempt is open at a time, so there are at most two for each account at work
        self._attempts: dict[tuple[str, str], tuple[str, Span]] = {}

    def observe(self, event: Event) -> None:
        """Begin, go on with, or end what the event is about."""
        match event:
            case SettlementRequested():
                self._request(event)
            case AttemptClaimed():
                self._claim(event)
            case SettlementRecorded():
                self._record(event)
            case CoreStopped():
                self._stop(event)
            case SettlementInDoubt() | CreditAcknowledged() | CreditHeld() | AccountHalted() | LeaseGone():
                self._conclude(event)
            case _:
                self._go_on(event)

    def _request(self, event: SettlementRequested) -> None:
        if self._requests.full:
            return
        span = self._tracer.start_span(
            "settlement",
            context=Context(),  # a trace of its own: it outlives the HTTP request it came with
            kind=SpanKind.CONSUMER,
            attributes=_attributes(event),
            start_time=self._now_ns(),
        )
        self._requests.request(event.account_id, event.amount, span)

    def _claim(self, event: AttemptClaimed) -> None:
        key = (event.account_id, str(event.direction))
        attempt_id, _ = self._attempts.get(key, ("", None))
        if attempt_id == event.attempt_id:
            self._go_on(event)
            return
        # the one before was given back without a word, for instance since the account was to be another worker's
        self._end_attempt(event.account_id, event.direction, None, problem="given back")
        outgoing = event.direction == Direction.OUTGOING
        requests = self._requests.claim(event.account_id, event.amount) if outgoing and event.fresh else []
        span = self._tracer.start_span(
            "settle" if outgoing else "credit",
            context=trace.set_span_in_context(requests[0], Context()) if requests else Context(),
            kind=SpanKind.CLIENT,
            attributes=_attributes(event) | {"settlement.fresh": event.fresh, "settlement.requests": len(requests)},
            links=[Link(request.get_span_context()) for request in requests[:MAX_LINKS]],
            start_time=self._now_ns(),
        )
        for request in requests:
            attributes = {"settlement.attempt_id": event.attempt_id}
            request.add_event("AttemptClaimed", attributes, timestamp=self._now_ns())
            request.add_link(span.get_span_context())
        self._attempts[key] = (event.attempt_id, span)

    def _go_on(self, event: Event) -> None:
        """Add what happened on the way to the attempt it is about."""
        if not isinstance(event, (*_ON_THE_WAY, AttemptClaimed)):
            return
        direction = getattr(event, "direction", Direction.OUTGOING)
        attempt_id, span = self._attempts.get((event.account_id, str(direction)), ("", None))
        # money queued again is waited for without an attempt
        if span is not None and event.attempt_id == attempt_id:
            span.add_event(type(event).__name__, _attributes(event), timestamp=self._now_ns())

    def _record(self, event: SettlementRecorded) -> None:
        nothing = "nothing was settled, it is queued again" if event.amount == 0 else ""
        self._end_attempt(event.account_id, Direction.OUTGOING, event, problem=nothing)
        whole = event.amount == event.attempted
        self._end_requests(self._requests.close(event.account_id, settled=event.amount, whole=whole))

    def _conclude(self, event: SettlementInDoubt | CreditAcknowledged | CreditHeld | AccountHalted | LeaseGone) -> None:
        directions: Iterable[str] = (Direction.OUTGOING,)
        problem = ""
        match event:
            case CreditAcknowledged():
                directions = (Direction.INCOMING,)
            case CreditHeld():
                directions, problem = (Direction.INCOMING,), f"held: {event.reason}"
            case SettlementInDoubt():
                problem = f"in doubt: {event.reason}"
            case AccountHalted():
                directions, problem = (event.direction,), f"halted: {event.reason}"
            case LeaseGone():
                directions, problem = Direction, str(event)
        for direction in directions:
            self._end_attempt(event.account_id, direction, event, problem=problem)
        if Direction.OUTGOING in directions:
            # what is in doubt is out of the way: the account goes on with what waits
            waiting = not isinstance(event, SettlementInDoubt)
            self._end_requests(self._requests.drop(event.account_id, waiting=waiting), problem)

    def _stop(self, event: CoreStopped) -> None:
        for account_id, direction in list(self._attempts):
            self._end_attempt(account_id, direction, event, problem="unfinished when the core stopped")
        self._end_requests(self._requests.drop_all(), "unfinished when the core stopped")

    def _end_attempt(self, account_id: str, direction: str, event: Event | None, *, problem: str) -> None:
        _, span = self._attempts.pop((account_id, str(direction)), ("", None))
        if span is None:
            return
        if event is not None:
            span.add_event(type(event).__name__, _attributes(event), timestamp=self._now_ns())
        self._end(span, problem)

    def _end_requests(self, spans: list[Span], problem: str = "") -> None:
        for span in spans:
            self._end(span, problem)

    def _end(self, span: Span, problem: str) -> None:
        if problem:
            span.set_status(Status(StatusCode.ERROR, problem))
        span.end(self._now_ns())


def _attributes(event: Event) -> dict[str, str | bool | int | float]:
    """Return the facts that belong into a trace; amounts are text, as a float would round them."""
    facts = event.facts()
    found: dict[str, str | bool | int | float] = {}
    for name in _FACTS:
        value = facts.get(name)
        if isinstance(value, str | bool | int | float):
            found[f"settlement.{name}"] = str(value) if isinstance(value, str) else value
    return found


@contextmanager
def open_tracing(
    exporter: SpanExporter | None = None, *, service: str = "settlement-core", drain_s: float = 5.0
) -> Iterator[TracingObserver]:
    """Give an observer whose spans a thread exports in batches; at the end of the block, export the rest.

    Open it around the loop, not in it: the end waits for the exporter, `drain_s` seconds at most.

    Args:
        exporter: where to; by default to the tracer provider that the application, or `opentelemetry-instrument`, has
            set up, which is then theirs to end; if there is none, OTLP over HTTP as `OTEL_EXPORTER_OTLP_…` say.
        service: the resource's `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` give it.
        drain_s: see above.
    """
    if exporter is None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield TracingObserver()
        return
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            exporter = OTLPSpanExporter()
    except ModuleNotFoundError as problem:
        raise ModuleNotFoundError(
            "exporting traces needs more of OpenTelemetry: pip install opentelemetry-sdk "
            "opentelemetry-exporter-otlp-proto-http",
            name=problem.name,
        ) from None
    resource = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
    provider = SdkProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield TracingObserver(provider)
    finally:
        # which would wait for up to 30 s, while a service manager waits for us
        ending = threading.Thread(target=provider.shutdown, name="end of tracing", daemon=True)
        ending.start()
        ending.join(drain_s)
        if ending.is_alive():
            logger.error("the last spans were not taken within %g s, and are lost", drain_s)

"""One settlement can be followed from its request through claim and effect to its record."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from settlement_core.abc import Refused, Unanswered
from settlement_core.observers.tracing import TracingObserver, open_tracing
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.events import AttemptClaimed, Event, LeaseGone, MessageFailed, SettlementRequested
from settlement_core.values.records import Direction
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until
from tests.observers.listening import every_kind, sample, world_with

EPOCH_NS = 1_000_000 * 10**9
ROOT = Path(__file__).parents[2]


class Traces:
    """An observer, and what it exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observer = TracingObserver(self._provider, now_ns=self._now_ns)
        self.running = True

    def _now_ns(self) -> int:
        return EPOCH_NS + (round(anyio.current_time() * 1e9) if self.running else 0)

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of a name, in the order of their beginning."""
        found = [span for span in self._exporter.get_finished_spans() if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def close(self) -> None:
        """Give everything back."""
        self._provider.shutdown()


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Give a new one."""
    made = Traces()
    yield made
    made.close()


def fact(span: ReadableSpan, name: str) -> object:
    """Return one attribute."""
    return (span.attributes or {}).get(f"settlement.{name}")


def steps(span: ReadableSpan) -> list[str]:
    """Return what happened on the way."""
    return [event.name for event in span.events]


def took_s(span: ReadableSpan) -> float:
    """Return how long it lasted."""
    assert span.end_time is not None
    assert span.start_time is not None
    return (span.end_time - span.start_time) / 1e9


def problem(span: ReadableSpan) -> str | None:
    """Return what went wrong, if anything did."""
    assert (span.status.status_code is StatusCode.ERROR) == bool(span.status.description)
    return span.status.description


async def settle(world: World, *amounts: int, settled: int) -> None:
    """Run a life in which these are requested, 1 s apart."""
    async with world.core() as core:
        await core.create_account("alice")
        for amount in amounts:
            await core.request_settlement("alice", D(amount), f"key {amount}")
            await anyio.sleep(1)
        await until(lambda: world.account().outgoing.settled == settled)


@pytest.mark.anyio
async def test_a_settlement_is_one_trace_from_request_to_record(traces: Traces) -> None:
    """With key, account, attempt and amounts; the attempt says when the payment was noted, and when it ended."""
    world = world_with(traces.observer, engine=VerifiableEngine(MemoryLedger(final_after_s=30)))
    await settle(world, 8, settled=8)
    (request,), (attempt,) = traces.spans("settlement"), traces.spans("settle")
    (recorded,) = world.attempts()
    assert request.context is not None
    assert attempt.context is not None
    assert request.parent is None
    assert attempt.parent is not None
    assert attempt.parent.span_id == request.context.span_id
    assert [link.context.span_id for link in attempt.links] == [request.context.span_id]
    assert [link.context.span_id for link in request.links] == [attempt.context.span_id]
    assert [fact(request, name) for name in ("account_id", "key", "amount")] == ["alice", "key 8", "8"]
    assert fact(attempt, "account_id") == "alice"
    assert fact(attempt, "attempt_id") == recorded.attempt_id
    assert fact(attempt, "amount") == "8"
    assert steps(request) == ["AttemptClaimed"]
    assert steps(attempt) == ["PaymentNoted", "SettlementRecorded"]
    assert took_s(request) == pytest.approx(30, abs=0.5)
    assert took_s(attempt) == pytest.approx(30, abs=0.5)
    assert problem(request) is problem(attempt) is None


@pytest.mark.anyio
async def test_an_attempt_is_linked_with_every_request_it_settles(traces: Traces) -> None:
    """Two requests come while the first is being paid; one attempt settles both, and each ends with it."""
    world = world_with(traces.observer, engine=MinimalEngine(takes_s=10))
    await settle(world, 1, 2, 4, settled=7)
    requests, attempts = traces.spans("settlement"), traces.spans("settle")
    ids = [request.context.span_id for request in requests if request.context]
    assert [[link.context.span_id for link in attempt.links] for attempt in attempts] == [ids[:1], ids[1:]]
    assert [fact(attempt, "requests") for attempt in attempts] == [1, 2]
    assert [round(took_s(request)) for request in requests] == [10, 19, 18]


@pytest.mark.anyio
async def test_a_settlement_that_takes_several_attempts_is_followed_through_all(traces: Traces) -> None:
    """Refused at first and queued again: the request goes on, and its second attempt is its child too."""

    async def refuse(_amount: Decimal) -> Decimal:
        raise SettlementFailed("no liquidity")

    world = world_with(traces.observer, engine=MinimalEngine(script=[refuse]))
    await settle(world, 8, settled=8)
    (request,), attempts = traces.spans("settlement"), traces.spans("settle")
    assert [attempt.parent and attempt.parent.span_id for attempt in attempts] == [
        request.context and request.context.span_id
    ] * 2
    assert [problem(attempt) for attempt in attempts] == ["nothing was settled, it is queued again", None]
    assert steps(request) == ["AttemptClaimed", "AttemptClaimed"]
    assert problem(request) is None


@pytest.mark.anyio
async def test_what_went_wrong_on_the_way_is_told_where_it_happened(traces: Traces) -> None:
    """A payment is rejected, the next attempt cannot be prepared at first, and is claimed again as it was."""
    engine = VerifiableEngine(MemoryLedger(reject_next=1))
    world = world_with(traces.observer, engine=engine)
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: bool(engine.ledger.refused))
        engine.fail.append("prepare")
        await until(lambda: world.account().outgoing.settled == 8)
    first, second = traces.spans("settle")
    assert steps(first) == ["PaymentNoted", "PaymentRejected", "SettlementRecorded"]
    assert steps(second) == ["AttemptWaiting", "AttemptClaimed", "PaymentNoted", "SettlementRecorded"]
    waiting = second.events[0].attributes or {}
    assert waiting["settlement.reason"] == "prepare raised RuntimeError: prepare broke"


@pytest.mark.anyio
async def test_what_a_person_must_decide_is_an_error_and_the_next_one_is_not(traces: Traces) -> None:
    """In doubt and held both end their spans, and say why."""

    async def lose_sight(_amount: Decimal) -> Decimal:
        await anyio.sleep(2)
        raise ConnectionError("no answer")

    world = world_with(
        traces.observer,
        engine=MinimalEngine(script=[lose_sight]),
        connector=FakeConnector([Unanswered("503"), Refused("409 what?")]),
    )
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: bool(world.engine.calls))
        await core.request_settlement("alice", D(2), "b")
        await world.services[0].credit_settlement("alice", D(3), "c")
        await until(lambda: world.account().outgoing.settled == 2 and world.account().incoming.parked == 3)
    doubt = "in doubt: settle did not answer but raised ConnectionError: no answer"
    assert [problem(span) for span in traces.spans("settle")] == [doubt, None]
    assert [problem(span) for span in traces.spans("settlement")] == [doubt, None]
    (credit,) = traces.spans("credit")
    assert problem(credit) == "held: 409 what?"
    assert steps(credit) == ["AttemptWaiting", "CreditHeld"]
    assert credit.parent is None


@pytest.mark.anyio
async def test_what_the_end_of_the_core_cuts_short_is_said_to_be_unfinished(traces: Traces) -> None:
    """Nothing is left open, so nothing is missing from the traces; the next life takes it up in a new span."""
    world = world_with(traces.observer, engine=VerifiableEngine(MemoryLedger(final_after_s=30)))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(8), "a")
        await until(lambda: bool(world.engine.ledger.submissions))
    async with world.core():
        await until(lambda: world.account().outgoing.settled == 8)
    assert [problem(span) for span in traces.spans("settlement")] == ["unfinished when the core stopped"]
    cut, taken_up = traces.spans("settle")
    assert problem(cut) == "unfinished when the core stopped"
    assert problem(taken_up) is None
    assert (fact(cut, "fresh"), fact(taken_up, "fresh")) == (True, False)
    assert fact(cut, "attempt_id") == fact(taken_up, "attempt_id")


def test_an_account_lost_to_another_worker_is_traced_no_further_here(traces: Traces) -> None:
    """Both directions and all that waits end, as somebody else's."""
    traces.running = False
    observe = traces.observer.observe
    for number in (1, 2):
        observe(SettlementRequested(account_id="alice", key=f"key {number}", amount=D(number)))
    for direction in Direction:
        observe(sample(AttemptClaimed, attempt_id=f"{direction} 1", direction=direction, amount=D(1)))
    observe(LeaseGone(account_id="alice"))
    ended = [*traces.spans("settlement"), *traces.spans("settle"), *traces.spans("credit")]
    assert len(ended) == 4
    assert all("another worker's by now" in (problem(span) or "") for span in ended)


def test_an_attempt_given_back_without_a_word_ends_with_the_next_one(traces: Traces) -> None:
    """At most one is open for each direction of an account: nothing piles up."""
    traces.running = False
    for number in range(3):
        traces.observer.observe(sample(AttemptClaimed, attempt_id=f"attempt {number}"))
    assert [problem(span) for span in traces.spans("settle")] == ["given back", "given back"]


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_any_event_at_any_time_is_no_trouble(traces: Traces, kind: type[Event]) -> None:
    """Also those of attempts nobody heard of: an observer must not raise."""
    traces.running = False
    for _ in range(2):
        traces.observer.observe(sample(kind))


def test_a_message_is_never_traced(traces: Traces) -> None:
    """What a peer sent may be anybody's secret, and so may be an engine's words about it."""
    traces.running = False
    traces.observer.observe(sample(SettlementRequested))
    traces.observer.observe(sample(AttemptClaimed))
    traces.observer.observe(MessageFailed(account_id="alice", reason="cannot read {'seed': 's3cret'}"))
    traces.observer.observe(LeaseGone(account_id="alice"))
    for span in [*traces.spans("settlement"), *traces.spans("settle")]:
        assert "s3cret" not in span.to_json()


def test_spans_are_exported_at_the_end_at_the_latest() -> None:
    """In batches by a thread of their own, and the service has a name."""
    exporter = InMemorySpanExporter()
    with open_tracing(exporter, service="settlement of mine") as observer:
        observer.observe(sample(AttemptClaimed))
        observer.observe(LeaseGone(account_id="alice"))
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "settlement of mine"


def test_a_collector_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The last spans are lost then, which is logged."""
    released, taken = threading.Event(), threading.Event()

    class Hanging(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            released.wait()
            result = super().export(spans)
            taken.set()
            return result

    with caplog.at_level(logging.ERROR, "settlement_core"):
        with open_tracing(Hanging(), drain_s=0.01) as observer:
            observer.observe(sample(AttemptClaimed))
            observer.observe(LeaseGone(account_id="alice"))
        assert caplog.messages == ["the last spans were not taken within 0.01 s, and are lost"]
    released.set()
    assert taken.wait(30)


def test_the_environment_names_the_service_and_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's specification says; the exporter is made, and nothing is sent as nothing happened."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with open_tracing():
        pass
    exporter = InMemorySpanExporter()
    with open_tracing(exporter) as observer:
        observer.observe(sample(AttemptClaimed))
        observer.observe(LeaseGone(account_id="alice"))
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "theirs"


def test_without_the_library_an_error_says_what_to_install() -> None:
    """In a process in which it cannot be imported."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import settlement_core.observers.tracing\n"
        "except ModuleNotFoundError as problem:\n    print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "tracing needs OpenTelemetry: pip install 'settlement-core[otel]'\n"


_APPLICATION = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

theirs = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(theirs))
trace.set_tracer_provider(provider)

from settlement_core.observers.tracing import open_tracing
from settlement_core.values.events import AttemptClaimed, LeaseGone
from tests.observers.listening import sample

sys.modules["opentelemetry.exporter"] = None
with open_tracing() as observer:
    observer.observe(sample(AttemptClaimed))
    observer.observe(LeaseGone(account_id="alice"))
with trace.get_tracer("their own").start_as_current_span("afterwards"):
    pass
print(*(span.name for span in theirs.get_finished_spans()))
"""


def test_an_application_that_traces_already_gets_our_spans_too() -> None:
    """By the provider it has set up, which goes on afterwards; no exporter of ours is made, or even looked for."""
    done = subprocess.run([sys.executable, "-c", _APPLICATION], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "settle afterwards\n"


def test_without_an_exporter_an_error_says_what_to_install() -> None:
    """In a process in which it cannot be imported."""
    code = (
        "import sys; sys.modules['opentelemetry.exporter'] = None\n"
        "from settlement_core.observers.tracing import open_tracing\n"
        "try:\n    with open_tracing(): pass\n"
        "except ModuleNotFoundError as problem:\n    print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
    assert done.stdout == f"exporting traces needs more of OpenTelemetry: pip install {packages}\n"

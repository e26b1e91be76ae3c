"""The suite itself: every check can fail, and an honest engine passes all of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import pytest

from settlement_core.conformance import CHECKS, Options, Report, Verdict, choose, examine
from tests.conformance.planted import DROP, JSON, SCALE, Call, Engine, Reply, Twist, planted_engine

PATIENCE_S = 10.0
"""For what does come; it costs nothing."""

IMPATIENCE_S = 0.5
"""For what a planted fault keeps from coming."""

NEVER_SEEN = {"settlements.failed", "idempotency.kept", "credits.pace"}
"""What no black box shows, and the suite says so."""


def honest(_engine: Engine, _call: Call) -> Reply | None:
    """Do nothing else than what is right."""
    return None


def run_suite(
    names: Sequence[str] = (),
    *,
    twist: Twist = honest,
    flaws: Sequence[str] = (),
    message: bytes | None = b'{"any":"JSON"}',
    restarts: bool = True,
    patience_s: float = PATIENCE_S,
    backend: str = "trio",
) -> Report:
    """Examine a planted engine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    with planted_engine(f"http://127.0.0.1:{port}", twist, frozenset(flaws)) as (url, engine):

        async def restart() -> None:
            await anyio.to_thread.run_sync(engine.restart)

        options = Options(
            asset_scale=SCALE,
            patience_s=patience_s,
            pays_itself=True,
            message=message,
            restart=restart if restarts else None,
        )
        run = partial(examine, url, listen=("127.0.0.1", port), options=options, checks=choose(names))
        return anyio.run(run, backend=backend)


def deviations(report: Report) -> dict[str, Verdict]:
    """Return what did not simply hold."""
    return {f.check.name: f.verdict for f in report.findings if f.verdict is not Verdict.HELD}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_an_honest_engine_is_found_honest(backend: str) -> None:
    """Only that it speaks no HTTP/2 is told, and what nobody can see from outside; its accounts are all deleted."""
    engines = []

    def watch(engine: Engine, _call: Call) -> Reply | None:
        engines.append(engine)
        return None

    report = run_suite(twist=watch, backend=backend)
    expected = dict.fromkeys(NEVER_SEEN, Verdict.NOT_OBSERVED) | {"transport.http2": Verdict.ADVICE}
    assert deviations(report) == expected, [f for f in report.findings if f.check.name not in expected]
    assert report.ok
    assert len(engines[0].keys) > 15
    assert engines[0].accounts == set()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is planted, the check that must see it, and what it must say of it."""

    check: str
    twist: Twist = honest
    flaws: tuple[str, ...] = ()
    verdict: Verdict = Verdict.BROKEN
    beside: tuple[str, ...] = ()


def at(part: str, reply: Reply, *, method: str = "POST") -> Twist:
    """Return a twist: requests whose path ends so are answered like this."""
    return lambda _engine, call: reply if call.method == method and call.path.endswith(part) else None


def within(part: str, reply: Reply, *, method: str = "POST") -> Twist:
    """Return a twist: requests with this in their path are answered like this."""
    return lambda _engine, call: reply if call.method == method and part in call.path else None


def holding(part: bytes, reply: Reply, *, path: str = "") -> Twist:
    """Return a twist: requests with this in their body are answered like this."""
    return lambda _engine, call: reply if part in call.body and path in call.path else None


def second(method: str, reply: Reply) -> Twist:
    """Return a twist: the same request a second time is answered like this."""
    seen = set()

    def twist(_engine: Engine, call: Call) -> Reply | None:
        known = (call.path, call.body, call.headers.get("idempotency-key")) in seen
        seen.add((call.path, call.body, call.headers.get("idempotency-key")))
        return reply if known and call.method == method else None

    return twist


def echo_double(_engine: Engine, call: Call) -> Reply | None:
    """Pass amounts through a double."""
    if not call.path.endswith("settlements"):
        return None
    content = json.loads(call.body)
    return Reply(201, json.dumps(content | {"amount": str(int(float(content["amount"])))}).encode())


def charset(_engine: Engine, call: Call) -> Reply | None:
    """Take no parameters in a content type."""
    return Reply(415) if "charset" in call.headers.get("content-type", "") else None


def lenient(*parts: str) -> Twist:
    """Return a twist: settlements with an account of these are all accepted."""
    return lambda _engine, call: Reply(201, b"{}") if any(p in call.path for p in parts) else None


def every_seventh() -> Twist:
    """Return a twist: now and then there is no time for a settlement."""
    count = iter(range(10**6))
    return lambda _engine, call: Reply(503) if "settlements" in call.path and next(count) % 7 == 6 else None


def keyless(_engine: Engine, call: Call) -> Reply | None:
    """Settle without a key."""
    return Reply(201, call.body) if "settlements" in call.path and "idempotency-key" not in call.headers else None


def colon_key(_engine: Engine, call: Call) -> Reply | None:
    """Refuse keys with a colon."""
    return Reply(400) if ":" in call.headers.get("idempotency-key", "") else None


ADVICE = Verdict.ADVICE
OK, NO, CRASH = Reply(201, b'{"id":"x"}'), Reply(400), Reply(500)

FAULTS = [
    Fault("accounts.create", at("/accounts", CRASH)),
    Fault("accounts.create", at("/accounts", Reply(200)), verdict=ADVICE),
    Fault("accounts.create-body", at("/accounts", Reply(201, b"CREATED")), verdict=ADVICE),
    Fault("accounts.create-body", at("/accounts", Reply(201, b'{"id":"other"}')), verdict=ADVICE),
    Fault("accounts.create-again", second("POST", Reply(409)), verdict=ADVICE),
    Fault("accounts.create-unnamed", holding(b'"id": null', NO), verdict=ADVICE),
    Fault("accounts.create-unnamed", holding(b'"id": null', Reply(201, b'{"id":"a b"}')), verdict=ADVICE),
    Fault("accounts.create-charset", charset, verdict=ADVICE),
    Fault("accounts.unreserved-ids", holding(b"~", NO)),
    Fault("accounts.identities", within("plain-id/settlements", NO)),
    Fault("accounts.encoded-ids", within("%65", Reply(404)), verdict=ADVICE),
    Fault("accounts.bad-ids", at("/accounts", Reply(201)), verdict=ADVICE),
    Fault("accounts.bad-ids", holding(b"a/b", CRASH), verdict=ADVICE),
    Fault("accounts.unknown", within("nobody", OK), verdict=ADVICE),
    Fault("accounts.delete", within("deleted", CRASH, method="DELETE")),
    Fault("accounts.delete", within("deleted", Reply(200), method="DELETE"), verdict=ADVICE),
    Fault("accounts.delete-again", second("DELETE", CRASH), verdict=ADVICE),
    Fault("accounts.recreate", flaws=("forgets deleted accounts",), verdict=ADVICE),
    Fault("settlements.accepted", at("settlements", Reply(503))),
    Fault("settlements.accepted", at("settlements", Reply(202)), verdict=ADVICE),
    Fault("settlements.echo", at("settlements", Reply(201)), verdict=ADVICE),
    Fault("settlements.echo", at("settlements", Reply(201, b'{"amount":"3","scale":9}', "text/html")), verdict=ADVICE),
    Fault("settlements.prompt", every_seventh(), verdict=ADVICE),
    Fault("settlements.digits", echo_double),
    Fault("settlements.digits", holding(str(2**64 + 1).encode(), NO), verdict=ADVICE),
    Fault("settlements.scales", holding(b'"scale": 255', NO)),
    Fault("settlements.forms", charset, verdict=ADVICE),
    Fault("settlements.slashes", at("settlements/", Reply(404)), verdict=ADVICE),
    Fault("settlements.dust", flaws=("drops dust",)),
    Fault("settlements.symmetry", flaws=("pays twice",), beside=("settlements.accepted",)),
    Fault("settlements.symmetry", flaws=("never pays",), beside=("settlements.accepted",)),
    Fault("settlements.symmetry", flaws=("has no memory for keys",), beside=("idempotency.replays",)),
    Fault("settlements.alive", within("last/settlements", CRASH)),
    Fault("idempotency.replays", second("POST", Reply(200))),
    Fault("idempotency.parallel", second("POST", Reply(409))),
    Fault("idempotency.later", flaws=("remembers ten keys",)),
    Fault("idempotency.other-amount", flaws=("has no memory for keys",)),
    Fault("idempotency.other-amount", holding(b'"amount": "2"', CRASH), verdict=ADVICE),
    Fault("idempotency.missing", keyless, verdict=ADVICE),
    Fault("idempotency.any-key", colon_key, verdict=ADVICE),
    Fault("idempotency.restart", flaws=("forgets keys at a restart",)),
    Fault("quantities.amounts", lenient("junk/settlements")),
    Fault("quantities.amounts", holding(b"1e3", CRASH), verdict=ADVICE),
    Fault("quantities.number", lenient("junk/settlements")),
    Fault("quantities.scales", lenient("junk/settlements")),
    Fault("quantities.shapes", lenient("junk/settlements")),
    Fault("quantities.junk", lenient("junk/settlements"), verdict=ADVICE),
    Fault("quantities.types", lenient("junk/settlements"), verdict=ADVICE),
    Fault("quantities.zero", within("junk/settlements", CRASH), verdict=ADVICE),
    Fault("quantities.long-text", within("zeros/settlements", CRASH), verdict=ADVICE),
    Fault("messages.answered", at("messages", Reply(201, b"{}", JSON))),
    Fault("messages.answered", at("messages", NO)),
    Fault("messages.garbage", at("messages", DROP), verdict=ADVICE),
    Fault("messages.largest", at("messages", Reply(413)), verdict=ADVICE),
    Fault("messages.other-type", at("messages", CRASH), verdict=ADVICE),
    Fault("messages.outgoing", flaws=("writes text",), verdict=ADVICE, beside=("settlements.accepted",)),
    Fault("credits.after-errors", flaws=("merges credits",)),
    Fault("credits.after-errors", flaws=("rekeys",)),
    Fault("credits.after-errors", flaws=("gives up",), verdict=Verdict.NOT_OBSERVED),
    Fault("credits.after-a-lost-answer", flaws=("rekeys",)),
    Fault("credits.plain-answer", flaws=("needs a quantity", "rekeys")),
    Fault("credits.after-a-restart", flaws=("rekeys at a restart",)),
    Fault("credits.keys", flaws=("has no keys for credits",), beside=("settlements.accepted",)),
    Fault("credits.quantities", flaws=("credits numbers",), beside=("settlements.accepted",)),
    Fault("transport.keep-alive", flaws=("keeps no connection",), verdict=ADVICE),
    Fault("transport.strange", at("/", CRASH, method="GET"), verdict=ADVICE),
    Fault("transport.cut-off", flaws=("breaks when cut off",), verdict=ADVICE),
    Fault("transport.http2", verdict=ADVICE),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check} {' '.join(fault.flaws)}".strip())
def test_a_planted_fault_is_found(fault: Fault) -> None:
    """Each in an engine that is honest otherwise, by the check that is there for it; a breach, if it is one."""
    names = [*fault.beside, fault.check]
    report = run_suite(names, twist=fault.twist, flaws=fault.flaws, patience_s=IMPATIENCE_S)
    found = {finding.check.name: finding for finding in report.findings}[fault.check]
    assert found.verdict is fault.verdict, found.seen
    assert found.seen
    if fault.verdict is Verdict.BROKEN:
        assert not report.ok


def test_every_check_has_a_planted_fault_that_it_finds() -> None:
    """But those that say that they cannot see anything."""
    seen = {fault.check for fault in FAULTS if fault.verdict in {Verdict.BROKEN, Verdict.ADVICE}}
    assert {check.name for check in CHECKS} - seen == NEVER_SEEN


def test_every_section_that_concerns_an_engine_is_examined() -> None:
    """By the names RFC 38 gives them."""
    assert {check.section for check in CHECKS} == {
        "Accounts and identifiers",
        "Delete an account",
        "Exchanging messages",
        "Handle incoming message",
        "Handling idempotent requests",
        "Perform outgoing settlement",
        "Performing idempotent requests",
        "Retry behavior",
        "Retrying failed settlements",
        "Scale conversions",
        "Settlement Engine HTTP API",
        "Settlement symmetry",
        "Setup an account",
        "Units and quantities",
    }
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_without_help_it_says_what_would_help() -> None:
    """No restart, no message, no payments that come back: not observed, and by which option it would be."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    names = ["idempotency.restart", "credits", "settlements.dust", "settlements.symmetry", "messages.answered"]
    twist = at("messages", Reply(400))
    with planted_engine("http://127.0.0.1:1", twist, frozenset()) as (url, _engine):
        run = partial(examine, url, listen=("127.0.0.1", port), options=Options(), checks=choose(names))
        report = anyio.run(run, backend="trio")
    said = {finding.check.name: finding.seen for finding in report.findings}
    assert {finding.verdict for finding in report.findings} == {Verdict.NOT_OBSERVED}
    assert "--restart-command" in said["idempotency.restart"]
    assert "--pays-itself" in said["settlements.symmetry"]
    assert "--message" in said["messages.answered"]
    assert "pay the engine" in said["credits.keys"]
    assert report.settled == 0

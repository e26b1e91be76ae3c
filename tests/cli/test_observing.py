"""`settlement-core serve` watched: what `/metrics`, webhooks and traces tell of a real process, and what not."""

from __future__ import annotations

import json
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.cli.processes import MINIMAL, PATIENCE_S, Server, ask, open_connector, run, serving, until, write_engine
from tests.observers.listening import Series, series
from tests.observers.test_webhooks_over_http import documented_check
from tests.outbound.stage import Authority

SECRET = "correct-horse-battery-staple"
TOKEN = "connectors-bearer-token"
PATH = "/hooks/a-path-nobody-guesses"
STOPPED = "stopped, 0 effects cut short"


@dataclass
class Receiver:
    """Takes whatever is posted, after it has answered what `answers` says; remembers what it took.

    While `awake` is not set, it answers nothing.
    """

    url: str
    answers: list[int] = field(default_factory=list)
    taken: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    awake: threading.Event = field(default_factory=threading.Event)

    def messages(self) -> list[dict[str, Any]]:
        """Return every message taken."""
        return [json.loads(body) for _, _, body in self.taken]

    def kinds(self) -> set[str]:
        """Return what was told."""
        return {message["type"] for message in self.messages()}


@contextmanager
def open_receiver(*, asleep: bool = False, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Serve a receiver in a thread for the block."""
    receiver = Receiver("")
    if not asleep:
        receiver.awake.set()

    class Handler(BaseHTTPRequestHandler):
        book: ClassVar[Receiver] = receiver

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.book.awake.wait(PATIENCE_S)
            status = self.book.answers.pop(0) if self.book.answers else 200
            if status == 200:
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.book.taken.append((self.path, headers, body))
            # who asked may be gone
            with suppress(OSError):
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.awake.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., AbstractContextManager[Server]]]:
    """Return what starts a server of the minimal engine; its connector refuses the second credit."""
    engine = str(write_engine(tmp_path, MINIMAL))
    with open_connector() as connector:
        connector.answers += [201, 409]
        common = (engine, "--store", "memory:", "--connector-url", connector.url)

        def start(*arguments: str, **variables: str) -> AbstractContextManager[Server]:
            variables |= {"PAID": str(tmp_path / "paid"), "SETTLEMENT_CONNECTOR_TOKEN": TOKEN}
            return serving(*common, *arguments, folder=tmp_path, **variables)

        yield start


def scrape(server: Server) -> Series:
    """Return what Prometheus would see."""
    status, exposition = ask(server.admin_url, "GET", "/metrics")
    assert status == 200
    for secret in (SECRET, PATH, TOKEN):
        assert secret not in exposition.decode()
    return {name.removeprefix("settlement_core_"): value for name, value in series(exposition).items()}


def live(server: Server) -> None:
    """Settle 5, lose sight of 13, be paid 4 that the connector takes, and 3 that it refuses."""
    assert server.create() == 201
    assert server.settle("5", "a") == 201
    until(lambda: server.books("/accounts/alice")[0]["outgoing"]["settled"] == "5", "for the payment")
    assert server.settle("13", "b") == 201
    assert server.tell({"credit": "4", "id": "y"})[0] == 201
    until(lambda: server.books("/accounts/alice")[0]["incoming"]["settled"] == "4", "for the credit")
    assert server.tell({"credit": "3", "id": "x"})[0] == 201
    until(lambda: len(server.books("/attempts?state=in_doubt&state=held")) == 2, "for money to be set aside")


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_metrics_tell_what_was_settled_and_what_waits_for_a_person(
    backend: str, start: Callable[..., AbstractContextManager[Server]]
) -> None:
    """5 were settled, 13 are in doubt, 3 held, 4 credited, by counters and by the store; no secret is told."""
    with open_receiver() as receiver, start("--backend", backend, SETTLEMENT_WEBHOOK_SECRET=SECRET) as server:
        assert receiver.taken == []
        live(server)
        found = scrape(server)
        assert server.stop() == 0
        assert server.log.read_text().count("Traceback") == 1, "of the payment in doubt"
    assert found['settlements_recorded_total{outcome="whole"}'] == 1
    assert found['settlements_recorded_amount_total{outcome="whole"}'] == 5
    assert found["settlements_requested_amount_total"] == 18
    assert (found["settlements_in_doubt_total"], found["settlements_in_doubt_amount_total"]) == (1, 13)
    assert (found["credits_held_amount_total"], found["credits_acknowledged_amount_total"]) == (3, 4)
    assert found["request_seconds_count"] == 1
    assert found['unclosed_amount{direction="outgoing",state="in_doubt"}'] == 13
    assert found['unclosed_amount{direction="incoming",state="held"}'] == 3
    assert found['info{engine="Engine",verifiable="false"}'] == found["recovered"] == found["figures_complete"] == 1
    assert not any(name.startswith("webhooks") for name in found), "there are none"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_webhooks_tell_it_too_signed_and_again_until_they_are_taken(
    backend: str, start: Callable[..., AbstractContextManager[Server]], tmp_path: Path
) -> None:
    """Each to the secret path, authentic by the documented check; the secrets are in no message, figure or log line."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    with (
        open_receiver() as receiver,
        start(
            *("--backend", backend, "--log-level", "debug", "--webhook-secret-file", str(tmp_path / "secret")),
            SETTLEMENT_WEBHOOK_URL=receiver.url + PATH,
        ) as server,
    ):
        receiver.answers.append(503)
        live(server)
        until(lambda: len(receiver.taken) == 4, "for the messages")
        # the receiver remembers a message before the answer can be counted
        until(lambda: scrape(server)["webhooks_delivered_total"] == 4)
        found = scrape(server)
        assert server.stop() == 0
        said = server.out.read_text() + server.log.read_text()
    assert (found["webhooks_tries_failed_total"], found["webhooks_queued"]) == (1, 0)
    amounts = {message["type"]: message["amount"] for message in receiver.messages()}
    assert amounts == {"settled": "5", "in_doubt": "13", "held": "3", "credited": "4"}
    assert len({message["id"] for message in receiver.messages()}) == 4
    authentic = documented_check()
    for path, headers, body in receiver.taken:
        assert path == PATH
        assert authentic(SECRET, headers["settlement-signature"], body)
        assert not authentic("another secret, as long", headers["settlement-signature"], body)
        for secret in (SECRET, PATH, TOKEN):
            assert secret not in body.decode() + str(headers)
    for secret in (SECRET, PATH, TOKEN):
        assert secret not in said
    assert f"webhooks to {receiver.url} fail, and are sent again later: status 503" in said


@pytest.mark.parametrize("named", ["--webhook-ca", "SSL_CERT_FILE"])
def test_a_receiver_with_a_private_authority_is_told_once_that_is_named(
    named: str, start: Callable[..., AbstractContextManager[Server]], tmp_path: Path
) -> None:
    """Before that, the log says what is wrong with the certificate, and both ways to name its authority."""
    authority, secret = Authority(tmp_path), {"SETTLEMENT_WEBHOOK_SECRET": SECRET, "SSL_CERT_FILE": ""}
    option = (named, str(authority.file)) if named.startswith("-") else ()
    variables = secret if option else secret | {named: str(authority.file)}
    with open_receiver(tls=authority.server()) as receiver:
        webhook = ("--webhook-url", receiver.url + PATH)
        with start(*webhook, **secret) as server:
            assert server.create() == 201
            assert server.settle("5", "a") == 201
            until(lambda: "webhooks to" in server.log.read_text(), "for the log")
            assert (
                "no answer: the certificate is refused: unable to get local issuer certificate; name its authority by "
                "--webhook-ca or SSL_CERT_FILE"
            ) in server.log.read_text()
        with start(*webhook, *option, **variables) as server:
            assert server.create() == 201
            assert server.settle("5", "a") == 201
            until(lambda: receiver.kinds() == {"settled"}, "for the message")


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_payment_that_ends_during_the_shutdown_is_told_before_the_process_ends(
    backend: str, start: Callable[..., AbstractContextManager[Server]]
) -> None:
    """It takes a second, SIGTERM comes meanwhile, and the receiver answers only when the core has stopped."""
    variables = {"SETTLEMENT_WEBHOOK_SECRET": SECRET}
    with (
        open_receiver(asleep=True) as receiver,
        start("--backend", backend, "--webhook-url", receiver.url, **variables) as server,
    ):
        server.create()
        server.settle("17", "a")
        until(lambda: b'"settling"' in ask(server.admin_url, "GET", "/statistics")[1])
        server.signal(signal.SIGTERM)
        until(lambda: STOPPED in server.log.read_text())
        receiver.awake.set()
        assert server.wait() == 0
        assert receiver.kinds() == {"settled"}
        assert "not delivered" not in server.log.read_text()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_second_signal_does_not_wait_for_a_receiver(
    backend: str, start: Callable[..., AbstractContextManager[Server]]
) -> None:
    """What it did not take is given up at once, and the log says how much that is."""
    variables = {"SETTLEMENT_WEBHOOK_SECRET": SECRET}
    with (
        open_receiver(asleep=True) as receiver,
        start("--backend", backend, "--webhook-url", receiver.url, **variables) as server,
    ):
        server.create()
        server.settle("5", "a")
        until(lambda: scrape(server)["webhooks_queued"] == 1)
        server.signal(signal.SIGTERM)
        until(lambda: STOPPED in server.log.read_text())
        assert server.stop() == 0
        said = server.log.read_text()
    assert "SIGTERM again: stopping at once" in said
    assert "ending with 1 messages not delivered" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_traces_follow_a_settlement_to_the_collector_the_environment_names(
    backend: str, start: Callable[..., AbstractContextManager[Server]]
) -> None:
    """Request and attempt arrive at the end at the latest, with account, key and amount, and no message body."""
    with open_receiver() as collector:
        with start("--backend", backend, SETTLEMENT_OTEL="1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
            server.create()
            server.settle("5", "the key")
            until(lambda: server.books("/accounts/alice")[0]["outgoing"]["settled"] == "5")
            server.tell({"secret": "body of a message"})
            assert server.stop() == 0
        exported = b"".join(body for path, _, body in collector.taken if path == "/v1/traces")
    for fact in (b"settlement-core", b"settlement.account_id", b"alice", b"the key", b"SettlementRecorded"):
        assert fact in exported
    for secret in (TOKEN.encode(), b"body of a message"):
        assert secret not in exported


TRACING = """
import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
spans = open(os.environ["PAID"] + ".spans", "w")
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=spans)))
trace.set_tracer_provider(provider)
"""
"""Has spans written to a file."""


def test_an_engine_that_traces_already_gets_the_spans_of_its_settlements(tmp_path: Path) -> None:
    """Its module has set up a provider of its own before we look for one; nothing goes to the usual collector."""
    engine = str(write_engine(tmp_path, MINIMAL + TRACING))
    with (
        open_connector() as connector,
        open_receiver() as collector,
        serving(
            *(engine, "--store", "memory:", "--connector-url", connector.url, "--otel"),
            folder=tmp_path,
            PAID=str(tmp_path / "paid"),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        ) as server,
    ):
        server.create()
        server.settle("5", "a key")
        until(lambda: '"settlement.key": "a key"' in (tmp_path / "paid.spans").read_text(), "for the request's span")
        assert server.stop() == 0
        assert collector.taken == []


def test_without_the_optional_packages_it_settles_and_says_what_to_install(
    start: Callable[..., AbstractContextManager[Server]], tmp_path: Path
) -> None:
    """/metrics is 404 with that sentence; --otel, which nobody could follow, is a wrong setting."""
    for package in ("prometheus_client", "opentelemetry"):
        source = f"raise ModuleNotFoundError('No module named {package}', name={package!r})\n"
        write_engine(tmp_path, source, f"{package}.py")
    missing = {"PYTHONPATH": str(tmp_path)}
    with start(**missing) as server:
        live(server)
        status, body = ask(server.admin_url, "GET", "/metrics")
        assert (status, json.loads(body)["status"]) == (404, 404)
        assert "pip install 'settlement-core[metrics]'" in json.loads(body)["detail"]
        assert server.stop() == 0
    refused = run("serve", "engine.py", "--store", "memory:", "--otel", code=2, cwd=tmp_path, **missing)
    sentence = "tracing needs OpenTelemetry: pip install 'settlement-core[otel]'"
    assert refused.stderr == f"Error: cannot trace as --otel asks: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "secret", "sentence"),
    [
        (["--webhook-url", "http://127.0.0.1:1/"], "", "webhooks are signed: give --webhook-secret-file, or set SETT"),
        (
            ["--webhook-url", "http://127.0.0.1:1/"],
            "hunter2",
            "a webhook secret has at least 16 characters, this one 7",
        ),
        (["--webhook-url", "ftp://host/hunter2"], SECRET, "cannot use the webhook URL: it must begin with http:// or"),
        (["--webhook-url", ""], SECRET, "cannot use the webhook URL: it must begin with http:// or"),
        (["--webhook-url", "http://me:hunter2@host/"], SECRET, "cannot use the webhook URL: it carries a user"),
    ],
)
def test_webhooks_that_could_not_be_sent_or_believed_are_refused_at_the_start(
    arguments: list[str], secret: str, sentence: str, tmp_path: Path
) -> None:
    """Exit code 2, one sentence, and no secret in it."""
    write_engine(tmp_path, MINIMAL)
    ports = ("--port", "0", "--admin-port", "-1")
    variables = {"SETTLEMENT_WEBHOOK_SECRET": secret, "PAID": str(tmp_path / "paid")}
    refused = run("serve", "engine.py", "--store", "memory:", *ports, *arguments, code=2, cwd=tmp_path, **variables)
    *_, line = refused.stderr.splitlines()
    assert line.startswith(f"Error: {sentence}")
    assert "hunter2" not in line

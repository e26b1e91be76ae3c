"""The command line as real processes, and what stands around it: engines in files, and a connector with books."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from tests.cli.forking import Forking

PATIENCE_S = 30.0
"""How long a process may take on a busy machine before a test gives up."""

DEMO_PATIENCE_S = 110.0
"""Longer than the demonstration itself waits before it tells what is missing."""

COMMAND = [sys.executable, "-m", "settlement_core"]

D = Decimal


@cache
def forking() -> Forking:
    """Return what runs commands for this process."""
    made = Forking()
    atexit.register(made.close)
    return made


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of ours, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SETTLEMENT_")}
    return kept | variables


def run(
    *arguments: str, code: int | None = 0, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and check its exit code and that it never shows a traceback."""
    env = clean_environment(**variables)
    if "PYTHONPATH" in variables:  # what is imported is what is tried
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=DEMO_PATIENCE_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    else:
        done = forking().run(list(arguments), cwd=cwd, env=env)
    assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done


def run_json(*arguments: str, code: int | None = 0) -> Any:
    """Run a command with --json; return what it printed."""
    return json.loads(run(*arguments, "--json", code=code).stdout)


def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait in real time until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"gave up waiting {what}"
        pause.wait(0.01)


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Send a request; return status and body, or status 0 if nobody answered."""
    request = urllib.request.Request(url + path, method=method, data=body, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


@dataclass
class Server:
    """`settlement-core serve` as a process of its own; its output goes to files."""

    arguments: list[str]
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    printed: str = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.starts += 1
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", *self.arguments],
                stdout=out,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=clean_environment(**self.variables),
            )
        until(lambda: self.out.read_text().endswith("\n") or self.process.poll() is not None, "for it to listen")  # type: ignore[union-attr]
        assert self.process.poll() is None, self.log.read_text()
        self.printed = self.out.read_text()

    @property
    def out(self) -> Path:
        """Return the file with what this life printed."""
        return self.folder / f"out-{self.starts}"

    @property
    def log(self) -> Path:
        """Return the file with what this life logged."""
        return self.folder / f"log-{self.starts}"

    @property
    def url(self) -> str:
        """Return where it serves RFC 38."""
        return self.printed.split(" on ", 1)[1].split(",", 1)[0]

    @property
    def admin_url(self) -> str:
        """Return where it serves operators."""
        return self.printed.split(", admin ", 1)[1].split(",", 1)[0]

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code once it has ended."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """End it as an operator does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at whatever it is doing."""
        self.signal(signal.SIGKILL)
        self.wait()

    def books(self, path: str) -> Any:
        """Return what the operator's API says."""
        status, body = ask(self.admin_url, "GET", path)
        assert status == 200
        return json.loads(body)

    def create(self, account_id: str = "alice") -> int:
        """Create an account; return the status."""
        body = json.dumps({"id": account_id}).encode()
        return ask(self.url, "POST", "/accounts", body, **{"content-type": "application/json"})[0]

    def settle(self, amount: str, key: str, account_id: str = "alice") -> int:
        """Ask for a settlement of whole units; return the status, 0 for none."""
        body = json.dumps({"amount": amount, "scale": 0}).encode()
        headers = {"content-type": "application/json", "idempotency-key": key}
        return ask(self.url, "POST", f"/accounts/{account_id}/settlements", body, **headers)[0]

    def tell(self, message: Any, account_id: str = "alice") -> tuple[int, bytes]:
        """Send the engine a message."""
        headers = {"content-type": "application/octet-stream"}
        return ask(self.url, "POST", f"/accounts/{account_id}/messages", json.dumps(message).encode(), **headers)


@contextmanager
def serving(*arguments: str, folder: Path, **variables: str) -> Iterator[Server]:
    """Run a server for the block, on free ports; nothing of it is left afterwards."""
    server = Server([*arguments, "--port", "0", "--admin-port", "0"], folder, variables)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@dataclass
class Connector:
    """Takes credits once per key, after it has answered what `answers` says; remembers what it was shown."""

    url: str
    answers: list[int] = field(default_factory=list)
    credited: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    authorizations: set[str] = field(default_factory=set)

    def total(self, account_id: str) -> Decimal:
        """Return everything credited to an account."""
        return sum((amount for (name, _), amount in self.credited.items() if name == account_id), D(0))


@contextmanager
def open_connector() -> Iterator[Connector]:
    """Serve a connector in a thread for the block."""
    connector = Connector("")

    class Handler(BaseHTTPRequestHandler):
        book: ClassVar[Connector] = connector

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.book.authorizations.add(str(self.headers["authorization"]))
            status = self.book.answers.pop(0) if self.book.answers else 201
            if status == 201:
                amount = D(content["amount"]).scaleb(-content["scale"])
                first = self.book.credited.setdefault(
                    (self.path.split("/")[2], self.headers["idempotency-key"]), amount
                )
                assert first == amount
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        connector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield connector
        finally:
            server.shutdown()
            thread.join()


MINIMAL = '''
"""Pays by a line in a file; loses sight of payments of 13; does what messages tell it."""

import os
from decimal import Decimal

import anyio


class Engine:
    def __init__(self, services, died):
        self.services = services
        self.died = died

    async def settle(self, account_id, amount):
        if amount == 13:
            raise ConnectionError("no answer from the ledger")
        if amount == 17:
            await anyio.sleep(1)
        if amount == 19:
            await anyio.sleep_forever()
        with open(os.environ["PAID"], "a") as paid:
            paid.write(f"{account_id} {amount:f}\\n")
            paid.flush()
            os.fsync(paid.fileno())
        return amount

    async def handle_message(self, account_id, message):
        if "credit" in message:
            await self.services.credit_settlement(account_id, Decimal(message["credit"]), message["id"])
        if "report" in message:
            await self.services.report_unattributed(message["id"], Decimal(message["report"]), {"memo": "whose?"})
        if "die" in message:
            self.died.set()
        return "done"


from contextlib import asynccontextmanager


@asynccontextmanager
async def connect_engine(services):
    died = anyio.Event()

    async def listen():
        await died.wait()
        raise ConnectionError("the ledger went away")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        yield Engine(services, died)
        tasks.cancel_scope.cancel()
'''
"""An engine that cannot look up what it did."""

VERIFIABLE = '''
"""A ledger that is a folder: a transaction is a file, and applies once."""

import os
import pathlib

from settlement_core.abc import Pending, Settled
from settlement_core.values.records import Payment

LEDGER = pathlib.Path(os.environ["PAID"])


class Engine:
    async def prepare(self, account_id, amount, attempt_id):
        return Payment(amount, {"tx": attempt_id, "amount": f"{amount:f}"})

    async def submit(self, payment):
        draft = LEDGER / f".{payment.reference['tx']}-{os.getpid()}"
        draft.write_text(payment.reference["amount"])
        try:
            os.link(draft, LEDGER / payment.reference["tx"])
        except FileExistsError:
            pass
        draft.unlink()

    async def verify(self, payment):
        if (LEDGER / payment.reference["tx"]).exists():
            return Settled(payment.amount)
        return Pending(0.01, resubmit=True)


async def connect_engine(services):
    return Engine()
'''
"""An engine that can."""


def write_engine(folder: Path, source: str, name: str = "engine.py") -> Path:
    """Write an engine's file."""
    path = folder / name
    path.write_text(source)
    return path

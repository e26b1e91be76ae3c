"""A client that leaves while the server stands still is not billed, whatever server, loop and version of HTTP.

Connectors give up after some seconds and ask again under a new key: each request recorded for nobody multiplies a debt.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import h2.config
import h2.connection
import pytest

from settlement_core.http.stalls import STALL_S
from tests.cli.processes import MINIMAL, PATIENCE_S, ask, clean_environment, run_json, serving, until, write_engine

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"

LEAVING = 12
"""Clients that leave, on as many connections."""

BODY = b'{"amount":"5","scale":0}'


def one_request(key: str) -> bytes:
    """Return a settlement request of HTTP/1.1."""
    return (
        f"POST /accounts/alice/settlements HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY


def http2_request(key: str) -> bytes:
    """Return a settlement request of HTTP/2, without upgrade."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    headers = [
        *((":method", "POST"), (":path", "/accounts/alice/settlements"), (":authority", "localhost")),
        *((":scheme", "http"), ("content-type", "application/json"), ("idempotency-key", key)),
    ]
    connection.send_headers(1, headers)
    connection.send_data(1, BODY, end_stream=True)
    return connection.data_to_send()


def leave(port: int, request_of: Callable[[str], bytes]) -> None:
    """Have clients send a whole request each, under keys of their own, and close their connections."""
    for number in range(LEAVING):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
            client.sendall(request_of(f"left {number}"))


@contextmanager
def standing_still(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have a process stand still for the block, and for longer than a stall."""
    process.send_signal(signal.SIGSTOP)
    yield
    time.sleep(STALL_S + 0.5)
    process.send_signal(signal.SIGCONT)


def settle(url: str, key: str) -> int:
    """Ask for a settlement; return the status."""
    headers = {"content-type": "application/json", "idempotency-key": key}
    return ask(url, "POST", "/accounts/alice/settlements", BODY, **headers)[0]


@pytest.mark.parametrize("request_of", [one_request, http2_request])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_requests_of_clients_that_left_during_a_stall_are_not_recorded(
    tmp_path: Path, backend: str, request_of: Callable[[str], bytes]
) -> None:
    """The process is stopped, twelve clients ask and leave; then one asks who stays."""
    engine = write_engine(tmp_path, MINIMAL)
    store = f"sqlite:{tmp_path / 's.db'}"
    arguments = (str(engine), "--store", store, "--backend", backend, "--h2c", "--connector-url", "http://127.0.0.1:9")
    with serving(*arguments, folder=tmp_path, PAID=str(tmp_path / "paid")) as server:
        assert server.create() == 201
        port = urlsplit(server.url).port
        assert port is not None
        assert server.process is not None
        with standing_still(server.process):
            leave(port, request_of)
        assert settle(server.url, "stayed") == 201
        until(lambda: server.books("/accounts")[0]["outgoing"]["settled"] == "5")
        assert server.stop() == 0
    (account,) = run_json("accounts", "--store", store)
    assert Decimal(account["outgoing"]["entered"]) == 5
    assert (tmp_path / "paid").read_text() == "alice 5\n"


@contextmanager
def under_uvicorn(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the example's app under uvicorn for the block; give the process and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "asgi_app:app"]
        process = subprocess.Popen(
            [*command, "--fd", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            cwd=folder,
            env=clean_environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield process, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def test_requests_of_clients_that_left_a_foreign_server_are_not_recorded(tmp_path: Path) -> None:
    """The same under uvicorn, whose connections are not ours."""
    with under_uvicorn(tmp_path) as (process, url):
        body = json.dumps({"id": "alice"}).encode()
        until(lambda: ask(url, "POST", "/accounts", body, **{"content-type": "application/json"})[0] == 201)
        port = urlsplit(url).port
        assert port is not None
        with standing_still(process):
            leave(port, one_request)
        assert settle(url, "stayed") == 201
    (account,) = run_json("accounts", "--store", f"sqlite:{tmp_path / 'settlement.db'}")
    assert Decimal(account["outgoing"]["entered"]) == 5

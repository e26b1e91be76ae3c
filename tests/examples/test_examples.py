"""Every example runs as its docstring says, and shows what it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> list[str]:
    """Run an example that ends by itself; return the lines it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def served(*command: str, port: int, **environment: str) -> Iterator[httpx2.Client]:
    """Run a server until the block ends; it must then leave by itself, with exit code 0."""
    with (
        subprocess.Popen([sys.executable, "-m", *command], env=os.environ | environment, cwd=EXAMPLES) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    client.get("/")
                    break
                except httpx2.TransportError:
                    assert process.poll() is None
                    time.sleep(0.05)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
        assert code in {0, -signal.SIGTERM}


def settle(client: httpx2.Client, key: str) -> None:
    """Ask for 12.50."""
    assert client.post("/accounts", json={"id": "alice"}).status_code == 201
    answer = client.post(
        "/accounts/alice/settlements", json={"amount": "1250", "scale": 2}, headers={"Idempotency-Key": key}
    )
    assert (answer.status_code, answer.json()) == (201, {"amount": "1250", "scale": 2})


def test_two_cores_settle_inside_one_trio_program() -> None:
    """Owed, paid, credited, shut down."""
    assert run("embed_trio.py") == [
        "the ledger moves 12.5 to bob",
        "bob credits 12.5 to alice",
        "both cores have shut down in order",
    ]


def test_an_engine_is_served_inside_an_asyncio_program() -> None:
    """The request is answered, the engine pays, the own page answers, all ends."""
    lines = run("embed_asyncio.py")
    assert '201 {"amount":"1250","scale":2}' in lines
    assert "paying 12.5 to the peer of account alice" in lines
    assert lines[-1] == "the server and the core have shut down in order"


def test_the_minimal_engine_is_served_from_its_file(tmp_path: Path) -> None:
    """As the README says."""
    port = free_port()
    command = ["settlement_core", "serve", "minimal_engine.py", "--port", str(port), "--admin-port", "-1"]
    with served(*command, "--store", f"sqlite:{tmp_path}/s.db", port=port) as client:
        settle(client, "a")


@pytest.mark.parametrize("server", ["hypercorn-trio", "hypercorn-asyncio", "uvicorn"])
def test_the_app_runs_under_any_asgi_server(server: str, tmp_path: Path) -> None:
    """The payment is in the ledger's folder, once, under hypercorn on both loops and under uvicorn."""
    port = free_port()
    name, _, worker = server.partition("-")
    command = [name, "asgi_app:app"]
    command += ["--port", str(port)] if name == "uvicorn" else ["--worker-class", worker, "-b", f"127.0.0.1:{port}"]
    environment = {"SETTLEMENT_STORE": f"sqlite:{tmp_path}/s.db", "EXAMPLE_LEDGER": str(tmp_path / "ledger")}
    with served(*command, port=port, **environment) as client:
        for _ in range(3):
            settle(client, "the same key")
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("ledger/*.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
    (payment,) = tmp_path.glob("ledger/*.json")
    assert json.loads(payment.read_text())["amount"] == "12.5"

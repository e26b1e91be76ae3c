"""A log that nobody reads costs log lines and nothing else: every request is answered, and SIGTERM is obeyed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, Server, ask, clean_environment, until

ENGINE = """
class Engine:
    async def settle(self, account_id, amount):
        return amount


def connect(services):
    return Engine()
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_pipe_that_nobody_reads_stops_nothing(tmp_path: Path, backend: str) -> None:
    """It takes 64 KiB; the log of these requests is several times that. Once it is read, what was left out is told."""
    (tmp_path / "engine.py").write_text(ENGINE)
    reading, writing = os.pipe()
    out = tmp_path / "out-0"
    arguments = [f"{tmp_path / 'engine.py'}:connect", "--store", f"sqlite:{tmp_path / 'books.db'}", "--port", "0"]
    with out.open("wb") as stdout:
        process = subprocess.Popen(
            [*COMMAND, "serve", *arguments, "--admin-port", "0", "--backend", backend, "--log-level", "debug"],
            stdout=stdout,
            stderr=writing,
            env=clean_environment(),
        )
    os.close(writing)
    try:
        until(lambda: out.read_text().endswith("\n"), "for it to listen")
        server = Server(arguments, tmp_path, process=process, printed=out.read_text())
        assert server.create("alice") == 201
        assert all(server.settle("1", f"key {number:0200}") == 201 for number in range(400))
        assert ask(server.admin_url, "GET", "/live")[0] == 200
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - began < 20
        said = b""
        while part := os.read(reading, 65536):
            said += part
        assert len(re.findall(rb"is to settle 1 ", said)) < 400
    finally:
        os.close(reading)
        process.kill()
        process.wait()

"""SIGTERM is obeyed at any moment of the start, in order and within seconds: while anything is waited for."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, clean_environment, until
from tests.redis.servers import RedisServer

WAITING = """
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

FOLDER = Path({folder!r})


class Engine:
    async def settle(self, account_id, amount):
        return amount


@asynccontextmanager
async def sleeping(services):
    (FOLDER / "connecting").touch()
    try:
        await anyio.sleep_forever()
        yield Engine()
    finally:
        (FOLDER / "ended in order").touch()


@asynccontextmanager
async def leading(services):
    await services.lead()
    (FOLDER / "connecting").touch()
    yield Engine()


def importing():
    import time

    (FOLDER / "connecting").touch()
    time.sleep(1000)
"""


def start(folder: Path, factory: str, store: str, backend: str, *, name: str = "log") -> subprocess.Popen[bytes]:
    """Start a server with one of the engines above."""
    engine = folder / "engine.py"
    engine.write_text(WAITING.format(folder=str(folder)) + ("\nimporting()\n" if factory == "importing" else ""))
    arguments = [f"{engine}:{factory}", "--store", store, "--port", "0", "--admin-port", "0", "--backend", backend]
    with (folder / name).open("wb") as log:
        return subprocess.Popen(
            [*COMMAND, "serve", *arguments], stderr=log, stdout=subprocess.DEVNULL, env=clean_environment()
        )


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("factory", ["sleeping", "importing"])
def test_an_engine_that_takes_for_ever_to_connect_is_given_up(tmp_path: Path, factory: str, backend: str) -> None:
    """Its own clean-up runs, and the exit code is that of an ordered end."""
    process = start(tmp_path, factory, f"sqlite:{tmp_path / 'books.db'}", backend)
    try:
        until((tmp_path / "connecting").exists, "for the engine to be connected to")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
        assert time.monotonic() - began < 10
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "ended in order").exists() == (factory == "sleeping")
    assert "Traceback" not in (tmp_path / "log").read_text()


def stopped(process: subprocess.Popen[bytes], log: Path) -> None:
    """Send SIGTERM: the process ends in order, at once."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, log.read_text()
    assert time.monotonic() - began < 10
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_worker_that_stands_by_stops_while_the_leader_goes_on(tmp_path: Path, backend: str) -> None:
    """It waits for the lead, perhaps for months."""
    with RedisServer(tmp_path / "redis") as redis:
        leader = start(tmp_path, "leading", redis.url(), backend, name="leader")
        try:
            until((tmp_path / "connecting").exists, "for the first to lead")
            standing_by = start(tmp_path, "leading", redis.url(), backend, name="standing by")
            try:
                until(lambda: "standing by as worker" in (tmp_path / "standing by").read_text())
                stopped(standing_by, tmp_path / "standing by")
            finally:
                standing_by.kill()
                standing_by.wait()
            assert leader.poll() is None
            stopped(leader, tmp_path / "leader")
        finally:
            leader.kill()
            leader.wait()


def test_store_that_does_not_answer_while_it_is_opened_holds_no_signal_up(tmp_path: Path) -> None:
    """A Redis that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0?socket_timeout=600"
        process = start(tmp_path, "leading", url, "trio")
        try:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                stopped(process, tmp_path / "log")
        finally:
            process.kill()
            process.wait()

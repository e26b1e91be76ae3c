"""SIGTERM is obeyed at any moment of the start, in order and within seconds: while anything is waited for."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, clean_environment, until

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

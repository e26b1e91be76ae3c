"""One settlement engine as an operating system process that can be killed and comes back."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2

__all__ = ["EngineProcess", "open_engine_process"]

START_S = 30.0
"""How long a start may take on a busy machine before we call it failed."""


_PORTS = (20_000, 32_000)


class EngineProcess:
    """`settlement-core serve` with fixed settings, killed and started again at will."""

    def __init__(self, name: str, arguments: list[str], *, log: Path) -> None:
        port, admin_port = _free_ports(2)
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._admin_url = f"http://127.0.0.1:{admin_port}"
        ports = ["--port", str(port), "--admin-port", str(admin_port)]
        self._command = [sys.executable, "-m", "settlement_core", "serve", *arguments, *ports]
        self._log = log
        self._process: anyio.abc.Process | None = None

    async def start(self) -> None:
        """Start the process; return once it answers."""
        with self._log.open("ab") as log:
            self._process = await anyio.open_process(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        with anyio.fail_after(START_S):
            while not await self._answers():
                if self._process.returncode is not None:
                    raise RuntimeError(f"engine {self.name} ended at its start: {self._last_words()}")
                await anyio.sleep(0.02)

    async def kill(self) -> None:
        """End the process by SIGKILL, whatever it is doing."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """End the process as an operator does, by SIGTERM; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    async def close(self) -> None:
        """Make sure that nothing is left running."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.aclose()

    async def is_idle(self) -> bool:
        """Tell whether the engine has nothing left to pay, verify or credit."""
        answer = await self._get(f"{self._admin_url}/statistics")
        if answer is None or not answer.is_success:
            return False
        statistics = answer.json()
        return bool(statistics["recovered"] and not statistics["active_lanes"])

    async def _answers(self) -> bool:
        return await self._get(self.url) is not None

    async def _get(self, url: str) -> httpx2.Response | None:
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            try:
                return await client.get(url)
            except httpx2.TransportError:
                return None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"


def _free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, below those the system gives to clients.

    A client that keeps calling a killed engine on one of the system's own ports may end up connected to itself, and
    then holds the port.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


@asynccontextmanager
async def open_engine_process(name: str, arguments: list[str], *, log: Path) -> AsyncIterator[EngineProcess]:
    """Give an engine process, not yet started, on ports that were free; nothing of it is left afterwards."""
    process = EngineProcess(name, arguments, log=log)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await process.close()

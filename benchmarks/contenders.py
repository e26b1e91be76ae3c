"""The servers that are compared: ours under each server and store, the original, and apps that do nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import NODE, free_port, listens, running, wait_until

__all__ = ["FLOOR", "ORIGINAL", "SERVERS", "STORES", "Contender", "Places", "Served", "served"]

SERVERS = ("hypercorn-trio", "hypercorn-asyncio", "uvicorn", "granian")
"""uvicorn and granian know asyncio only, and run it on uvloop."""

STORES = ("memory", "sqlite", "redis")

ORIGINAL = "original"
"""ilp-settlement-core 0.1.1 from npm, on Express; its stores are memory and redis."""

FLOOR = "floor"
"""In place of a store: an app that answers and does nothing else."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with a store."""

    server: str
    store: str

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.server}, {self.store}"

    @property
    def durability(self) -> str:
        """What is on the disk when a request is answered."""
        return "fsync always" if self.store in {"sqlite", "redis"} else "none"


@dataclass(frozen=True, slots=True)
class Served:
    """A contender that listens."""

    contender: Contender
    url: str
    store: str
    pid: int


class Places:
    """Where contenders keep their books: a file each in a folder, a database each on one Redis."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self._taken = 0

    def take(self, store: str) -> str:
        """Return the URL of a store that nobody else uses."""
        self._taken += 1
        places = {"sqlite": f"sqlite:{self.folder}/{self._taken}.db", "redis": f"{self.redis_url}/{self._taken}"}
        return places.get(store, "memory:")


@contextmanager
def served(contender: Contender, places: Places, *options: str) -> Iterator[Served]:
    """Run a contender for the block; `options` are for `settlement-core serve`."""
    port, store = free_port(), places.take(contender.store)
    command = _command(contender, port, store, options)
    with running(command, env={"SETTLEMENT_STORE": store}) as process:
        wait_until(lambda: listens(port), process, contender.name)
        yield Served(contender, f"http://127.0.0.1:{port}", store, process.pid)


def _command(contender: Contender, port: int, store: str, options: tuple[str, ...]) -> list[str]:
    server = contender.server
    if server == ORIGINAL:
        return ["node", str(NODE / "original.js"), str(port), store]
    python = [sys.executable, "-m"]
    app = "benchmarks.floor:app" if contender.store == FLOOR else "benchmarks.instant:app"
    if server == "uvicorn":
        quiet = ["--no-access-log", "--log-level", "warning"]
        return [*python, "uvicorn", app, *quiet, "--lifespan", "on", "--port", str(port)]
    if server == "granian":
        return [*python, "granian", app, "--interface", "asgi", "--log-level", "warning", "--port", str(port)]
    loop = server.removeprefix("hypercorn-")
    if contender.store == FLOOR:
        return [*python, "hypercorn", app, "--worker-class", loop, "--log-level", "warning", "-b", f"127.0.0.1:{port}"]
    serve = [*python, "settlement_core", "serve", "benchmarks.instant:connect_engine", "--port", str(port)]
    return [*serve, "--admin-port", "-1", "--backend", loop, "--log-level", "warning", *options]

"""The servers that are compared: ours under each server and store, the original, and apps that do nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Row
from benchmarks.servers import NODE, free_port, listens, running, wait_until
from benchmarks.turns import Figures

__all__ = [
    "FLOOR",
    "IN_MEMORY",
    "ON_REDIS",
    "ORIGINAL",
    "SERVERS",
    "STORES",
    "Contender",
    "Places",
    "Served",
    "beside_originals",
    "served",
]

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


ON_REDIS, IN_MEMORY = Contender(ORIGINAL, "redis"), Contender(ORIGINAL, "memory")


@dataclass(frozen=True, slots=True)
class Served:
    """A contender that listens."""

    contender: Contender
    url: str
    store: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the program, which may have children."""
        return self.process.pid


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
def served(
    contender: Contender,
    places: Places,
    *options: str,
    engine: str = "connect_engine",
    connector_url: str = "http://127.0.0.1:1",
    fill: Callable[[str], None] = lambda _: None,
) -> Iterator[Served]:
    """Run a contender for the block, on a store that `fill` is given the URL of before.

    `options`, and which engine of `benchmarks.instant` it is, are for `settlement-core serve`.
    """
    port, store = free_port(), places.take(contender.store)
    fill(store)
    if contender.server == ORIGINAL:
        command = ["node", str(NODE / "original.js"), str(port), store, connector_url]
    else:
        command = [sys.executable, "-m", *_arguments(contender, port, engine), *options]
    with running(command, env={"SETTLEMENT_STORE": store, "SETTLEMENT_CONNECTOR_URL": connector_url}) as process:
        wait_until(lambda: listens(port), process, contender.name)
        yield Served(contender, f"http://127.0.0.1:{port}", store, process)


def _arguments(contender: Contender, port: int, engine: str) -> list[str]:
    app = "benchmarks.floor:app" if contender.store == FLOOR else "benchmarks.instant:app"
    if contender.server == "uvicorn":
        quiet = ["--no-access-log", "--log-level", "warning"]
        return ["uvicorn", app, *quiet, "--lifespan", "on", "--port", str(port)]
    if contender.server == "granian":
        return ["granian", app, "--interface", "asgi", "--log-level", "warning", "--port", str(port)]
    loop = contender.server.removeprefix("hypercorn-")
    if contender.store == FLOOR:
        return ["hypercorn", app, "--worker-class", loop, "--log-level", "warning", "-b", f"127.0.0.1:{port}"]
    serve = ["settlement_core", "serve", f"benchmarks.instant:{engine}", "--port", str(port), "--admin-port", "-1"]
    return [*serve, "--backend", loop, "--log-level", "warning"]


def beside_originals(question: str, workload: str, up: Sequence[Served], found: Mapping[str, Figures]) -> Iterator[Row]:
    """Yield what was found of each contender by its name, beside both originals and the floor of its server."""
    for one in up:
        contender = one.contender
        others = {name: name for name in (ON_REDIS.name, IN_MEMORY.name)}
        if contender.server != ORIGINAL:
            others["its floor"] = Contender(contender.server, FLOOR).name
        figures = found[contender.name]
        first = next(iter(figures))
        yield Row(
            question=question,
            workload=workload,
            subject=contender.name,
            durability=contender.durability,
            figures=figures,
            ratios={label: figures[first] / found[name][first] for label, name in others.items() if name in found},
        )

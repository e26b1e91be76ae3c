"""Settlement requests per second over HTTP, beside the original on the same Redis, in turn and in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.servers import free_port, running

__all__ = ["NODE", "ORIGINAL", "measure_accept"]

NODE = Path(__file__).parent / "node"
ROOT = Path(__file__).parent.parent
ORIGINAL = "the original, Express"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to be measured: how it is started on a port."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]


def measure_accept(
    redis_url: str, *, accounts: int = 100, connections: int = 64, seconds: int = 5, rounds: int = 3
) -> dict[str, dict[str, float]]:
    """Return requests per second and latencies of each server: medians of rounds in which each has its turn."""
    with ExitStack() as servers:
        urls = {
            contender.name: servers.enter_context(_served(contender, port, accounts))
            for port, contender in ((port, contender) for contender, port in _contenders(redis_url))
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
        for round_number in range(rounds + 1):
            for name, url in urls.items():
                measured = _load(url, accounts, connections, seconds)
                # the first round is for compilers and caches to get warm
                if round_number:
                    found[name].append(measured)
    return {
        name: {key: statistics.median(measured[key] for measured in every) for key in every[0]}
        for name, every in found.items()
    }


_UVICORN = ("--no-access-log", "--log-level", "warning", "--lifespan", "on")


def _contenders(redis_url: str) -> Iterator[tuple[Contender, int]]:
    port = free_port()
    yield Contender(ORIGINAL, ["node", str(NODE / "original.js"), str(port), f"{redis_url}/0"], {}), port
    port = free_port()
    serve = ["settlement_core", "serve", "benchmarks.instant:connect_engine", "--port", str(port)]
    serve += ["--admin-port", "-1", "--backend", "asyncio", "--log-level", "warning"]
    yield Contender("hypercorn on asyncio", _python(*serve), {"SETTLEMENT_STORE": f"{redis_url}/1"}), port
    port = free_port()
    command = _python("uvicorn", "benchmarks.instant:app", *_UVICORN, "--port", str(port))
    yield Contender("uvicorn", command, {"SETTLEMENT_STORE": f"{redis_url}/2"}), port
    port = free_port()
    command = _python("hypercorn", "benchmarks.floor:app", "--log-level", "warning", "-b", f"127.0.0.1:{port}")
    yield Contender("hypercorn on asyncio, its floor", command, {}), port
    port = free_port()
    command = _python("uvicorn", "benchmarks.floor:app", *_UVICORN, "--port", str(port))
    yield Contender("uvicorn, its floor", command, {}), port


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


@contextmanager
def _served(contender: Contender, port: int, accounts: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | contender.environment
    with running(contender.command, cwd=ROOT, env=environment) as process:
        deadline = time.monotonic() + 60
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{contender.name} did not start; its exit code is {process.poll()}")
            time.sleep(0.05)
        for number in range(accounts):
            _open_account(url, f"account-{number}")
        yield url


def _answers(url: str) -> bool:
    try:
        _open_account(url, "account-0")
    except (URLError, OSError):
        return False
    return True


def _open_account(url: str, account_id: str) -> None:
    content = json.dumps({"id": account_id}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{url}/accounts", data=content, headers=headers), timeout=5) as answer:
        answer.read()


def _load(url: str, accounts: int, connections: int, seconds: int) -> dict[str, float]:
    command = ["node", str(NODE / "load.js"), url, str(accounts), str(connections), str(seconds)]
    printed = subprocess.run(command, capture_output=True, check=True, text=True, timeout=seconds + 60)
    measured: dict[str, float] = json.loads(printed.stdout)
    if measured["refused"]:
        raise RuntimeError(f"{url} refused {measured['refused']} requests")
    return measured

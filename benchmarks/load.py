"""The load: settlement requests from Node.js, which shares the machine's processors with whoever is measured."""

from __future__ import annotations

import json
import subprocess
import time
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.servers import NODE
from benchmarks.turns import Figures

__all__ = ["AMOUNT", "CONNECTIONS", "ask_each", "closed_loop", "get", "open_accounts", "open_loop", "tell"]

CONNECTIONS = 64

AMOUNT = 1.5
"""What every request asks for, exactly."""

PATIENCE_S = 60.0


def open_accounts(url: str, count: int) -> None:
    """Open that many accounts, from `account-0` on."""
    _node("once.js", url, "accounts", count)


def ask_each(url: str, count: int) -> None:
    """Ask each of those accounts to settle, once."""
    _node("once.js", url, "settlements", count)


def closed_loop(url: str, *, accounts: int, seconds: int) -> Figures:
    """Ask again as soon as the answer is there, on each of 64 connections."""
    measured = _node("closed_loop.js", url, accounts, CONNECTIONS, seconds, seconds=seconds)
    return {
        "requests/s": measured["per_second"],
        "p50 ms": measured["p50_ms"],
        "p99 ms": measured["p99_ms"],
        "refused": measured["refused"],
        "accepted": measured["accepted"],
        "took s": measured["took_s"],
    }


def open_loop(url: str, *, accounts: int, rate: int, seconds: int) -> Figures:
    """Ask at a fixed rate whatever the answers do; latency counts from when a request was due to be sent."""
    measured = _node("open_loop.js", url, accounts, rate, seconds, seconds=seconds)
    return {"p99 ms": measured["p99_ms"], "p50 ms": measured["p50_ms"], "refused": measured["refused"]}


def tell(url: str, message: object) -> Any:
    """Send the engine a message, by the account-0 of its server, and return its answer; wait while it has no time."""
    headers = {"Content-Type": "application/octet-stream"}
    request = Request(f"{url}/accounts/account-0/messages", data=json.dumps(message).encode(), headers=headers)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(request, timeout=PATIENCE_S) as answer:
                return json.loads(answer.read())
        except HTTPError as refused:
            if refused.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def get(url: str) -> Any:
    """Return the JSON that is there."""
    with urlopen(url, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def _node(script: str, *arguments: object, seconds: float = 0.0) -> dict[str, Any]:
    command = ["node", str(NODE / script), *map(str, arguments)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=seconds + PATIENCE_S)
    found: dict[str, Any] = json.loads(printed.stdout)
    return found

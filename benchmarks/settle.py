"""Settle: from a request over HTTP to the engine that has paid it, ours beside the original.

What counts is when everything that was accepted has been settled. `embedded` has the same without HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.contenders import IN_MEMORY, ON_REDIS, Contender, Places, Served, beside_originals, served
from benchmarks.figures import Row
from benchmarks.load import AMOUNT, closed_loop, open_accounts, tell
from benchmarks.servers import redis_server, wait_idle
from benchmarks.turns import Figures, in_turn

__all__ = ["measure_settle"]

OURS = (
    Contender("hypercorn-trio", "sqlite"),
    Contender("hypercorn-trio", "redis"),
    Contender("hypercorn-asyncio", "redis"),
    Contender("uvicorn", "sqlite"),
    Contender("uvicorn", "redis"),
)

PATIENCE_S = 60.0


def measure_settle(
    folder: Path,
    *,
    ours: Sequence[Contender] = OURS,
    accounts: Sequence[int] = (1, 100, 10_000),
    seconds: int = 2,
    rounds: int = 3,
) -> Iterator[Row]:
    """Yield rows of 64 connections in a closed loop, among each number of accounts."""
    with ExitStack() as stack:
        places = Places(folder, stack.enter_context(redis_server(folder / "redis")))
        up = [stack.enter_context(served(contender, places)) for contender in (ON_REDIS, IN_MEMORY, *ours)]
        for one in up:
            open_accounts(one.url, max(accounts))
            settle_over_http(one, accounts=max(accounts), seconds=1)
        for count in accounts:
            turns = {one.contender.name: partial(settle_over_http, one, accounts=count, seconds=seconds) for one in up}
            workload = f"over HTTP, 64 connections, {count:,} account{'s' * (count > 1)}"
            yield from beside_originals("settle", workload, up, in_turn(turns, rounds=rounds))


def settle_over_http(one: Served, *, accounts: int, seconds: int) -> Figures:
    """Ask for `seconds`, wait until all of it is settled, and return how fast that went."""
    before = _settled(one)
    load = closed_loop(one.url, accounts=accounts, seconds=seconds)
    ended = time.perf_counter()
    while _settled(one) - before < load["accepted"]:
        if time.perf_counter() > ended + PATIENCE_S:
            raise RuntimeError(f"{one.contender.name} does not settle what it accepted")
        time.sleep(0.005)
    # those whose answers came too late to be counted are settled, too
    settled, took_s = _settled(one) - before, time.perf_counter() - ended
    wait_idle(one.pid)
    return {"settlements/s": settled / (load["took s"] + took_s), "accepted/s": load["requests/s"], "behind s": took_s}


def _settled(one: Served) -> float:
    return float(tell(one.url, {})["settled"]) / AMOUNT

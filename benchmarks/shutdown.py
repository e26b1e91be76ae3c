"""Shutdown: from SIGTERM to the exit of a server whose accounts are all in the middle of a payment.

The payments would take for ever; they are given a second, then they are cut, and their attempts stay open in the store.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.contenders import Contender, Places, served
from benchmarks.embedded import BACKENDS
from benchmarks.figures import Row
from benchmarks.load import ask_each, open_accounts
from benchmarks.servers import wait_idle
from benchmarks.turns import Figures, in_turn

__all__ = ["measure_shutdown"]

GIVEN_S = 1.0


def measure_shutdown(
    folder: Path, *, backends: Sequence[str] = BACKENDS, active: Sequence[int] = (1, 10_000), rounds: int = 1
) -> Iterator[Row]:
    """Yield rows of each loop, with each number of accounts at work."""
    places = Places(folder, redis_url="")
    for count in active:
        turns = {
            contender.name: partial(_shut_down, contender, places, count)
            for contender in (Contender(f"hypercorn-{backend}", "sqlite") for backend in backends)
        }
        for name, figures in in_turn(turns, rounds=rounds).items():
            yield Row(
                question="shutdown",
                workload=f"SIGTERM with {count:,} account{'s' * (count > 1)} at work, which are given {GIVEN_S:g} s",
                subject=name,
                durability="fsync always",
                figures=figures,
            )


def _shut_down(contender: Contender, places: Places, active: int) -> Figures:
    with served(contender, places, "--shutdown", f"{GIVEN_S:g}", engine="connect_slow_engine") as one:
        open_accounts(one.url, active)
        ask_each(one.url, active)
        wait_idle(one.pid)
        began = time.perf_counter()
        one.process.send_signal(signal.SIGTERM)
        code = one.process.wait(60)
        took_s = time.perf_counter() - began
    if code != 0:
        raise RuntimeError(f"{contender.name} ended with {code}")
    return {"s to exit": took_s}

"""Workers: what several processes behind one port accept, on one Redis, beside the original."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.accept import under_load
from benchmarks.contenders import ON_REDIS, Contender, Places, served
from benchmarks.figures import Row
from benchmarks.load import CONNECTIONS, open_accounts
from benchmarks.servers import redis_server
from benchmarks.turns import in_turn

__all__ = ["measure_workers"]

OURS = Contender("hypercorn-trio", "redis")


def measure_workers(
    folder: Path, *, workers: Sequence[int] = (1, 2, 4), accounts: int = 100, seconds: int = 2, rounds: int = 3
) -> Iterator[Row]:
    """Yield a row of the original and one for each number of workers."""
    with ExitStack() as stack:
        places = Places(folder, stack.enter_context(redis_server(folder / "redis")))
        up = {ON_REDIS.name: stack.enter_context(served(ON_REDIS, places))}
        for number in workers:
            name = f"{OURS.name}, {number} worker{'s' * (number > 1)}"
            up[name] = stack.enter_context(served(OURS, places, "--workers", str(number)))
        for one in up.values():
            open_accounts(one.url, accounts)
            under_load(one, accounts=accounts, seconds=1)
        turns = {name: partial(under_load, one, accounts=accounts, seconds=seconds) for name, one in up.items()}
        found = in_turn(turns, rounds=rounds)
    for name, figures in found.items():
        yield Row(
            question="workers",
            workload=f"closed loop, {CONNECTIONS} connections, {accounts:,} accounts",
            subject=name,
            durability="fsync always",
            figures=figures,
            ratios={ON_REDIS.name: figures["requests/s"] / found[ON_REDIS.name]["requests/s"]},
        )

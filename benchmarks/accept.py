"""Accept: how many settlement requests a second are made durable and answered, and how soon.

Every request has a key of its own, and is settled at once: the settling is paid for by the same processors. Before the
next contender's turn the last one's is over: what it accepted and did not settle yet would be others' time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import redis

from benchmarks.contenders import (
    FLOOR,
    IN_MEMORY,
    ON_REDIS,
    SERVERS,
    STORES,
    Contender,
    Places,
    Served,
    beside_originals,
    served,
)
from benchmarks.figures import Row
from benchmarks.load import CONNECTIONS, closed_loop, open_accounts, open_loop
from benchmarks.servers import redis_server, wait_idle
from benchmarks.turns import Figures, in_turn

__all__ = ["measure_accept", "require_redis", "under_load"]

WARM_S = 1
"""Under load before it counts: compilers and caches get warm."""


def measure_accept(
    folder: Path,
    *,
    servers: Sequence[str] = SERVERS,
    stores: Sequence[str] = STORES,
    accounts: Sequence[int] = (1, 100),
    rates: Sequence[int] = (1000, 2000),
    seconds: int = 2,
    rounds: int = 3,
) -> Iterator[Row]:
    """Yield rows of a closed loop among each number of accounts, then of an open loop at each rate among the most."""
    ours = [Contender(server, store) for server in servers for store in stores]
    floors = [Contender(server, FLOOR) for server in servers]
    most = max(accounts)
    with ExitStack() as stack:
        places = Places(folder, stack.enter_context(redis_server(folder / "redis")))
        up = [stack.enter_context(served(contender, places)) for contender in (ON_REDIS, IN_MEMORY, *ours, *floors)]
        for one in up:
            _warm_up(one, most)
        for count in accounts:
            workload = f"closed loop, {CONNECTIONS} connections, {count:,} account{'s' * (count > 1)}"
            yield from _compare(workload, up, rounds, partial(closed_loop, accounts=count, seconds=seconds))
        keeping = [one for one in up if one.contender.store != FLOOR]
        for rate in rates:
            workload = f"open loop, {rate:,} requests/s, {most:,} account{'s' * (most > 1)}"
            load = partial(open_loop, accounts=most, rate=rate, seconds=seconds)
            yield from _compare(workload, keeping, rounds, load)


def _warm_up(one: Served, accounts: int) -> None:
    open_accounts(one.url, accounts)
    accepted = closed_loop(one.url, accounts=accounts, seconds=WARM_S)["accepted"]
    wait_idle(one.pid)
    if one.contender == ON_REDIS:
        require_redis(one.store, requests=int(accepted))


def require_redis(store: str, *, requests: int) -> None:
    """Raise unless the original keeps at least that many requests in its Redis, which fsyncs before it answers."""
    with redis.Redis.from_url(store, decode_responses=True) as client:
        kept = sum(1 for _ in client.scan_iter("accounts:*:settlement-requests:*", count=1000))
        settings = client.config_get("appendonly") | client.config_get("appendfsync")
    if kept < requests or settings != {"appendonly": "yes", "appendfsync": "always"}:
        raise RuntimeError(
            f"the original keeps {kept} of {requests} requests in {store}, whose settings are {settings}"
        )


def _compare(workload: str, up: Sequence[Served], rounds: int, load: Callable[[str], Figures]) -> Iterator[Row]:
    found = in_turn({one.contender.name: partial(_turn, one, load) for one in up}, rounds=rounds)
    yield from beside_originals("accept", workload, up, found)


def under_load(one: Served, *, accounts: int, seconds: int) -> Figures:
    """Have its turn in a closed loop: it ends when everything that was accepted is settled."""
    return _turn(one, partial(closed_loop, accounts=accounts, seconds=seconds))


def _turn(one: Served, load: Callable[[str], Figures]) -> Figures:
    figures = load(one.url)
    wait_idle(one.pid)
    return {name: value for name, value in figures.items() if name not in {"accepted", "took s"}}

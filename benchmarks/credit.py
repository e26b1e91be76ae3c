"""Credit: how many incoming settlements a second the connector has acknowledged, ours beside the original.

The engine hears of payments, 64 at a time, and hands them over; what counts is when the connector has taken all of
them. The original makes a request of each; ours gathers what has come up for an account while a credit is under way.

And after an hour's backlog: payments had come in for an hour in which the connector could not be reached; how long it
takes from the start of the program until the connector has taken all. The original keeps such payments in memory, each
waiting for its next try for up to an hour, and nothing of them outlives a restart: it has no figure here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import IN_MEMORY, ON_REDIS, Contender, Places, Served, beside_originals, served
from benchmarks.figures import Row
from benchmarks.load import AMOUNT, get, open_accounts, tell
from benchmarks.servers import NODE, free_port, listens, redis_server, running, wait_idle, wait_until
from benchmarks.turns import Figures, in_turn
from settlement_core import open_store
from settlement_core.values.commands import Enqueue, OpenAccount
from settlement_core.values.records import Direction

__all__ = ["measure_credit"]

OURS = (
    Contender("hypercorn-trio", "sqlite"),
    Contender("hypercorn-trio", "redis"),
    Contender("uvicorn", "sqlite"),
    Contender("uvicorn", "redis"),
)

BACKLOG = 36_000
"""Ten payments a second for an hour."""

BATCH = 500

PATIENCE_S = 120.0


def measure_credit(
    folder: Path,
    *,
    ours: Sequence[Contender] = OURS,
    accounts: Sequence[int] = (1, 100),
    seconds: float = 2,
    backlog: int = BACKLOG,
    rounds: int = 3,
) -> Iterator[Row]:
    """Yield rows of payments as they come in, then of the backlog."""
    with ExitStack() as stack:
        connector_url = stack.enter_context(_connector())
        places = Places(folder, stack.enter_context(redis_server(folder / "redis")))
        contenders = (ON_REDIS, IN_MEMORY, *ours)
        up = [stack.enter_context(served(one, places, connector_url=connector_url)) for one in contenders]
        for one in up:
            open_accounts(one.url, max(accounts))
            _credit(one, connector_url, max(accounts), seconds=0.5)
        for count in accounts:
            turns = {one.contender.name: partial(_credit, one, connector_url, count, seconds=seconds) for one in up}
            workload = f"payments as they come in, {count:,} account{'s' * (count > 1)}"
            yield from beside_originals("credit", workload, up, in_turn(turns, rounds=rounds))
    with _connector() as connector_url, redis_server(folder / "redis-backlog") as redis_url:
        places = Places(folder / "redis-backlog", redis_url)
        fill = partial(_fill, accounts=max(accounts), payments=backlog)
        turns = {
            contender.name: partial(_catch_up, contender, places, connector_url, backlog, fill) for contender in ours
        }
        found = in_turn(turns, rounds=1)
    for contender in ours:
        yield Row(
            question="credit",
            workload=f"a backlog of {backlog:,} payments, {max(accounts):,} account{'s' * (max(accounts) > 1)}",
            subject=contender.name,
            durability=contender.durability,
            figures=found[contender.name],
        )


@contextmanager
def _connector() -> Iterator[str]:
    port = free_port()
    with running(["node", str(NODE / "connector.js"), str(port)]) as process:
        wait_until(lambda: listens(port), process, "the connector")
        yield f"http://127.0.0.1:{port}"


def _credit(one: Served, connector_url: str, accounts: int, *, seconds: float) -> Figures:
    """Have payments come in for `seconds`, and wait until the connector has taken all of them."""
    before, already = get(connector_url), tell(one.url, {})["credited"]
    began = time.time()
    tell(one.url, {"credit_s": seconds, "accounts": accounts})
    while tell(one.url, {})["crediting"]:
        time.sleep(0.05)
    payments = tell(one.url, {})["credited"] - already
    after = _wait_taken(connector_url, before["amount"] + payments * AMOUNT)
    wait_idle(one.pid)
    return {
        "payments/s": payments / (after["last_at"] - began),
        "payments a credit": payments / (after["credits"] - before["credits"]),
    }


def _wait_taken(connector_url: str, amount: float) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        told: dict[str, Any] = get(connector_url)
        if told["amount"] >= amount:
            assert told["amount"] == amount, f"the connector was credited {told['amount']}, not {amount}"
            return told
        time.sleep(0.01)
    raise RuntimeError(f"the connector was not credited {amount} within {PATIENCE_S:g} s")


def _fill(store_url: str, *, accounts: int, payments: int) -> None:
    names = [f"account-{number}" for number in range(accounts)]
    with closing(open_store(store_url)) as store:
        store.apply([OpenAccount(account_id=name, at=0.0) for name in names])
        for first in range(0, payments, BATCH):
            store.apply(
                [
                    Enqueue(
                        account_id=names[number % accounts],
                        direction=Direction.INCOMING,
                        entry_id=f"payment-{number}",
                        amount=Decimal(str(AMOUNT)),
                        at=0.0,
                    )
                    for number in range(first, min(first + BATCH, payments))
                ]
            )


def _catch_up(
    one: Contender, places: Places, connector_url: str, payments: int, fill: Callable[[str], None]
) -> Figures:
    amount = get(connector_url)["amount"] + payments * AMOUNT
    began = 0.0

    def fill_and_begin(store_url: str) -> None:
        nonlocal began
        fill(store_url)
        began = time.time()

    with served(one, places, connector_url=connector_url, fill=fill_and_begin):
        took_s = _wait_taken(connector_url, amount)["last_at"] - began
    return {"s from start": took_s, "payments/s": payments / took_s}

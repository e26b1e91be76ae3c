"""History: what a settled attempt costs while it is listed, and what is left of it for ever once it has left.

Outgoing payments with the reference of an Ethereum transaction, and incoming credits, each of one request: bytes of
Redis memory and of a SQLite file, for each and, as a sum to plan with, for ten million. Long histories cost what short
ones do per attempt, but for Redis's tables, which grow in steps: a second batch is measured on top of a first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis

from benchmarks.figures import Row
from benchmarks.servers import redis_server
from settlement_core import open_store
from settlement_core.abc import Store
from settlement_core.values import commands as c
from settlement_core.values.records import Direction, Payment

__all__ = ["measure_history"]

ACCOUNTS = 100
AMOUNT = Decimal("1.234567")
PER = 10_000_000
GIB = 1024**3
LATER = 1e9


def measure_history(folder: Path, *, attempts: int = 100_000) -> Iterator[Row]:
    """Yield rows for payments and credits in either store: listed, and after they have left."""
    for direction in Direction:
        with redis_server(folder / f"redis-{direction}") as url, redis.Redis.from_url(url) as client:
            size = partial(_redis_size, client)
            with closing(open_store(f"{url}/0")) as store:
                yield from _measure(store, size, direction, attempts, "redis")
        path = folder / f"{direction}.db"
        with closing(open_store(f"sqlite:{path}")) as store:
            yield from _measure(store, partial(_sqlite_size, store), direction, attempts, "sqlite")


def _measure(store: Store, size: Any, direction: Direction, attempts: int, name: str) -> Iterator[Row]:
    store.apply([c.OpenAccount(account_id=_account(number), at=0.0) for number in range(ACCOUNTS)])
    listed = left = 0.0
    for batch in range(2):
        before = size()
        ids = _settle(store, direction, batch * attempts, attempts)
        full = size()
        if direction is Direction.OUTGOING:
            while store.apply([c.Prune(before=LATER)])[0]:
                pass
            full = size()
        for account_id, own in ids.items():
            for start in range(0, len(own), 200):
                chosen = tuple(own[start : start + 200])
                (gone,) = store.apply([c.Retire(account_id=account_id, attempt_ids=chosen, before=LATER)])
                assert len(gone) == len(chosen), "all are over"
        listed, left = (full - before) / attempts, (size() - before) / attempts
    for what, each in (("listed", listed), ("left", left)):
        yield Row(
            question="history",
            workload=f"{direction} attempts, {what}",
            subject=name,
            durability="fsync always",
            figures={"B each": each, f"GiB for {PER // 10**6} M": each * PER / GIB},
        )


def _settle(store: Store, direction: Direction, first: int, count: int) -> dict[str, list[str]]:
    """Settle so many requests, each in an attempt of its own; return the ids of the attempts by account."""
    ids: dict[str, list[str]] = {}
    for start in range(first, first + count, ACCOUNTS):
        batch: list[c.Command[Any]] = []
        for number in range(start, min(start + ACCOUNTS, first + count)):
            account_id = _account(number % ACCOUNTS)
            key = sha256(f"{number}".encode()).hexdigest()
            attempt_id = f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:32]}"
            given: dict[str, Any] = {"account_id": account_id, "direction": direction, "at": 1000.0 + number}
            batch += [
                c.Enqueue(entry_id=f"0x{key}", amount=AMOUNT, **given),
                c.Claim(attempt_id=attempt_id, **given),
            ]
            if direction is Direction.OUTGOING:
                reference = {"raw": f"0x{key * 4}", "hash": f"0x{key}", "nonce": number}
                payment = Payment(AMOUNT, reference)
                batch.append(c.Note(account_id=account_id, attempt_id=attempt_id, payment=payment))
            batch.append(c.Close(account_id=account_id, attempt_id=attempt_id, settled=AMOUNT, at=1000.0 + number))
            ids.setdefault(account_id, []).append(attempt_id)
        for result in store.apply(batch):
            assert not isinstance(result, Exception), result
    return ids


def _account(number: int) -> str:
    return f"account-{number:03}"


def _redis_size(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def _sqlite_size(store: Any) -> int:
    connection = store._connection  # noqa: SLF001 - a file's free pages are used again: they are not what it holds
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)

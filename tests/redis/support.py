"""What tests of the Redis store share: a server for the whole run, a namespace for each store, and short questions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from settlement_core.stores.redis import RedisStore, connect_redis
from settlement_core.stores.redis.layout import Keyspace
from settlement_core.values import commands as c
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.records import AccountOverview, Direction
from tests.redis.servers import RedisServer, wait_until

__all__ = [
    "EXAMPLES",
    "PARTITIONS",
    "apply_until_taken",
    "everything",
    "fresh_namespace",
    "overview_of",
    "own_questions",
    "own_state",
    "places_of",
    "raised",
    "shared_server",
    "store_on",
]

EXAMPLES = int(os.environ.get("CHECK_EXAMPLES", "100"))
"""How many scripts a contract suite of a quick store tries; those here are slower, and take a part of it."""

PARTITIONS = 4

_ALL = 1_000_000
_numbers = count()


def fresh_namespace() -> str:
    """Return a namespace nobody has used: a new store on a server that has others."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@contextmanager
def shared_server(directory: Path) -> Iterator[RedisServer]:
    """Run a server for many tests, which leave it as they found it, but for the stores they made there."""
    with RedisServer(directory, unix=True) as server:
        yield server


def store_on(url: str, *, namespace: str | None = None, **options: Any) -> RedisStore:
    """Open a store of few partitions, a new one unless its namespace is named."""
    known: dict[str, Any] = {"partitions": PARTITIONS, "namespace": namespace or fresh_namespace()}
    return connect_redis(url, **(known | options))


def places_of(store: RedisStore) -> Keyspace:
    """Return where the store keeps what."""
    return store._places


def everything(store: Any, accounts: Sequence[str] = ("alice", "bob")) -> list[Any]:
    """Return all that can be asked of these accounts, and of the store as a whole."""
    questions: list[c.Command[Any]] = [
        c.Overview(limit=_ALL),
        c.Due(limit=_ALL),
        c.Suspense(limit=_ALL, assigned=True),
        c.Suspense(limit=_ALL),
    ]
    for account_id in accounts:
        questions += own_questions(account_id)
    results: list[Any] = store.apply([*questions, c.Get(account_id="", key="cursor")])
    return results


def own_questions(account_id: str, keys: Sequence[str] = ("cursor",)) -> list[c.Command[Any]]:
    """Return all questions about one account."""
    return [
        c.Overview(account_id=account_id),
        c.History(account_id=account_id, limit=_ALL),
        *(c.Entries(account_id=account_id, direction=direction, limit=_ALL) for direction in Direction),
        *(c.Get(account_id=account_id, key=key) for key in keys),
    ]


def own_state(store: Any, account_id: str, keys: Sequence[str] = ("cursor",)) -> list[Any]:
    """Return all that can be asked about one account, whatever its entries are numbered."""
    results = store.apply(own_questions(account_id, keys))
    for place in (2, 3):
        results[place] = [
            (e.kind, e.entry_id, str(e.amount), e.attempt_id, e.entered_at, e.used_at) for e in results[place]
        ]
    return list(results)


def apply_until_taken(store: Any, batch: Sequence[c.Command[Any]]) -> list[Any]:
    """Apply a batch, again and again while the store is not available, as the journal does; return the results."""
    results: list[Any] = []

    def taken() -> bool:
        nonlocal results
        try:
            results = store.apply(batch)
        except StoreUnavailable:
            return False
        return True

    wait_until(taken, "the batch is taken")
    return results


def raised(results: Sequence[Any]) -> list[Exception]:
    """Return the refusals among results."""
    return [result for result in results if isinstance(result, Exception)]


def overview_of(store: Any, account_id: str = "alice") -> AccountOverview:
    """Return the account as the store knows it."""
    ((found,),) = store.apply([c.Overview(account_id=account_id)])
    assert isinstance(found, AccountOverview)
    return found

"""Stores for tests: each test that asks for `store` runs on every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from settlement_core.abc import Store
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from tests.redis.servers import RedisServer
from tests.redis.support import shared_server, store_on


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the SQLite store of this test lies."""
    return tmp_path / "settlement.db"


@pytest.fixture
def sqlite(path: Path) -> Iterator[SqliteStore]:
    """An open, empty SQLite store."""
    store = open_sqlite_store(path)
    yield store
    store.close()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server, in which each test has a namespace of its own."""
    with shared_server(tmp_path_factory.mktemp("redis") / "shared") as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    made: Store
    if request.param == "redis":
        made = store_on(request.getfixturevalue("shared_redis").url())
    else:
        made = create_memory_store() if request.param == "memory" else open_sqlite_store(path)
    yield made
    made.close()

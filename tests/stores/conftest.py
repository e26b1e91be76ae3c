"""Stores for tests: each test that asks for `store` runs on every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from settlement_core.abc import Store
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store


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


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    made: Store = create_memory_store() if request.param == "memory" else open_sqlite_store(path)
    yield made
    made.close()

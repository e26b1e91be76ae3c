"""One server for all tests of a process, and a new store on it for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from settlement_core.stores.redis import RedisStore
from tests.redis.proxy import HANDSHAKE, TcpProxy
from tests.redis.servers import HOST, RedisServer
from tests.redis.support import shared_server, store_on

CHECKS = frozenset({b"INFO", b"CONFIG", b"SCRIPT", b"TIME"})
"""What the store asks besides, when it looks whom it talks to."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one server for all tests that leave it as it was."""
    with shared_server(tmp_path_factory.mktemp("redis") / "shared") as server:
        yield server


@pytest.fixture
def proxy(shared: RedisServer) -> Iterator[TcpProxy]:
    """Run a proxy before the shared server whose losses count only what carries out commands."""
    with TcpProxy(HOST, shared.port, uncounted=HANDSHAKE | CHECKS) as proxy:
        yield proxy


@pytest.fixture
def books(shared: RedisServer) -> Iterator[RedisStore]:
    """Open a new store on the shared server."""
    store = store_on(shared.url())
    yield store
    store.close()


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a server for this test alone."""
    with RedisServer(tmp_path_factory.mktemp("redis") / "own") as server:
        yield server

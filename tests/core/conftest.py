"""Every test of the core runs on trio and on asyncio, under virtual time; those of a world on Redis, too, on trio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from settlement_core.testing.clocks import virtual_backend
from tests.core import worlds
from tests.core.stores import LoneRedis
from tests.redis.servers import RedisServer
from tests.redis.support import shared_server

ON_REDIS_TOO = {
    *("accounts", "cancel_points", "details", "ids_from_outside", "incoming"),
    *("outgoing_minimal", "outgoing_verifiable"),
    # of the HTTP edge
    "vectors",
}
"""The modules whose worlds do not care what their store is."""


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Return a loop with a jumping clock."""
    return virtual_backend(request.param)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server, in which each world has a namespace of its own."""
    with shared_server(tmp_path_factory.mktemp("redis") / "core") as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have the tests of some modules run on every kind of store."""
    name = metafunc.module.__name__.rpartition("test_")[2]
    metafunc.parametrize("_world_store", ["memory", "redis"] if name in ON_REDIS_TOO else ["memory"], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out Redis on asyncio: a store is called by either loop, and knows of none."""
    twice = {item for item in items if isinstance(item, pytest.Function) and _is_redis_on_asyncio(item)}
    config.hook.pytest_deselected(items=list(twice))
    items[:] = [item for item in items if item not in twice]


def _is_redis_on_asyncio(item: pytest.Function) -> bool:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("_world_store") == "redis" and "asyncio" in {params.get("anyio_backend"), params.get("backend")}


@pytest.fixture(autouse=True)
def _world_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give worlds a new store of this kind."""
    made: list[LoneRedis] = []

    def new_store() -> LoneRedis:
        made.append(LoneRedis(request.getfixturevalue("redis_server").url()))
        return made[-1]

    if request.param == "redis":
        monkeypatch.setattr(worlds, "new_store", new_store)
    yield
    for store in made:
        store.close()

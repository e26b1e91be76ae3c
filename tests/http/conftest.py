"""Every test of the HTTP edge runs on trio and on asyncio; under virtual time unless it needs sockets."""

from tests.core.conftest import _world_store, anyio_backend, pytest_generate_tests, redis_server

__all__ = ["_world_store", "anyio_backend", "pytest_generate_tests", "redis_server"]

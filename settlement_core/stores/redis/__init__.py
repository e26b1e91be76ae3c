"""The store for many machines: Redis or Valkey, alone, under Sentinel or as a Cluster, shared by many workers."""

try:
    import redis as _redis  # noqa: F401 - to say what is missing where it is
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "a store in Redis needs the redis package: pip install 'settlement-core[redis]'", name="redis"
    ) from None

from settlement_core.stores.redis.connect import connect_redis
from settlement_core.stores.redis.store import RedisStore

__all__ = ["RedisStore", "connect_redis"]

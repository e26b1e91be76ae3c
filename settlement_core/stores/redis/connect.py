"""Opening a store in Redis: by URL, by options, or with a client somebody already has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from settlement_core.stores.redis.cluster import ClusterServers
from settlement_core.stores.redis.connections import Connections
from settlement_core.stores.redis.opening import open_keyspace
from settlement_core.stores.redis.servers import Servers, SingleServer
from settlement_core.stores.redis.settings import DURABILITIES, Durability, DurabilityName
from settlement_core.stores.redis.store import RedisStore
from settlement_core.values.errors import LocalError, StoreUnavailable

__all__ = ["connect_redis"]

_log = logging.getLogger(__name__)

_FORGETFUL = (
    "the store at %s may forget at a failover what it acknowledged (replicas=0), and what was paid of that may be paid "
    "again"
)

TIMEOUT_S = 5.0
"""How long one pipeline may take, and connecting."""

_PORT, _SENTINEL_PORT = 6379, 26379

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """How a store is used; see `connect_redis`."""

    namespace: str = "settlement"
    partitions: int | None = None
    durability: DurabilityName = "always"
    replicas: int | None = None
    allow_eviction: bool = False
    unchecked: bool = False


def connect_redis(
    server: str | redis.Redis | RedisCluster = "redis://127.0.0.1:6379",
    *,
    create: bool = True,
    namespace: str | None = None,
    partitions: int | None = None,
    durability: DurabilityName | None = None,
    replicas: int | None = None,
    allow_eviction: bool | None = None,
    unchecked: bool | None = None,
    **connection: Any,
) -> RedisStore:
    """Open the store in a Redis, creating it if there is none, for this worker among others.

    Args:
        server: a URL, or a client, whose connection settings are used:
            `redis://[user:password@]host[:port][/db]`, `rediss://…` over TLS, `unix://path[?db=n]`,
            `redis+sentinel://host[:port][,host…]/service[/db]`, `redis+cluster://host[:port][,host…]`.
            The last two also speak TLS as `rediss+…`. The options below may also stand in its query.
        create: without it the store must exist.
        namespace: keeps several stores in one Redis apart; begins all keys.
        partitions: into how many parts the accounts of a new store are divided; more workers than that have nothing
            to do. It stays what it was when the store was made.
        durability: "always" reports nothing that is not on the server's disk (by `appendfsync always`, or WAITAOF
            from version 7.2 on); "everysec" accepts to forget the last second after a power loss; "none" accepts to
            forget everything when the server stops.
        replicas: how many replicas must have a batch before it is reported; a failover then forgets nothing that
            was. Under Sentinel and in a Cluster one, unless 0 accepts that loss; for a single server none.
        allow_eviction: take a server that may drop keys when its memory is full.
        unchecked: take a server that does not let its settings be read, or its connections be ended.
        connection: further settings of redis-py's connections, such as `password` or `ssl_ca_certs`.

    Raises `LocalError` with one sentence if the server cannot be used as it is, and what to change there;
    `StoreBroken` if a part of the store is not there.
    """
    given = {
        "namespace": namespace,
        "partitions": partitions,
        "durability": durability,
        "replicas": replicas,
        "allow_eviction": allow_eviction,
        "unchecked": unchecked,
    }
    options = _Options()
    if isinstance(server, str):
        server, options = _split(server)
    options = replace(options, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    _require_sane(options)
    fails_over = _fails_over(server)
    replicas_wanted = int(fails_over) if options.replicas is None else options.replicas
    safety = Durability(
        wanted=options.durability,
        replicas=replicas_wanted,
        allow_eviction=options.allow_eviction,
        unchecked=options.unchecked,
    )
    servers = _servers(server, safety, connection)
    if fails_over and not replicas_wanted:
        _log.warning(_FORGETFUL, servers.name)
    return _open(servers, options, create=create)


def _open(servers: Servers, options: _Options, *, create: bool) -> RedisStore:
    """Return the store there, or close the servers."""
    try:
        servers.open()
        return RedisStore(servers, open_keyspace(servers, options.namespace, options.partitions, create=create))
    except BaseException as problem:
        servers.close()
        if isinstance(problem, StoreUnavailable):
            raise LocalError(str(problem)) from problem
        if isinstance(problem, TypeError | redis.RedisError):
            # a setting that no connection knows, or the first commands refused
            raise LocalError(f"cannot use the store at {servers.name}: {problem}") from problem
        raise


# options


def _split(url: str) -> tuple[str, _Options]:
    """Return the URL without our options, and the options."""
    base, _, query = url.partition("?")
    known = _Options.__dataclass_fields__
    own: dict[str, Any] = {}
    rest: list[tuple[str, str]] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in known:
            own[name] = _parsed(name, value)
        else:
            rest.append((name, value))
    return base + ("?" + urlencode(rest, quote_via=quote) if rest else ""), _Options(**own)


def _parsed(name: str, text: str) -> Any:
    if name in {"allow_eviction", "unchecked"}:
        if text not in {"yes", "no"}:
            raise LocalError(f"store option {name} is yes or no, not {text!r}")
        return text == "yes"
    if name in {"partitions", "replicas"}:
        if not text.isdecimal():
            raise LocalError(f"store option {name} is a number, not {text!r}")
        return int(text)
    return text


def _require_sane(options: _Options) -> None:
    if options.durability not in DURABILITIES:
        raise LocalError(f"store option durability is one of {', '.join(DURABILITIES)}, not {options.durability!r}")
    if options.partitions is not None and not 1 <= options.partitions <= 4096:
        raise LocalError(f"store option partitions is 1 to 4096, not {options.partitions}")
    if not options.namespace or set("{}") & set(options.namespace):
        raise LocalError(f"store option namespace is some name without braces, not {options.namespace!r}")


def _fails_over(server: str | redis.Redis | RedisCluster) -> bool:
    """Tell whether another server takes over from the one that acknowledged."""
    if isinstance(server, str):
        return server.partition(":")[0].endswith(("+sentinel", "+cluster"))
    return isinstance(server, RedisCluster) or isinstance(server.connection_pool, SentinelConnectionPool)


# connections


_OWN: dict[str, Any] = {
    "decode_responses": True,
    # the journal repeats what failed, and knows what that may mean
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}
_OF_THE_POOL = ("connection_pool", "maint_notifications", "oss_cluster_maint", "orig_", "himport_registry")
"""What redis-py adds to the settings of a pool's connections, and another pool adds for itself."""

_USUAL: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}


def _servers(server: str | redis.Redis | RedisCluster, safety: Durability, connection: dict[str, Any]) -> Servers:
    made = Connections()
    connection = connection | {"redis_connect_func": made.greet}
    if isinstance(server, RedisCluster):
        known = server.nodes_manager.connection_kwargs
        nodes = [(node.host, node.port) for node in server.get_nodes()]
        return _cluster(
            nodes, safety, made, {k: v for k, v in known.items() if k not in {"host", "port"}} | connection | _OWN
        )
    if isinstance(server, redis.Redis):
        pool = server.connection_pool
        known = {k: v for k, v in pool.connection_kwargs.items() if not k.startswith(_OF_THE_POOL)} | connection | _OWN
        if isinstance(pool, SentinelConnectionPool):
            known |= {"service_name": pool.service_name, "sentinel_manager": pool.sentinel_manager}
        again = type(pool)(connection_class=pool.connection_class, **known)
        return SingleServer(redis.Redis(connection_pool=again), _shown(pool), safety, made)
    parts = urlsplit(server)
    if "@" in parts.path + parts.fragment:
        # what is cut off here would be shown
        raise LocalError(
            f"store {parts.scheme}://… cannot be used: it has @ after its host; write special characters of a user or "
            "password as %23 for #, %2F for /"
        )
    scheme, _, kind = parts.scheme.partition("+")
    if parts.scheme not in SCHEMES:
        raise LocalError(f"store {parts.scheme}://… is not known; for Redis there are {', '.join(SCHEMES)}")
    settings = _USUAL | _credentials(parts) | connection | _OWN
    if scheme == "rediss":
        settings["ssl"] = True
    try:
        if kind == "sentinel":
            return _sentinel(parts, safety, made, settings)
        if kind == "cluster":
            return _cluster(_hosts(parts, _PORT), safety, made, settings)
        # redis-py takes from the URL what it says
        client = redis.Redis.from_url(server, **_USUAL | connection | _OWN)
    except (ValueError, TypeError) as problem:
        raise LocalError(f"store {_safe(server)} cannot be used: {problem}") from None
    return SingleServer(client, _safe(server), safety, made)


def _sentinel(parts: Any, safety: Durability, made: Connections, settings: dict[str, Any]) -> Servers:
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("it names no service: redis+sentinel://host:port,host:port/service")
    settings["db"] = int(db or 0)
    # sentinels have credentials of their own, if any
    own = {"username": settings.pop("sentinel_username", None), "password": settings.pop("sentinel_password", None)}
    sentinels: Any = Sentinel(
        _hosts(parts, _SENTINEL_PORT),
        sentinel_kwargs={k: v for k, v in settings.items() if k not in {"username", "password", "db"}} | own,
        **settings,
    )
    name = f"{parts.scheme}://{_without_password(parts)}/{service}/{settings['db']}"
    return SingleServer(sentinels.master_for(service), name, safety, made)


def _cluster(nodes: list[tuple[str, int]], safety: Durability, made: Connections, settings: dict[str, Any]) -> Servers:
    def connect() -> RedisCluster:
        startup = [ClusterNode(host, port) for host, port in nodes]
        return RedisCluster(startup_nodes=startup, **settings)

    name = "redis+cluster://" + ",".join(f"{host}:{port}" for host, port in nodes)
    return ClusterServers(connect, name, safety, made)


def _credentials(parts: Any) -> dict[str, Any]:
    """Return what a URL says besides where: user, password, and settings of redis-py in its query."""
    found: dict[str, Any] = dict(parse_qsl(parts.query))
    userinfo = parts.netloc.rpartition("@")[0]
    if userinfo:
        user, _, password = userinfo.partition(":")
        found |= {"username": unquote(user) or None, "password": unquote(password)}
    return found


def _hosts(parts: Any, usual_port: int) -> list[tuple[str, int]]:
    hosts = _without_password(parts).split(",")
    found: list[tuple[str, int]] = []
    for host in hosts:
        split = urlsplit(f"//{host}")
        if not split.hostname:
            raise ValueError("it names no host")
        found.append((split.hostname, split.port or usual_port))
    return found


def _without_password(parts: Any) -> str:
    shown: str = parts.netloc.rpartition("@")[2]
    return shown


def _safe(url: str) -> str:
    """Return the URL as it may be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{_without_password(parts)}{parts.path}"


def _shown(pool: Any) -> str:
    settings: Mapping[str, Any] = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        return f"redis+sentinel://…/{pool.service_name}/{settings.get('db', 0)}"
    if "path" in settings:
        return f"unix://{settings['path']}"
    return f"redis://{settings.get('host', 'localhost')}:{settings.get('port', _PORT)}/{settings.get('db', 0)}"

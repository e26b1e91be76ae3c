"""A server that cannot keep money is refused in a sentence that says what to change there, or what to accept here."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

from settlement_core.stores.redis import RedisStore, connect, connect_redis
from settlement_core.stores.redis.layout import Keyspace
from settlement_core.stores.redis.settings import Durability, Guard
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, StoreUnavailable
from settlement_core.values.results import Entered
from tests.redis.servers import HOST, RedisServer, reserve_port, wait_until
from tests.redis.support import apply_until_taken, fresh_namespace, overview_of, raised, store_on
from tests.redis.topologies import Cluster, Sentinels
from tests.stores.books import claimed, closed, entered, opened

WAITAOF = (7, 2)


@contextmanager
def changed(server: RedisServer, **settings: str) -> Iterator[None]:
    """Change the server's settings for a while."""
    with server.client() as client:
        names = [name.replace("_", "-") for name in settings]
        before: dict[str, Any] = {name: next(iter(client.config_get(name).values())) for name in names}
        for name, value in zip(names, settings.values(), strict=True):
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)
            # an append-only file that is switched on again is first written as a whole
            info: Any = client.info
            wait_until(lambda: not info("persistence")["aof_rewrite_in_progress"], "it is as it was")


def version_of(server: RedisServer) -> tuple[int, ...]:
    """Return the version of the protocol's commands that the server has."""
    with server.client() as client:
        info: Any = client.info("server")
    return tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])


def works(store: RedisStore) -> bool:
    """Tell whether the store keeps a debt; closes it."""
    try:
        return not raised(store.apply([opened(), entered("works", "1")])) and overview_of(store).outgoing.queued == 1
    finally:
        store.close()


def refusal(url: str, **options: Any) -> str:
    """Return why the store is not opened."""
    with pytest.raises(LocalError) as caught:
        store_on(url, **options)
    return str(caught.value)


def test_a_server_that_forgets_is_refused_unless_that_is_accepted(shared: RedisServer) -> None:
    """Without an append-only file only `durability=none` opens it."""
    with changed(shared, appendonly="no"):
        for durability in ("always", "everysec"):
            said = refusal(shared.url(), durability=durability)
            assert "forgets everything when it stops (appendonly is no): CONFIG SET appendonly yes" in said
            assert said.endswith("?durability=none")
        assert works(store_on(shared.url() + "?durability=none"))


def test_a_server_that_leaves_its_disk_to_chance_is_refused(shared: RedisServer) -> None:
    """Not even WAITAOF helps where nothing is synced."""
    with changed(shared, appendfsync="no"):
        for durability in ("always", "everysec"):
            said = refusal(shared.url(), durability=durability)
            assert "(appendfsync is no): CONFIG SET appendfsync always" in said
            assert said.endswith("?durability=none")
        assert works(store_on(shared.url() + "?durability=none"))


def test_a_server_that_is_late_to_its_disk_is_asked_to_confirm_or_refused(shared: RedisServer) -> None:
    """From 7.2 on every batch is confirmed with WAITAOF; before, only `durability=everysec` opens it."""
    with changed(shared, appendfsync="everysec"):
        if version_of(shared) >= WAITAOF:
            store = store_on(shared.url())
            (guard,) = store._servers._guards.values()
            assert guard.confirmation == (ON_DISK,)
            assert works(store)
        else:
            said = refusal(shared.url())
            assert "appendfsync is everysec, and version" in said
            assert said.endswith("or accept to forget the last second with ?durability=everysec")
        assert works(store_on(shared.url() + "?durability=everysec"))


def test_a_server_that_does_not_sync_while_it_saves_is_asked_to_confirm_or_refused(shared: RedisServer) -> None:
    """Which it may do for minutes, and acknowledges all the same."""
    with changed(shared, no_appendfsync_on_rewrite="yes"):
        for durability in ("always", "everysec"):
            if version_of(shared) >= WAITAOF and durability == "always":
                assert works(store_on(shared.url()))
                continue
            said = refusal(shared.url(), durability=durability)
            assert "(no-appendfsync-on-rewrite is yes): CONFIG SET no-appendfsync-on-rewrite no" in said
            assert said.endswith("?durability=none")
        assert works(store_on(shared.url() + "?durability=none"))


def test_a_server_that_drops_keys_is_refused_unless_that_is_accepted(shared: RedisServer) -> None:
    """Debts would go first."""
    with changed(shared, maxmemory_policy="allkeys-lru"):
        said = refusal(shared.url())
        assert "CONFIG SET maxmemory-policy noeviction" in said
        assert said.endswith("?allow_eviction=yes")
        assert works(store_on(shared.url() + "?allow_eviction=yes"))
        assert works(store_on(shared.url(), allow_eviction=True))


def test_a_replica_is_refused(shared: RedisServer, own: RedisServer) -> None:
    """It forgets what it is told."""
    with own.client() as client:
        client.replicaof(HOST, shared.port)
        assert "is a replica, which forgets what it is told: name its primary" in refusal(own.url())


class _Scripted:
    """Answers what `check_server` asks as some other server would, which there is none of here."""

    def __init__(self, version: str, info: dict[str, Any] | None = None, **settings: str) -> None:
        self._info = {"redis_version": version, "role": "master", "run_id": "f00"} | (info or {})
        self._settings = {
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "maxmemory-policy": "noeviction",
        } | {name.replace("_", "-"): value for name, value in settings.items()}

    def info(self) -> dict[str, Any]:
        """Say what it is."""
        return self._info

    def config_get(self, name: str) -> dict[str, str]:
        """Say how it is set up."""
        return {name: self._settings[name]}

    def time(self) -> tuple[int, int]:
        """Say how late it is."""
        return 0, 0

    def execute_command(self, *command: Any) -> int:
        """Say which connection this is, or that there is none to be ended."""
        assert command[0] == "CLIENT"
        return 0

    def guard(self, **wanted: Any) -> Guard:
        """Return what watches it."""
        guard = Guard(Durability(**wanted), "redis://there")
        guard.check(cast("redis.Redis", self))
        return guard

    def confirmation(self, **wanted: Any) -> tuple[tuple[Any, ...], ...]:
        """Return how it is to confirm a batch."""
        return tuple(self.guard(**wanted).confirmation)


WATCHED = (
    ("CONFIG", "GET", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy"),
    ("INFO", "persistence"),
)
WATCHED_BEFORE_7 = (("CONFIG", "GET", "*append*"), ("INFO", "persistence"))
ON_DISK = ("WAITAOF", 1, 0, 2000)


def test_an_old_version_is_refused() -> None:
    """By what it says it is."""
    with pytest.raises(LocalError, match=r"has version 6\.0\.16; 6\.2 or newer is needed: upgrade it"):
        _Scripted("6.0.16").confirmation()
    assert _Scripted("6.2.0").confirmation() == WATCHED_BEFORE_7


def test_a_server_that_does_not_say_which_it_is_is_refused_unless_that_is_accepted() -> None:
    """Its connections could not be told from those of another."""
    with pytest.raises(LocalError, match=r"does not let connections be ended \(INFO tells no run_id\)"):
        _Scripted("7.0.15", {"run_id": ""}).confirmation()
    assert _Scripted("7.0.15", {"run_id": ""}).confirmation(unchecked=True) == WATCHED


@pytest.mark.parametrize(
    ("version", "appendfsync", "wanted", "confirmation"),
    [
        ("6.2.14", "always", {}, WATCHED_BEFORE_7),
        ("7.0.15", "always", {}, WATCHED),
        ("7.0.15", "always", {"replicas": 2}, (("WAIT", 2, 2000), *WATCHED)),
        ("7.0.15", "everysec", {"wanted": "everysec", "replicas": 1}, (("WAIT", 1, 2000), *WATCHED)),
        # from 7.2 on whatever the settings say, and however they are changed
        ("7.2.0", "always", {}, (ON_DISK,)),
        ("7.2.0", "everysec", {}, (ON_DISK,)),
        ("7.2.0", "always", {"replicas": 2}, (("WAIT", 2, 2000), ON_DISK)),
        ("8.0.0", "everysec", {"replicas": 1}, (("WAIT", 1, 2000), ON_DISK)),
        ("10.1.0", "everysec", {"wanted": "everysec"}, WATCHED),
        ("7.2.0", "no", {"wanted": "none", "replicas": 1}, (("WAIT", 1, 2000),)),
        ("7.0.15", "no", {"wanted": "none"}, ()),
    ],
)
def test_a_batch_is_confirmed_as_the_server_can(
    version: str, appendfsync: str, wanted: dict[str, Any], confirmation: tuple[Any, ...]
) -> None:
    """By the settings in force just after it, by its replicas, or by its disk."""
    assert _Scripted(version, appendfsync=appendfsync).confirmation(**wanted) == confirmation


@pytest.mark.parametrize("replies", [[0, [1, 0]], [1, [0, 0]], [1, redis.ResponseError("WAITAOF cannot be used")]])
def test_a_batch_that_is_not_confirmed_is_not_reported(replies: list[Any]) -> None:
    """On too few replicas, or not on the disk, or on one that is not asked any more."""
    guard = _Scripted("7.2.0").guard(replicas=1)
    with pytest.raises(StoreUnavailable, match="did not confirm a batch"):
        guard.require_confirmed(replies)
    for enough in ([1, [1, 0]], [2, [1, 2]]):
        guard.require_confirmed(enough)


UNSAFE = [
    ({"appendonly": "no"}, "appendonly is no"),
    ({"appendfsync": "everysec"}, "appendfsync is everysec, and version 7.0 has no WAITAOF"),
    ({"appendfsync": "no"}, "appendfsync is no"),
    ({"no-appendfsync-on-rewrite": "yes"}, "no-appendfsync-on-rewrite is yes"),
    ({"maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
]


@pytest.mark.parametrize("parsed", [True, False])
@pytest.mark.parametrize(("changed_to", "sentence"), UNSAFE)
def test_settings_in_force_after_a_batch_are_judged_however_the_answer_comes(
    changed_to: dict[str, str], sentence: str, *, parsed: bool
) -> None:
    """As redis-py reads it, or as the server wrote it."""
    server = _Scripted("7.0.15")
    guard = server.guard()
    info: Any = {"aof_rewrite_in_progress": 0} if parsed else "# Persistence\r\naof_rewrite_in_progress:0\r\n"
    for settings in (server._settings, server._settings | changed_to):
        told: Any = settings if parsed else [text for pair in settings.items() for text in pair]
        if settings is server._settings:
            guard.require_confirmed([told, info])
        else:
            with pytest.raises(LocalError, match=sentence):
                guard.require_confirmed([told, info])


def test_a_rewrite_is_no_reason_to_stop_but_the_first_is() -> None:
    """And any, if the file was seen switched off before it."""
    running = {"aof_rewrite_in_progress": 1, "aof_base_size": 88}
    assert _Scripted("7.0.15", running).confirmation() == WATCHED
    for pending in ("aof_rewrite_in_progress", "aof_rewrite_scheduled"):
        with pytest.raises(LocalError, match="has not finished the first rewrite of its append-only file"):
            _Scripted("7.0.15", {pending: 1, "aof_base_size": 0}).confirmation()
    # WAITAOF waits for it, and none at all is accepted
    assert _Scripted("7.2.0", {"aof_rewrite_in_progress": 1}).confirmation() == (ON_DISK,)
    assert _Scripted("7.0.15", {"aof_rewrite_in_progress": 1}).confirmation(wanted="none") == ()
    guard = _Scripted("7.0.15").guard()
    settings = _Scripted("7.0.15")._settings
    with pytest.raises(LocalError, match="appendonly is no"):
        guard.require_confirmed([settings | {"appendonly": "no"}, {}])
    with pytest.raises(LocalError, match="has not finished the first rewrite"):
        guard.require_confirmed([settings, running])
    guard.require_confirmed([settings, running | {"aof_rewrite_in_progress": 0}])
    guard.require_confirmed([settings, running])


@pytest.mark.parametrize("hidden", ["forbidden", "renamed"])
def test_a_server_that_does_not_tell_its_settings_is_refused_unless_that_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, hidden: str
) -> None:
    """As those of providers often do: CONFIG is renamed, or forbidden to the user."""
    settings = {"rename_command": 'CONFIG ""'} if hidden == "renamed" else {}
    with RedisServer(tmp_path_factory.mktemp("redis"), **settings) as server, server.client() as client:  # type: ignore[arg-type]
        client.execute_command("ACL", "SETUSER", "joe", "on", ">pw", "~*", "&*", "+@all", "-config")
        url = server.url().replace("redis://", "redis://joe:pw@")
        said = refusal(url)
        assert "does not let its settings be read" in said
        assert said.endswith("say so with ?unchecked=yes")
        assert works(store_on(url + "?unchecked=yes"))


def test_partitions_stay_as_they_were_made(shared: RedisServer) -> None:
    """Another number is refused, none takes what is there."""
    namespace = fresh_namespace()
    store_on(shared.url(), namespace=namespace, partitions=4).close()
    said = refusal(shared.url(), namespace=namespace, partitions=8)
    assert "has 4 partitions, which cannot be changed to 8: leave the option out" in said
    store = connect_redis(shared.url(), namespace=namespace, create=False)
    assert len(store._places.partitions) == 4
    store.close()


def test_a_store_of_another_format_is_refused(shared: RedisServer) -> None:
    """And not touched."""
    namespace = fresh_namespace()
    with shared.client() as client:
        client.hset(f"{{{namespace}}}:settings", mapping={"format": 77, "partitions": 4})
        assert "has format 77, this version knows 3; it was not changed" in refusal(shared.url(), namespace=namespace)


@pytest.mark.parametrize("left", [None, {"format": 1}])
def test_a_store_that_is_not_there_is_not_made_unless_asked(shared: RedisServer, left: dict[str, Any] | None) -> None:
    """Also if whoever made it ended half-way."""
    namespace = fresh_namespace()
    with shared.client() as client:
        if left:
            client.hset(f"{{{namespace}}}:settings", mapping=left)
        assert "there is no store" in refusal(shared.url(), namespace=namespace, create=False, partitions=None)
        assert bool(client.exists(f"{{{namespace}}}:settings")) == bool(left)
    assert works(store_on(shared.url(), namespace=namespace))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("durability=sometimes", "store option durability is one of always, everysec, none, not 'sometimes'"),
        ("replicas=many", "store option replicas is a number, not 'many'"),
        ("partitions=-1", "store option partitions is a number, not '-1'"),
        ("partitions=0", "store option partitions is 1 to 4096, not 0"),
        ("partitions=5000", "store option partitions is 1 to 4096, not 5000"),
        ("unchecked=maybe", "store option unchecked is yes or no, not 'maybe'"),
        ("allow_eviction=", "store option allow_eviction is yes or no, not ''"),
        ("namespace={a}", "store option namespace is some name without braces, not '{a}'"),
        ("namespace=", "store option namespace is some name without braces, not ''"),
        ("durabilty=none", "durabilty"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(shared: RedisServer, query: str, sentence: str) -> None:
    """In one sentence that names it, also if it is misspelt."""
    with pytest.raises(LocalError) as caught:
        connect_redis(f"{shared.url()}?{query}")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:6379", "store http://… is not known; for Redis there are redis, rediss, unix"),
        ("redis+cluster+tls://127.0.0.1", "is not known"),
        ("127.0.0.1:6379", "is not known"),
        ("redis+sentinel://127.0.0.1:26379", "it names no service: redis+sentinel://host:port,host:port/service"),
        ("redis+sentinel://:26379/settlement", "it names no host"),
        ("redis://127.0.0.1:many", "cannot be used"),
        ("redis+cluster://127.0.0.1:many", "cannot be used"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, sentence: str) -> None:
    """In one sentence."""
    with pytest.raises(LocalError) as caught:
        connect_redis(url)
    assert sentence in str(caught.value)


def test_nobody_there_and_somebody_else_there_are_told_in_a_sentence() -> None:
    """Neither a closed port nor a server of another kind is a reason for a traceback."""
    port, claim = reserve_port()
    kinds = [f"redis://{HOST}:{port}", f"redis+sentinel://{HOST}:{port}/settlement", f"redis+cluster://{HOST}:{port}"]
    for url in (*kinds, "unix:///nowhere/redis.sock"):
        with pytest.raises(LocalError, match="cannot use the store at "):
            connect_redis(url)
    claim.close()
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with ExitStack() as stack:
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    stack.enter_context(connection)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(LocalError, match="cannot use the store at "):
            connect_redis(f"redis://{HOST}:{listener.getsockname()[1]}", socket_timeout=1.0)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_what_is_no_store_at_the_place_of_one_is_told_in_a_sentence(shared: RedisServer) -> None:
    """A key of another type is where the store's settings should be."""
    namespace = fresh_namespace()
    with shared.client() as client:
        client.set(f"{{{namespace}}}:settings", "mine")
        assert "WRONGTYPE" in refusal(shared.url(), namespace=namespace)


@pytest.mark.parametrize("kind", ["client", "sentinel", "cluster", "unix"])
@pytest.mark.slow
def test_a_given_client_works(tmp_path_factory: pytest.TempPathFactory, shared: RedisServer, kind: str) -> None:
    """Its connection settings are used, and it stays its owner's: closing the store does not close it."""
    with ExitStack() as stack:
        client: redis.Redis | RedisCluster
        if kind == "sentinel":
            group = stack.enter_context(Sentinels(tmp_path_factory.mktemp("sentinels")))
            sentinels: Any = Sentinel([(HOST, server.port) for server in group.sentinels])
            client = sentinels.master_for("settlement")
        elif kind == "cluster":
            cluster = stack.enter_context(Cluster(tmp_path_factory.mktemp("cluster")))
            client = RedisCluster(host=HOST, port=cluster.servers[0].port)
        else:
            client = redis.Redis.from_url(shared.unix_url() if kind == "unix" else shared.url())
        stack.callback(client.close)
        namespace = fresh_namespace()
        if kind == "cluster":
            with pytest.raises(LocalError, match=r"0 of 1 replicas asked for \(\?replicas=N; with 0 a failover may"):
                connect_redis(client, namespace=namespace)
        store = connect_redis(client, namespace=namespace, replicas=0 if kind == "cluster" else None)
        (confirmation, *_) = [guard.confirmation for guard in store._servers._guards.values()]
        assert (("WAIT", 1, 2000) in confirmation) == (kind == "sentinel")
        assert "redis" in repr(store) or "unix" in repr(store)
        assert works(store)
        assert client.hget(f"{{{namespace}}}:settings", "partitions") == b"64"


@pytest.mark.parametrize(
    ("url", "replicas", "warned"),
    [
        ("redis://there", 0, 0),
        ("redis+sentinel://there/s", 1, 0),
        ("rediss+cluster://there", 1, 0),
        ("redis+cluster://there?replicas=2", 2, 0),
        ("redis+sentinel://there/s?replicas=0", 0, 1),
        ("redis+cluster://there?replicas=0", 0, 1),
        ("redis://there?replicas=0", 0, 0),
    ],
)
def test_where_servers_take_over_from_one_another_a_replica_confirms_unless_that_loss_is_accepted(
    url: str, replicas: int, warned: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And that it is accepted is said once, at the start."""
    made = list[Durability]()

    def servers(_: object, durability: Durability, __: object) -> Any:
        made.append(durability)
        found = MagicMock()
        found.name = url
        return found

    monkeypatch.setattr(connect, "_servers", servers)
    monkeypatch.setattr(connect, "open_keyspace", lambda *_, **__: Keyspace("s", 4))
    connect_redis(url)
    assert [durability.replicas for durability in made] == [replicas]
    sentence = f"the store at {url} may forget at a failover what it acknowledged (replicas=0), and what was paid of"
    said = [record.getMessage() for record in caplog.records]
    assert [text.startswith(sentence) for text in said] == [True] * warned


@pytest.fixture(name="pair")
def pair_fixture(tmp_path_factory: pytest.TempPathFactory, own: RedisServer) -> Iterator[RedisServer]:
    """Run a replica of the test's own server."""
    directory = tmp_path_factory.mktemp("redis")
    with RedisServer(directory / "replica", replicaof=f"{HOST} {own.port}") as replica:
        yield replica


def test_a_batch_waits_for_its_replica(own: RedisServer, pair: RedisServer) -> None:
    """With the replica gone it is not reported; it is when the replica is back, and holds once."""
    store = store_on(own.url(), replicas=1)
    assert not raised(store.apply([opened(), entered("0", "1")]))
    pair.pause()
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas asked for .*; the same batch may safely"):
        store.apply([entered("1", "5")])
    pair.resume()
    (answer,) = _until_taken(lambda: store.apply([entered("1", "5")]))
    assert answer == Entered(entered("1", "5").amount, replay=True)
    assert overview_of(store).outgoing.queued == 6
    store.close()


def test_a_batch_that_is_repeated_waits_for_its_replica_though_it_finds_everything_there(
    own: RedisServer, pair: RedisServer
) -> None:
    """A server confirms what a connection wrote: the one on which a batch is repeated must write something, too."""
    store = store_on(own.url(), replicas=1)
    store.apply([opened(), entered("0", "1")])
    with own.client() as client:
        commands = [opened(), entered("1", "5"), claimed("t"), closed("t", "2")]
        commands += [c.Put(account_id="alice", key="cursor", value=1), c.Fence()]
        for command in [command for twice in zip(commands, commands, strict=True) for command in twice]:
            known: Any = client.info("replication")
            store._servers._doubt()
            assert not raised(store.apply([command]))
            now: Any = client.info("replication")
            assert now["master_repl_offset"] > known["master_repl_offset"], command
    pair.pause()
    for command in (entered("2", "5"), claimed("u")):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
                store.apply([command])
    pair.resume()
    store.close()


def _until_taken(apply: Callable[[], list[Any]]) -> list[Any]:
    for _ in range(10):
        try:
            return apply()
        except StoreUnavailable as problem:
            last = problem
    raise last


@pytest.mark.parametrize(
    ("name", "worse", "better"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("appendfsync", "no", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
def test_settings_that_get_worse_are_noticed_with_the_next_batch(
    own: RedisServer, name: str, worse: str, better: str
) -> None:
    """It is not acknowledged. An operator may be at it: the store resumes when it is set back."""
    if version_of(own) >= WAITAOF:
        pytest.skip("each batch is confirmed by the disk, whatever the settings say")
    store = store_on(own.url())
    store.apply([opened()])
    with own.client() as client:
        client.config_set(name, worse)
        for number in range(2):
            with pytest.raises(StoreUnavailable, match=f"{name} is {worse}.*: CONFIG SET {name} {better} and then"):
                store.apply([entered("1", "5"), c.Share(worker=f"w{number}", lease_s=30.0)])
        client.config_set(name, better)
        # which first has the whole file written
        (answer,) = apply_until_taken(store, [entered("1", "5")])
    assert answer.amount == 5
    assert overview_of(store).outgoing.entered == 5
    store.close()


def test_a_disk_that_is_not_asked_any_more_confirms_nothing(own: RedisServer) -> None:
    """Where WAITAOF is known, a file that is switched off is an error; the batch is taken when it is there again."""
    if version_of(own) < WAITAOF:
        pytest.skip("the server has no WAITAOF")
    store = store_on(own.url())
    store.apply([opened()])
    with own.client() as client:
        client.config_set("appendonly", "no")
        with pytest.raises(StoreUnavailable, match="WAITAOF"):
            store.apply([entered("1", "5")])
        client.config_set("no-appendfsync-on-rewrite", "yes")
        client.config_set("appendonly", "yes")
        apply_until_taken(store, [entered("1", "5")])
    assert overview_of(store).outgoing.entered == 5
    own.restart()
    assert overview_of(store).outgoing.entered == 5
    store.close()


@pytest.mark.parametrize("seen", ["at the start", "while running"])
def test_nothing_is_acknowledged_before_the_first_rewrite_has_ended(own: RedisServer, seen: str) -> None:
    """The server would start without an append-only file that was just switched on."""
    store = store_on(own.url(), namespace="s") if seen == "while running" else None
    with own.client() as client:
        client.config_set("appendonly", "no")
        if store is not None:
            with pytest.raises(StoreUnavailable):
                store.apply([opened()])
        for number in range(100):
            client.set(f"of-somebody-else-{number}", "x")
        client.config_set("rdb-key-save-delay", 100_000)  # stands for much data: ten seconds
        client.config_set("appendonly", "yes")
        if store is None:
            if version_of(own) < WAITAOF:
                assert "has not finished the first rewrite of its append-only file" in refusal(own.url())
        else:
            with pytest.raises(StoreUnavailable):
                store.apply([opened(), entered("1", "5")])
        client.config_set("rdb-key-save-delay", 0)
    with ExitStack() as stack:
        if store is None:
            return
        stack.callback(store.close)
        apply_until_taken(store, [opened(), entered("1", "5")])
        own.restart()
        if version_of(own) < WAITAOF:
            with own.client() as client:
                assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert apply_until_taken(store, [entered("1", "5")])[0].replay


def test_our_advice_survives_a_restart_of_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever does what the refusals say has a server that keeps its money, and is still set up so afterwards."""
    usual: dict[str, Any] = {"appendonly": None, "appendfsync": None, "maxmemory_policy": "allkeys-lru"}
    with RedisServer(tmp_path_factory.mktemp("redis"), no_appendfsync_on_rewrite=True, **usual) as server:
        done = set[str]()
        with server.client() as client:
            while True:
                try:
                    store = store_on(server.url(), namespace="advised")
                    break
                except LocalError as problem:
                    said = str(problem)
                if "has not finished the first rewrite" in said:
                    continue
                found = re.search(r"CONFIG SET (\S+) (\S+) and then (CONFIG REWRITE)", said)
                assert found is not None, said
                assert found[1] not in done, said
                done.add(found[1])
                client.config_set(found[1], found[2])
                client.execute_command(*found[3].split())
        assert {"appendonly", "maxmemory-policy"} <= done
        assert not raised(apply_until_taken(store, [opened(), entered("1", "5")]))
        store.close()
        server.restart()
        store = store_on(server.url(), namespace="advised", create=False)
        assert overview_of(store).outgoing.entered == 5
        store.close()

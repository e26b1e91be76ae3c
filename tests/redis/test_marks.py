"""A store that is not the one that was opened is used no more: nothing is recorded there, and nothing is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from settlement_core.auditing.audit import audit
from settlement_core.restoring import set_aside_restored
from settlement_core.stores.redis import RedisStore, connect_redis
from settlement_core.stores.redis.marks import mark_keys
from settlement_core.stores.redis.servers import Servers
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, StoreBroken, StoreUnavailable
from settlement_core.values.records import Direction
from tests.redis.servers import RedisServer
from tests.redis.support import PARTITIONS, apply_until_taken, everything, fresh_namespace, places_of, raised, store_on
from tests.redis.test_failures import before_write
from tests.stores.books import claimed, entered, opened

SHARE = c.Share(worker="w", lease_s=30.0)
ASKED: list[c.Command[Any]] = [
    opened(),
    entered("1", "5"),
    claimed("u"),
    c.Put(account_id="alice", key="cursor", value=1),
    c.Get(account_id="alice", key="cursor"),
    c.Overview(),
    c.Overview(account_id="alice"),
    c.Entries(account_id="alice", direction=Direction.OUTGOING),
    c.History(),
    c.Due(),
    c.Suspense(),
    c.Suspend(settlement_id="s", amount=entered("1", "5").amount, details=None, at=0.0),
    c.Assign(settlement_id="s", account_id="alice", reason="seen", by="carol", at=0.0),
    c.Prune(before=1.0),
    c.Values(),
    c.Workers(),
    c.Nudge(account_id="alice"),
    SHARE,
    c.Fence(),
]


def flush(server: RedisServer, store: RedisStore) -> None:
    """Have everything gone."""
    del store
    with server.client() as client:
        client.flushall()


def swap(server: RedisServer, store: RedisStore) -> None:
    """Have another database where it was."""
    del store
    with server.client() as client:
        client.swapdb(0, 1)


def empty(server: RedisServer, store: RedisStore) -> None:
    """Have a server without its data take over, as an empty replica does."""
    del store
    server.kill()
    shutil.rmtree(server.directory / "appendonlydir")
    server.start()


def replace(server: RedisServer, store: RedisStore) -> None:
    """Have another store of the same name there."""
    namespace = places_of(store).namespace
    with server.client() as client:
        client.flushall()
    store_on(server.url(), namespace=namespace).close()


GONE = [
    (flush, "its mark is gone, and so may be everything it kept"),
    (swap, "its mark is gone"),
    (empty, "its mark is gone"),
    (replace, "another store "),
]


@pytest.mark.parametrize(("lose", "sentence"), GONE, ids=[lose.__name__ for lose, _ in GONE])
def test_a_store_that_is_gone_breaks_with_a_sentence_and_for_good(
    own: RedisServer, lose: Callable[[RedisServer, RedisStore], None], sentence: str
) -> None:
    """Whatever is asked first. Nothing is written, and the store stays broken though the data come back."""
    probe = store_on(own.url(), namespace="probe")
    for command in ASKED:
        with own.client() as client:
            client.flushall()
        store = store_on(own.url(), namespace="gone")
        assert not raised(store.apply([opened(), entered("0", "1")]))
        lose(own, store)
        with own.client() as client:
            before = client.dbsize()
            with pytest.raises(StoreBroken, match=sentence):
                apply_until_taken(store, [command])
            assert client.dbsize() == before
            if lose is swap:
                client.swapdb(0, 1)
        with pytest.raises(StoreBroken, match=sentence):
            store.apply([c.Overview()])
        store.close()
        if lose is empty and command is ASKED[1]:
            break  # it starts a server each time
    probe.close()


@pytest.mark.parametrize("number", range(PARTITIONS + 1))
def test_a_part_that_is_gone_breaks_the_lease_round_the_audit_and_the_opening(own: RedisServer, number: int) -> None:
    """A node of a Cluster that lost its data, or a key that was evicted: a missing mark is never made again."""
    store = store_on(own.url(), namespace="part")
    with own.client() as client:
        client.delete(mark_keys(places_of(store))[number])
        for create in (True, False):
            with pytest.raises(StoreBroken, match="its mark is gone"):
                connect_redis(own.url(), namespace="part", create=create)
        with pytest.raises(StoreBroken, match="its mark is gone"):
            store.apply([SHARE])
        other = store_on(own.url(), namespace="another")
        assert not client.exists(mark_keys(places_of(store))[number])
    store.close()
    other.close()


def test_an_audit_never_passes_a_store_that_is_gone(own: RedisServer) -> None:
    """Neither of a store that was open before, nor of one opened to be audited."""
    store = store_on(own.url(), namespace="audited")
    assert audit(store).ok
    with own.client() as client:
        client.flushall()
    with pytest.raises(StoreBroken, match="its mark is gone"):
        audit(store)
    with pytest.raises(LocalError, match="there is no store 'audited'"):
        connect_redis(own.url(), namespace="audited", create=False)
    store.close()


def test_a_store_whose_settings_are_gone_is_not_made_anew(shared: RedisServer) -> None:
    """Its partitions have marks: the new store would have taken them over."""
    store = store_on(shared.url())
    store.apply([opened(), entered("1", "5")])
    before = everything(store)
    with shared.client() as client:
        kept = client.hgetall(places_of(store).settings)
        client.delete(places_of(store).settings)
        with pytest.raises(StoreBroken, match="another store "):
            store_on(shared.url(), namespace=places_of(store).namespace)
        client.delete(places_of(store).settings)
        client.hset(places_of(store).settings, mapping=kept)
    assert everything(store) == before
    store.close()


def test_an_unknown_mark_is_not_equal_to_an_absent_one(own: RedisServer) -> None:
    """A store that does not know its mark reads and writes nothing."""
    store = store_on(own.url())
    store._servers.mark = None
    with own.client() as client:
        client.flushall()
        with pytest.raises(StoreBroken):
            store.apply([c.Suspend(settlement_id="s", amount=entered("1", "5").amount, details=None, at=0.0)])
        assert client.dbsize() == 0
    store.close()


@pytest.mark.parametrize("rounds", range(4))
def test_a_store_whose_making_was_cut_off_is_finished_by_the_next(
    shared: RedisServer, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its settings, or some of its marks, or all: it keeps the number of partitions, and is one store."""
    namespace, run, done = fresh_namespace(), Servers.run, [0]

    def cut_off(servers: Servers, calls: Any) -> Any:
        if done[0] == rounds:
            if rounds == 2:
                yield from run(servers, calls[:2])
            raise StoreUnavailable("cut off")
        done[0] += 1
        return (yield from run(servers, calls))

    with monkeypatch.context() as patch:
        patch.setattr(Servers, "run", cut_off)
        with pytest.raises(LocalError, match="cut off"):
            store_on(shared.url(), namespace=namespace)
    with pytest.raises(LocalError, match="there is no store"):
        store_on(shared.url(), namespace=namespace, create=False)
    store = store_on(shared.url(), namespace=namespace, partitions=None if rounds else PARTITIONS)
    assert len(places_of(store).partitions) == PARTITIONS
    assert not raised(store.apply([opened(), entered("1", "5"), SHARE]))
    other = store_on(shared.url(), namespace=namespace, create=False)
    assert everything(other) == everything(store)
    store.close()
    other.close()


@pytest.mark.parametrize("cut_off", [False, True])
def test_a_store_of_the_format_without_marks_is_given_them(shared: RedisServer, *, cut_off: bool) -> None:
    """Whoever opens it first, be it only to read, and once: a second one finds a complete store."""
    store = store_on(shared.url())
    store.apply([opened(), entered("1", "5")])
    before, places = everything(store), places_of(store)
    store.close()
    with shared.client() as client:
        client.hset(places.settings, "format", 1)
        if cut_off:
            client.delete(*mark_keys(places)[2:])
        else:
            client.hdel(places.settings, "identity", "generation")
            client.delete(*mark_keys(places))
        opener = connect_redis(shared.url(), namespace=places.namespace, create=False)
        assert client.hget(places.settings, "format") == b"2", "only whoever serves it makes it the newest format"
        assert len(set(client.mget(mark_keys(places)))) == 1
    assert everything(opener) == before
    opener.close()


# fencing


def test_a_fence_leaves_the_store_to_its_asker_and_to_those_who_open_it_later(shared: RedisServer) -> None:
    """Whatever a fenced worker asks first, it is told that the store was taken over, and changes nothing."""
    asker = store_on(shared.url())
    namespace = places_of(asker).namespace
    asker.apply([opened(), entered("0", "1")])
    for command in ASKED:
        fenced = store_on(shared.url(), namespace=namespace)
        fenced.apply([SHARE])
        (answer,) = asker.apply([c.Fence()])
        assert answer == c.Applied(changed=True)
        before = everything(asker)
        with pytest.raises(StoreBroken, match=r"it was taken over since \(generation \d+, opened as \d+\)"):
            fenced.apply([command])
        assert everything(asker) == before
        fenced.close()
    later = store_on(shared.url(), namespace=namespace)
    assert not raised(later.apply([entered("1", "5")]))
    assert not raised(asker.apply([entered("2", "5"), SHARE]))
    assert asker.inspect() == []
    asker.close()
    later.close()


@pytest.mark.parametrize("number", [1, 2])
def test_a_fence_that_was_cut_off_is_finished_by_its_asker_or_by_whoever_opens_the_store(
    shared: RedisServer, number: int
) -> None:
    """Before anything, or when the settings are raised and no partition is; the asker may ask again."""

    def cut_off() -> None:
        raise StoreUnavailable("cut off")

    for again in (True, False):
        asker = store_on(shared.url())
        namespace = places_of(asker).namespace
        fenced = store_on(shared.url(), namespace=namespace)
        asker.apply([opened()])
        with before_write(asker, number, cut_off), pytest.raises(StoreUnavailable, match="cut off"):
            asker.apply([c.Fence()])
        if again:
            asker.apply([c.Fence()])
        else:
            asker.close()
            asker = store_on(shared.url(), namespace=namespace)
        assert not raised(asker.apply([entered("1", "5"), SHARE]))
        if again or number == 2:
            with pytest.raises(StoreBroken, match="it was taken over since"):
                fenced.apply([entered("2", "5")])
        asker.close()
        fenced.close()


def test_of_two_that_fence_one_is_left(shared: RedisServer) -> None:
    """The second finds that it was fenced."""
    first = store_on(shared.url())
    second = store_on(shared.url(), namespace=places_of(first).namespace)
    first.apply([c.Fence()])
    with pytest.raises(StoreBroken, match="it was taken over since"):
        second.apply([c.Fence()])
    assert not raised(first.apply([opened(), SHARE]))
    first.close()
    second.close()


def test_an_older_copy_in_the_place_of_the_store_is_not_used(own: RedisServer) -> None:
    """A failover may forget the fence, and what came after it."""
    store = store_on(own.url())
    with own.client() as client:
        keys = mark_keys(places_of(store))
        old: Any = client.mget(keys)
        store.apply([c.Fence()])
        for key, value in zip(keys, old, strict=True):
            client.set(key, value)
    with pytest.raises(StoreBroken, match=r"an older copy of it is in its place \(generation 1, opened as 2\)"):
        store.apply([opened()])
    store.close()


def test_books_in_use_are_not_set_aside_and_their_worker_goes_on(shared: RedisServer) -> None:
    """Said by mistake while a worker serves the store, --restored changes nothing; once it has left, it is fenced."""
    namespace = fresh_namespace()
    worker, other = (store_on(shared.url(), namespace=namespace) for _ in range(2))
    worker.apply([opened(), entered("1", "5"), c.Share(worker="w1", lease_s=60.0)])
    with pytest.raises(LocalError, match="in use by w1: stop them first; nothing was set aside"):
        set_aside_restored(other, "said so")
    assert worker.apply([entered("2", "5")]) == [c.Entered(entered("2", "5").amount, replay=False)]
    assert audit(worker).outgoing.queued == 10
    worker.apply([c.Share(worker="w1", lease_s=60.0, leaving=True)])
    assert set_aside_restored(other, "said so").attempts == 1
    assert audit(other).outgoing.parked == 10
    with pytest.raises(StoreBroken):
        worker.apply([entered("3", "5")])
    for store in (worker, other):
        store.close()

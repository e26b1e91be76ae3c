"""Under Sentinel and in a Cluster: primaries change, slots move, nodes die, and nothing is lost or doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from settlement_core.auditing.audit import audit
from settlement_core.stores.redis import RedisStore
from settlement_core.values import commands as c
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.records import Direction
from settlement_core.values.reference import Books
from tests.redis.support import apply_until_taken, overview_of, own_state, places_of, store_on
from tests.redis.topologies import Cluster, Sentinels
from tests.stores.books import claimed, closed, entered, opened

OWNERS = ("alice", "bob", "carol", "dave")


def _batch(number: int) -> list[c.Command[Any]]:
    batch: list[c.Command[Any]] = []
    for owner in OWNERS:
        batch += [
            opened(owner),
            entered(f"{number}", "3.5", account_id=owner),
            claimed(f"{owner}{number}", account_id=owner, scale=0),
            closed(f"{owner}{number}", "2", account_id=owner, at=float(number)),
        ]
    return batch


def _live_through(store: RedisStore, trouble: Callable[[], object]) -> int:
    """Apply batches until they are taken, while there is trouble; check that each holds once; return how many."""
    books, errors = Books(), list[BaseException]()

    def run() -> None:
        try:
            trouble()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    apply_until_taken(store, _batch(0))
    books.apply(_batch(0))
    thread.start()
    for number in count(1):
        ended = not thread.is_alive()
        apply_until_taken(store, _batch(number))
        books.apply(_batch(number))
        if ended:
            break
    assert not errors, errors
    for owner in OWNERS:
        assert own_state(store, owner) == own_state(books, owner)
    report = audit(store)
    assert report.ok, report.problems
    return number


@pytest.fixture(name="sentinels", scope="module")
def sentinels_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """Run a primary with a replica under sentinels."""
    with Sentinels(tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


@pytest.fixture(name="cluster", scope="module")
def cluster_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster of three."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_primary_changes(sentinels: Sentinels) -> None:
    """By a failover on request, and by a kill; each batch is confirmed by the replica first."""
    store = store_on(sentinels.url, replicas=1, socket_timeout=1.0)

    def trouble() -> None:
        sentinels.failover()
        sentinels.wait_until_whole()
        killed = sentinels.kill_primary()
        sentinels.wait_for_new_primary(killed)
        sentinels.restart(killed)

    assert _live_through(store, trouble) > 1
    store.close()


@pytest.mark.slow
def test_a_slot_that_moves_takes_its_books_along(cluster: Cluster) -> None:
    """Every partition moves to the next node and back, key by key, while batches run."""
    store = store_on(cluster.url, socket_timeout=2.0)
    apply_until_taken(store, _batch(0))
    slots = [cluster.slot_of(partition.due) for partition in places_of(store).partitions]

    def trouble() -> None:
        for _ in range(2):
            moved.extend(cluster.migrate_slot(slot, (cluster.node_of(slot) + 1) % 3, pause_s=0.002) for slot in slots)

    moved: list[int] = []
    assert _live_through(store, trouble) > 1
    assert sum(moved) > 20
    store.close()


def test_a_request_follows_a_partition_that_has_moved_but_was_not_handed_over(cluster: Cluster) -> None:
    """All keys are on the next node, which takes them from whoever was sent there (ASK) only after ASKING."""
    store = store_on(cluster.url, socket_timeout=2.0)
    worker = store_on(cluster.url, namespace=places_of(store).namespace)
    apply_until_taken(store, [opened(), entered("1", "5")])
    apply_until_taken(worker, [c.Share(worker="w", lease_s=60.0)])
    # a worker is rung, so that there is each key that entering another touches: no node answers TRYAGAIN
    apply_until_taken(store, [entered("2", "5")])
    partition = places_of(store).partition("alice")
    slot = cluster.slot_of(partition.due)
    holder = cluster.servers[cluster.node_of(slot)]
    answers: list[Any] = []

    def between() -> None:
        with holder.client() as client:
            moved = client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
        if moved:
            answers.extend(store.apply([entered("3", "7")]))
            answers.extend(store.apply([entered("3", "7"), c.Due(partition=partition.number)]))

    assert cluster.migrate_slot(slot, (cluster.node_of(slot) + 1) % 3, between=between) >= 7
    assert [getattr(answer, "replay", answer) for answer in answers] == [False, True, ["alice"]]
    assert overview_of(store).outgoing.entered == 17
    store.close()
    worker.close()


@pytest.mark.slow
def test_a_node_that_dies_and_comes_back_has_kept_its_books(cluster: Cluster) -> None:
    """Meanwhile the store is not available, and says so."""
    store = store_on(cluster.url, socket_timeout=2.0)

    def trouble() -> None:
        for node in range(3):
            cluster.kill(node)
            cluster.restart(node)

    _live_through(store, trouble)
    # one that holds what the next batches are about: which do is up to the names of the keys
    node = cluster.node_of(cluster.slot_of(places_of(store).account(OWNERS[0]).account))
    cluster.kill(node)
    try:
        with pytest.raises(StoreUnavailable):
            for number in range(1000, 1100):
                store.apply(_batch(number))
    finally:
        cluster.restart(node)
    apply_until_taken(store, _batch(2000))
    assert audit(store).ok
    store.close()


@pytest.mark.slow
def test_workers_ring_one_another_across_nodes(cluster: Cluster) -> None:
    """What one node publishes is heard by whoever listens to another."""
    store = store_on(cluster.url)
    other = store_on(cluster.url, namespace=places_of(store).namespace)
    apply_until_taken(store, [opened(owner) for owner in OWNERS])
    store.apply([c.Share(worker="w", lease_s=30.0)])
    heard: list[bool] = []
    for _ in range(100):
        thread = threading.Thread(target=lambda: heard.append(store.hear("w", 0.2)))
        thread.start()
        other.apply([c.Nudge(account_id=owner) for owner in OWNERS])
        thread.join()
        if any(heard):
            break
    assert any(heard)
    store.close()
    other.close()


@pytest.mark.slow
def test_the_whole_store_moves_with_its_directory(tmp_path: Path) -> None:
    """Queries over many accounts come to the same on one node and on several."""
    with Cluster(tmp_path) as cluster:
        store = store_on(cluster.url)
        books = Books()
        for number in range(3):
            apply_until_taken(store, _batch(number))
            books.apply(_batch(number))
        for query in (c.Due(), c.Overview(), c.Entries(account_id="bob", direction=Direction.INCOMING)):
            assert store.apply([query]) == books.apply([query])
        assert store.inspect() == []
        assert overview_of(store, "bob").outgoing.settled == 6
        store.close()

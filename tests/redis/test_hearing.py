"""Whoever listens is woken by rings, and never by what happens to the store beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from settlement_core.values import commands as c
from tests.redis.servers import RedisServer, wait_until
from tests.redis.support import apply_until_taken
from tests.redis.test_leases import Worker, until_even
from tests.stores.books import entered, opened


def test_a_ring_wakes_whoever_listens(own: RedisServer) -> None:
    """`hear` tells of a ring, of who joins and leaves; says nothing after its time, nor without a server."""
    listener, other = (Worker(own, "heard", name, partitions=4) for name in "ab")
    listener.share()
    other.store.apply([opened()])

    def heard(act: Callable[[], object]) -> bool:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(listener.store.hear("a", 20.0)))
        thread.start()
        with own.client() as client:
            wait_until(lambda: bool(client.pubsub_numsub("heard:rings")[0][1]), "it listens")
        act()
        thread.join()
        return answers[0]

    assert heard(lambda: other.store.apply([entered("1", "5")]))
    assert heard(lambda: other.store.apply([c.Nudge(account_id="alice")]))
    assert heard(other.share)
    until_even([listener, other], 4)
    wait_until(lambda: not listener.store.hear("a", 0.05), "it has heard all that")
    assert heard(lambda: other.share(leaving=True))
    assert listener.store.hear("a", 0.05) is False
    listener.store._servers._drop_connections()
    assert listener.store.hear("a", 0.05) is False
    own.kill()
    begun = monotonic()
    assert [listener.store.hear("a", 0.1) for _ in range(3)] == [False] * 3
    assert monotonic() - begun >= 0.3
    own.start()
    wait_until(lambda: not listener.store.hear("a", 0.05), "it listens again")
    assert heard(lambda: apply_until_taken(other.store, [entered("2", "5")]))
    listener.store.close()
    other.store.close()


def test_listening_survives_what_happens_to_the_store_beside_it(own: RedisServer) -> None:
    """Its connections are dropped, again and again, while another thread listens on one of them."""
    worker = Worker(own, "heard", "a", partitions=4)
    over, errors = threading.Event(), list[BaseException]()

    def listen() -> None:
        try:
            while not over.is_set():
                worker.store.hear("a", 0.02)
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    for _ in range(200):
        worker.store._servers._drop_connections()
        worker.share()
    over.set()
    thread.join(30)
    assert errors == []
    worker.store.close()

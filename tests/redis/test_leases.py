"""Workers share the partitions evenly, nobody takes what is alive, and whoever has lost a lease changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from time import monotonic
from typing import Any

import pytest

from settlement_core.abc import SharedStore
from settlement_core.stores.redis import RedisStore
from settlement_core.stores.redis.layout import PartitionKeys
from settlement_core.values import commands as c
from settlement_core.values.errors import LeaseLost
from settlement_core.values.records import Payment, Step
from tests.redis.servers import RedisServer, wait_until
from tests.redis.support import apply_until_taken, everything, places_of, raised, store_on
from tests.redis.test_failures import before_write
from tests.stores.books import INCOMING, ask, claimed, closed, entered, opened

LEASE_S = 0.4
LONG_S = 600.0
"""A lease that does not end during a test, however busy the machine is."""


class Worker:
    """One process of several: a store of its own, and what it holds."""

    def __init__(
        self, server: RedisServer, namespace: str, name: str, *, lease_s: float = LONG_S, **options: Any
    ) -> None:
        self.store = store_on(server.url(), namespace=namespace, **options)
        self.name, self.lease_s = name, lease_s
        self.heard: dict[int, int] = {}
        self.shares: c.Shares = c.Shares(shared=False, partitions=0, leases={})
        self.tokens: set[str] = set()

    def share(self, *, give_up: bool = False, leaving: bool = False, alone: bool = False) -> c.Shares:
        """Take part in one round, giving up what is too much if so told."""
        held = sorted(self.shares.leases)
        yielding = frozenset(held[: self.shares.excess]) if give_up else frozenset()
        command = c.Share(
            worker=self.name,
            lease_s=self.lease_s,
            heard=self.heard,
            yielding=yielding,
            leaving=leaving,
            alone=alone,
        )
        self.shares = apply_until_taken(self.store, [command])[0]
        self.tokens |= set(self.shares.leases.values())
        return self.shares

    def rings(self) -> list[tuple[str, bool]]:
        """Ask who rang since, and hear it."""
        rings = self.share().rings
        for ring in rings:
            self.heard[ring.partition] = max(self.heard.get(ring.partition, 0), ring.number)
        return [(ring.account_id, ring.nudge) for ring in rings]

    def token(self, account_id: str = "alice") -> str:
        """Return the token under which it holds an account; "" if it does not."""
        return self.shares.leases.get(places_of(self.store).partition(account_id).number, "")


@pytest.fixture(name="hire")
def hire_fixture(shared: RedisServer, books: RedisStore) -> Iterator[Callable[..., Worker]]:
    """Return a function that opens the test's store for one more worker."""
    hired: list[Worker] = []

    def hire(name: str, **options: Any) -> Worker:
        options.setdefault("partitions", None)
        hired.append(Worker(options.pop("server", shared), places_of(books).namespace, name, **options))
        return hired[-1]

    yield hire
    for worker in hired:
        worker.store.close()


def field(store: RedisStore, partition: PartitionKeys, **values: Any) -> None:
    """Write fields of a lease, as a clock that was set would leave them."""
    client: Any = store._servers.client_for(partition.lease)
    client.hset(partition.lease, mapping=values)


def until_even(workers: list[Worker], partitions: int) -> None:
    """Let all take part until each has its fair share; at no time do two hold the same."""

    def even() -> bool:
        for worker in workers:
            worker.share(give_up=True)
        held = [number for worker in workers for number in worker.shares.leases]
        assert len(held) - len(set(held)) == 0, "two workers hold the same"
        sizes = [len(worker.shares.leases) for worker in workers]
        return sum(sizes) == partitions and max(sizes) - min(sizes) <= 1

    wait_until(even, "each has its fair share")


def test_it_is_a_store_for_several(books: RedisStore) -> None:
    """And says so."""
    assert isinstance(books, SharedStore)
    shares = ask(books, c.Share(worker="w", lease_s=LONG_S))
    assert (shares.shared, shares.partitions, sorted(shares.leases), shares.excess) == (True, 4, [0, 1, 2, 3], 0)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_partitions_are_shared_evenly(shared: RedisServer, number: int) -> None:
    """Among those who are there; when all but one leave, it has them all at its next round."""
    store = store_on(shared.url(), partitions=64)
    namespace = places_of(store).namespace
    workers = [Worker(shared, namespace, f"w{n}", partitions=64) for n in range(number)]
    assert len(workers[0].share().leases) == 64
    until_even(workers, 64)
    overviews = ask(store, c.Workers())
    assert [overview.worker_id for overview in overviews] == [worker.name for worker in workers]
    assert [overview.partitions for overview in overviews] == [tuple(sorted(w.shares.leases)) for w in workers]
    assert all(0 < overview.expires_in_s <= LONG_S for overview in overviews)
    for worker in workers[1:]:
        assert worker.share(leaving=True).leases == {}
    assert len(workers[0].share().leases) == 64
    assert [overview.worker_id for overview in ask(store, c.Workers())] == ["w0"]
    tokens = [worker.tokens for worker in workers]
    assert sum(map(len, tokens)) == len(set().union(*tokens)), "a token came twice"
    for worker in workers:
        worker.store.close()
    store.close()


def test_what_is_too_much_is_said_and_free_once_given_up(hire: Callable[..., Worker]) -> None:
    """The newcomer waits until then, and does not take."""
    first, second = hire("a"), hire("b")
    assert first.share().excess == 0
    assert second.share().leases == {}
    shares = first.share()
    assert (len(shares.leases), shares.excess) == (4, 2)
    kept = dict(shares.leases)
    assert len(first.share(give_up=True).leases) == 2
    assert len(second.share().leases) == 2
    assert first.share().excess == 0
    assert all(first.shares.leases[number] == kept[number] for number in first.shares.leases)
    assert set(kept.values()).isdisjoint(second.shares.leases.values())


def test_a_lease_is_taken_over_once_it_has_run_out_and_not_before(hire: Callable[..., Worker]) -> None:
    """A dead worker's partitions go to the others, under new tokens; not while the lease lasts."""
    dead, alive = hire("a", lease_s=LEASE_S), hire("b", lease_s=LEASE_S)
    begun = monotonic()
    dead.share()
    old = dict(dead.shares.leases)
    wait_until(lambda: len(alive.share().leases) == 4, "all is taken over")
    assert monotonic() - begun >= LEASE_S
    assert set(old.values()).isdisjoint(alive.shares.leases.values())
    assert dead.share().leases == {}


def test_a_lease_renewed_at_the_last_moment_is_not_taken(hire: Callable[..., Worker]) -> None:
    """Another worker has seen it run out, and comes too late."""
    late, other = hire("a"), hire("b")
    late.share()
    for partition in places_of(late.store).partitions:
        field(late.store, partition, till=1)
    with before_write(other.store, 2, late.share) as sent:
        assert other.share().leases == {}
    assert sent[0] == 2
    assert len(late.share().leases) == 4


def test_a_worker_with_short_leases_does_not_shorten_those_of_others(hire: Callable[..., Worker]) -> None:
    """Each lease lasts as long as whoever took it asked for."""
    patient, hasty = hire("patient"), hire("hasty", lease_s=0.2)
    held = set(patient.share().leases)
    for _ in range(20):
        threading.Event().wait(0.03)
        assert not hasty.share().leases
    assert set(patient.share().leases) == held


def test_a_lease_that_is_renewed_is_never_taken(hire: Callable[..., Worker]) -> None:
    """However long the other waits for it."""
    first, second = hire("a", lease_s=LONG_S), hire("b", lease_s=LONG_S)
    first.share()
    held = dict(first.shares.leases)
    for _ in range(20):
        assert second.share().leases == {}
        assert first.share().leases == held


def test_an_outage_takes_nothing_from_those_who_could_not_renew(own: RedisServer, hire: Callable[..., Worker]) -> None:
    """The server was paused for longer than leases last; whoever comes first afterwards takes nothing."""
    namespace = places_of(hire("x").store).namespace
    first, second = (Worker(own, namespace, name, lease_s=1.0, partitions=4) for name in "ab")
    until_even([first, second], 4)
    held = [dict(worker.shares.leases) for worker in (first, second)]
    own.pause()
    threading.Event().wait(1.5)
    own.resume()
    for _ in range(3):
        first.share()
    assert first.shares.leases == held[0]
    assert second.share().leases == held[1]
    for worker in (first, second):
        worker.store.close()


STEP = Decimal(3_600_000)


@pytest.mark.parametrize("stepped", ["lease", "worker", "sharing"])
def test_a_clock_that_was_set_back_keeps_no_dead_worker_alive(hire: Callable[..., Worker], stepped: str) -> None:
    """What it left behind seems to last for hours; it is taken over once it would have run out."""
    dead, alive = hire("a", lease_s=LEASE_S), hire("b", lease_s=LEASE_S)
    dead.share()
    places, client = places_of(alive.store), alive.store._servers.client_for("x")
    now_ms = int(client.time()[0]) * 1000
    hours = now_ms + int(STEP) * 24
    for partition in places.partitions:
        field(alive.store, partition, till=hours if stepped == "lease" else now_ms)
    if stepped == "worker":
        client.zadd(places.workers, {"a": hours})
    if stepped == "sharing":
        client.hset(places.sharing, mapping={"latest": hours, "quiet_till": hours})
    wait_until(lambda: len(alive.share().leases) == 4, "all is taken over")
    wait_until(lambda: alive.share().excess == 0, "the dead one is not counted")
    assert [overview.worker_id for overview in ask(alive.store, c.Workers())] == ["b"]


def test_a_clock_that_was_set_forward_takes_nothing_from_those_who_renew(hire: Callable[..., Worker]) -> None:
    """All leases seem to have run out hours ago, and the last round to be as long ago: all get time to renew."""
    first, second = hire("a", lease_s=LONG_S), hire("b", lease_s=LONG_S)
    until_even([first, second], 4)
    held = dict(first.shares.leases)
    places, client = places_of(second.store), second.store._servers.client_for("x")
    for partition in places.partitions:
        field(second.store, partition, till=1000)
    client.zadd(places.workers, {"a": 1000, "b": 1000})
    client.hset(places.sharing, mapping={"latest": 1000, "quiet_till": 0})
    for _ in range(5):
        assert set(second.share().leases).isdisjoint(held)
    assert first.share().leases == held


def test_a_lease_taken_from_a_live_worker_stops_it_at_once(hire: Callable[..., Worker]) -> None:
    """A clock may make another take it: from then on the first one's token is refused."""
    first, second = hire("a"), hire("b")
    first.share()
    first.store.apply([opened(), entered("1", "5")])
    assert not raised(first.store.apply([_under(claimed("t"), first)]))
    taken = places_of(second.store).partition("alice")
    second.share()
    field(first.store, taken, till=1)
    second.share()
    assert second.token()
    for command in (_under(closed("t", "5"), first), _under(closed("t", "0"), first)):
        assert isinstance(first.store.apply([command])[0], LeaseLost)
    assert not raised(second.store.apply([_under(closed("t", "5"), second)]))


def _under(command: Any, worker: Worker | str) -> Any:
    """Return the command as given under the worker's lease."""
    known = {name: getattr(command, name) for name in command.__dataclass_fields__}
    return type(command)(**known | {"lease": worker if isinstance(worker, str) else worker.token()})


def test_a_lease_given_up_is_worth_nothing_even_if_nobody_took_it(hire: Callable[..., Worker]) -> None:
    """Nor once the same worker holds the account again: what it began before is not to be ended now."""
    worker = hire("a")
    worker.share()
    worker.store.apply([opened(), entered("1", "5"), claimed("t")])
    late, held = _under(closed("t", "5"), worker), dict(worker.shares.leases)
    worker.share(leaving=True)
    assert isinstance(worker.store.apply([late])[0], LeaseLost)
    worker.share()
    assert set(held.values()).isdisjoint(worker.shares.leases.values())
    assert isinstance(worker.store.apply([late])[0], LeaseLost)
    assert not raised(worker.store.apply([_under(closed("t", "5"), worker)]))


NOTE = c.Note(account_id="alice", attempt_id="t", payment=Payment(Decimal(5), None))
HOLD = c.Hold(account_id="alice", attempt_id="t", reason="lost")
FINISH = c.FinishStep(account_id="alice", step=Step.SET_UP)
SET_UP = c.OpenAccount(account_id="alice", at=0.0, set_up=True)
LEASED: list[tuple[list[Any], Any]] = [
    ([opened(), entered("1", "5")], claimed("t")),
    ([opened(), entered("1", "5"), claimed("t")], NOTE),
    ([opened(), entered("1", "5"), claimed("t")], closed("t", "5")),
    ([opened(), entered("1", "5"), claimed("t")], HOLD),
    ([SET_UP], FINISH),
]


@pytest.mark.parametrize(("prepare", "command"), LEASED, ids=[type(command).__name__ for _, command in LEASED])
@pytest.mark.parametrize("looked", [False, True])
def test_a_command_under_an_old_lease_is_refused_and_changes_nothing(
    hire: Callable[..., Worker], prepare: list[Any], command: Any, *, looked: bool
) -> None:
    """Whether the worker looked at the account before or after it lost it; under the current one it is carried out."""
    old, new = hire("a"), hire("b")
    old.share()
    given = _under(command, old)
    old.store.apply(prepare)

    def take_over() -> None:
        old.share(leaving=True)
        new.share()

    if looked:
        run = old.store._servers.run

        def late(calls: Any) -> Any:
            if any(call.writes for call in calls):
                old.store._servers.run = run  # type: ignore[method-assign]
                take_over()
            return run(calls)

        old.store._servers.run = late  # type: ignore[method-assign]
    else:
        take_over()
    before = everything(new.store)
    (answer,) = old.store.apply([given])
    assert isinstance(answer, LeaseLost), answer
    assert everything(new.store) == before
    assert not raised(new.store.apply([_under(command, new)]))
    assert everything(new.store) != before
    assert isinstance(old.store.apply([given])[0], LeaseLost)


def test_a_note_under_an_old_lease_is_refused_though_it_is_noted(hire: Callable[..., Worker]) -> None:
    """A worker that has lost the account is told so, not that all is well."""
    old, new = hire("a"), hire("b")
    old.share()
    old.store.apply([opened(), entered("1", "5"), claimed("t")])
    given = _under(NOTE, old)
    assert not raised(old.store.apply([given]))
    Worker.share(old, leaving=True)
    new.share()
    assert isinstance(old.store.apply([given])[0], LeaseLost)


def test_others_ring_the_owner_until_it_has_heard(hire: Callable[..., Worker]) -> None:
    """What another worker enqueues, resolves, releases or assigns; not what the owner does itself."""
    owner, other = hire("a"), hire("b")
    owner.share()
    quiet = [opened(), entered("1", "5"), claimed("t"), HOLD]
    quiet += [entered("i", "5", direction=INCOMING), claimed("c", direction=INCOMING)]
    quiet += [c.Hold(account_id="alice", attempt_id="c", reason="400")]
    for command in quiet:
        assert not raised(owner.store.apply([command]))
        assert owner.rings() == [], command
    told: dict[str, Any] = {"reason": "seen", "by": "carol"}
    other.store.apply([c.Suspend(settlement_id="s", amount=Decimal(1), details=None, at=0.0)])
    loud: list[c.Command[Any]] = [
        entered("2", "1"),
        c.Release(account_id="alice", attempt_id="c", **told),
        c.Resolve(account_id="alice", attempt_id="t", settled=Decimal(0), at=0.0, **told),
        c.Assign(settlement_id="s", account_id="alice", at=0.0, **told),
    ]
    for command in loud:
        assert not raised(other.store.apply([command]))
        assert [ring.account_id for ring in owner.share().rings] == ["alice"]
        assert owner.rings() == [("alice", False)], "not heard yet"
        assert owner.rings() == [], command
    other.store.apply([c.Overview(account_id="alice"), entered("2", "1")])
    assert owner.rings() == [], "a replay leaves nothing to do"
    owner.store.apply([entered("3", "1")])
    assert owner.rings() == []


def test_rings_are_heard_after_a_failover_that_lost_the_latest_numbers(
    hire: Callable[..., Worker], shared: RedisServer
) -> None:
    """The copy counts on from where it was: what is rung there has numbers that the worker has heard already."""
    owner, other = hire("a"), hire("b")
    owner.share()
    owner.store.apply([opened()])
    place = places_of(owner.store).partition("alice")
    with shared.client() as client:
        copied = client.dump(place.lease)
        for number in range(5):
            other.store.apply([entered(str(number), "1")])
        assert owner.rings() == [("alice", False)]
        client.restore(place.lease, 0, copied, replace=True)
        client.delete(place.rings)
    other.store.apply([entered("after", "1")])
    assert owner.rings() == [("alice", False)]
    assert owner.rings() == []
    other.store.apply([entered("later", "1")])
    assert owner.rings() == [("alice", False)]


def test_a_nudge_rings_whoever_holds_the_account(hire: Callable[..., Worker]) -> None:
    """And says that it is one; nobody is rung if nobody holds it."""
    owner, other = hire("a"), hire("b")
    nudge = c.Nudge(account_id="alice")
    assert ask(other.store, nudge) == c.Applied(changed=False)
    owner.share()
    assert ask(other.store, nudge) == c.Applied(changed=True)
    other.store.apply([opened(), entered("1", "5")])
    assert sorted(owner.rings()) == [("alice", False), ("alice", True)]
    assert owner.rings() == []


def test_of_workers_that_are_to_be_alone_one_holds_everything(hire: Callable[..., Worker]) -> None:
    """The others hold nothing, however often they ask, until it leaves; then the first to ask has everything."""
    first, second, third = hire("z"), hire("a"), hire("m")
    for _ in range(3):
        assert len(first.share(alone=True).leases) == 4
        assert second.share(alone=True).leases == third.share(alone=True).leases == {}
        assert first.shares.excess == 0
    first.share(leaving=True)
    assert len(third.share(alone=True).leases) == 4
    assert second.share(alone=True).leases == {}


def test_whoever_begins_while_others_still_hold_accounts_gets_them_when_their_leases_end(
    hire: Callable[..., Worker],
) -> None:
    """The lead is the lease on what is the engine's as a whole; the rest follows as it becomes free."""
    first, second = hire("a"), hire("b")
    assert len(first.share().leases) == 4
    lead = places_of(first.store).partition("").number
    assert second.share(alone=True).leases == {}
    first.shares = c.Shares(shared=True, partitions=4, leases={lead: first.token("")}, excess=1)
    first.share(give_up=True)
    assert second.share(alone=True).leases.keys() == {lead}
    first.share(leaving=True)
    assert len(second.share(alone=True).leases) == 4


def test_what_the_engine_remembers_is_its_leaders_to_change(hire: Callable[..., Worker]) -> None:
    """A value that comes under an old lease is refused, and what the new leader saved stays."""
    first, second = hire("a"), hire("b")
    first.share(alone=True)
    old = first.token("")
    ask(first.store, c.Put(account_id="", key="next", value=7, lease=old))
    first.share(leaving=True)
    second.share(alone=True)
    ask(second.store, c.Put(account_id="", key="next", value=9, lease=second.token("")))
    assert isinstance(first.store.apply([c.Put(account_id="", key="next", value=8, lease=old)])[0], LeaseLost)
    assert ask(second.store, c.Get(account_id="", key="next")) == 9

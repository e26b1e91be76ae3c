"""A store that was migrated goes on exactly as the one it came from would have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from settlement_core.abc import ImportingStore
from settlement_core.migration import MigrationReport, Route, examine, migrate
from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.stores.redis import RedisStore
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from settlement_core.testing.store_check import check_store
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError
from settlement_core.values.records import AttemptState, Entry
from settlement_core.values.sealing import SEAL, refuse_sealed
from tests.redis.servers import RedisServer
from tests.redis.support import store_on
from tests.stores.books import INCOMING, OUTGOING, ask, attempts, claimed, closed, entered, opened, overview

EXAMPLES = int(os.environ.get("CHECK_EXAMPLES", "100"))
ROUTE = Route("sqlite:/old.db", "redis://new")

Stores = dict[str, Callable[[], Any]]


@pytest.fixture
def stores(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Stores]:
    """Return what makes empty stores of each kind; those made are closed at the end."""
    numbers, made = count(), list[Any]()

    def keep(store: Any) -> Any:
        made.append(store)
        return store

    yield {
        "memory": lambda: keep(create_memory_store()),
        "sqlite": lambda: keep(open_sqlite_store(tmp_path / f"{next(numbers)}.db")),
        "redis": lambda: keep(store_on(shared_redis.url(), durability="none")),
    }
    for store in made:
        store.close()


def moved(source: Any, destination: Any, route: Route = ROUTE) -> MigrationReport:
    """Move everything; nothing may differ."""
    report = migrate(source, examine(source, route), destination, route)
    assert report.differences == ()
    assert report.counts_before == report.counts_after
    for store in (source, destination):
        assert isinstance(store, MemoryStore) or store.inspect() == []
    return report


@pytest.mark.parametrize(
    ("one", "other"),
    [("memory", "sqlite"), ("memory", "redis"), ("sqlite", "redis"), ("sqlite", "sqlite"), ("redis", "redis")],
)
def test_random_lives_go_on_in_the_other_store_as_they_would_have(one: str, other: str, stores: Stores) -> None:
    """Scripts of the contract suite that migrate, forth and back, again and again, where others only reopen."""
    kinds = {MemoryStore: "memory", SqliteStore: "sqlite", RedisStore: "redis"}
    migrations = count()

    def migrated(store: Any) -> Any:
        next(migrations)
        destination = stores[other if kinds[type(store)] == one else one]()
        moved(store, destination)
        store.close()
        return destination

    check_store(stores[one], reopen=migrated, examples=max(2, EXAMPLES // 12))
    assert next(migrations) > EXAMPLES // 12


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_long_histories_arrive_in_pieces_and_in_order(kind: str, stores: Stores) -> None:
    """Several thousand rows of one account: pages are laid end to end, and attempts keep their entries."""
    source, destination = stores["sqlite"](), stores[kind]()
    source.apply([opened()])
    for number in range(60):
        direction = INCOMING if number % 3 == 0 else OUTGOING
        batch = [
            entered(f"{number}-{n}", f"1.{number:02}{n % 10}", direction=direction, at=float(number)) for n in range(60)
        ]
        name = f"attempt-{number}"
        source.apply([*batch, claimed(name, direction=direction, at=float(number), scale=1), closed(name, "60.1")])
    source.apply([entered(f"queued-{n}", "2", at=100.0) for n in range(1500)])
    expected = [_rows(source, direction) for direction in (OUTGOING, INCOMING)]
    report = moved(source, destination)
    assert report.counts_after.entries > 5000
    assert [_rows(destination, direction) for direction in (OUTGOING, INCOMING)] == expected
    assert attempts(destination) == attempts(source)


def _rows(store: Any, direction: Any) -> list[Entry]:
    found = ask(store, c.Entries(account_id="alice", direction=direction, limit=100_000))
    return [replace(entry, seq=place) for place, entry in enumerate(found)]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_the_history_of_all_accounts_stays_in_order_of_time(kind: str, stores: Stores) -> None:
    """Though accounts are moved one by one; and no attempt is lost where many were claimed at the same instant."""
    source, destination = stores["sqlite"](), stores[kind]()
    accounts = ["alice", "bob", "carol"]
    source.apply([opened(account) for account in accounts])
    for number in range(10):
        for account in accounts:
            at = 1_700_000_000.0 + number // 4
            name = f"{number}-{account}"
            source.apply([entered(name, "1", account_id=account), claimed(name, account_id=account, at=at)])
            source.apply([closed(name, "1", account_id=account)])
    moved(source, destination)
    found: list[Any] = []
    while page := ask(
        destination,
        c.History(limit=2, **({"after": found[-1].attempt_id, "after_account": found[-1].account_id} if found else {})),
    ):
        found += page
    assert len(found) == 30
    assert [attempt.claimed_at for attempt in found] == sorted(attempt.claimed_at for attempt in found)


# what is refused


def test_a_moved_store_tells_where_to_and_its_books_can_still_be_read(stores: Stores) -> None:
    """The new one is not marked, and what the engine noted is all there but the mark."""
    source, destination = stores["sqlite"](), stores["redis"]()
    source.apply([opened(), entered("1", "5"), c.Put(account_id="nobody", key="k", value=[1])])
    moved(source, destination)
    with pytest.raises(LocalError, match="was moved to redis://new: serve that one"):
        refuse_sealed(ask(source, SEAL))
    refuse_sealed(ask(destination, SEAL))
    assert ask(destination, c.Get(account_id="nobody", key="k")) == [1]
    assert overview(source) == overview(destination)
    with pytest.raises(LocalError, match="was moved to redis://new"):
        moved(source, destination)
    with pytest.raises(LocalError, match="was moved to redis://new"):
        examine(source, Route(ROUTE.source, "sqlite:/third.db"))


def test_new_store_that_was_served_before_and_has_no_account_is_empty(stores: Stores) -> None:
    """It counts the time of its use, which is no trace of money; that of the old store is copied."""
    source, destination = stores["redis"](), stores["sqlite"]()
    source.apply([opened(), entered("1", "5"), c.Tick(wall=5.0, keep_s=1.0)])
    destination.apply([c.Tick(wall=9.0, keep_s=1.0)])
    assert migrate(source, examine(source, ROUTE), destination, ROUTE).differences == ()
    clock = c.Get(account_id=c.Tick.account_id, key=c.Tick.key)
    assert ask(destination, clock) == ask(source, clock)


def test_a_store_that_is_in_use_or_not_empty_is_refused(stores: Stores) -> None:
    """Nothing is changed then."""
    source, destination = stores["redis"](), stores["sqlite"]()
    source.apply([opened(), c.Share(worker="w1", lease_s=60.0)])
    with pytest.raises(LocalError, match=r"in use by 1 worker \(w1\): stop them first"):
        examine(source, ROUTE)
    source.apply([c.Share(worker="w1", lease_s=60.0, leaving=True)])
    examined = examine(source, ROUTE)
    for trace in (opened(), c.Put(account_id="", key="k", value=1)):
        used = stores["sqlite"]()
        used.apply([trace])
        with pytest.raises(LocalError, match="is not empty: migrate to a new one"):
            migrate(source, examined, used, ROUTE)
        assert ask(used, SEAL) is None
    busy = stores["redis"]()
    busy.apply([c.Share(worker="w2", lease_s=60.0)])
    with pytest.raises(LocalError, match="in use by 1 worker"):
        migrate(source, examined, busy, ROUTE)
    assert isinstance(destination, ImportingStore)
    moved(source, destination)


def test_an_account_is_imported_once(stores: Stores) -> None:
    """The second time is refused, and changes nothing."""
    for make in stores.values():
        store = make()
        store.apply([opened(), entered("1", "5")])
        before = overview(store)
        with pytest.raises(LocalError, match="is there already"):
            store.import_account(before, [], [])
        assert overview(store) == before


class _Cut(Exception):
    """The migration was killed here."""


class _Fragile:
    """A store that fails before its n-th batch of writing, for good."""

    threaded = False

    def __init__(self, store: Any, left: list[int]) -> None:
        self.store = store
        self._left = left

    def _write(self) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise _Cut

    def apply(self, commands: Any) -> Any:
        if any(isinstance(command, c.Put | c.Suspend | c.Assign) for command in commands):
            self._write()
        return self.store.apply(commands)

    def import_account(self, *facts: Any) -> None:
        self._write()
        self.store.import_account(*facts)

    def import_known(self, known: Any) -> None:
        self._write()
        self.store.import_known(known)

    def export_known(self) -> Any:
        return self.store.export_known()

    def close(self) -> None:
        self.store.close()


def test_cut_off_anywhere_one_store_can_be_served_or_the_next_run_finishes(stores: Stores) -> None:
    """At every write: never both are served, and the money is where it was, or gets there by another run."""
    seen = set()
    for writes in count():
        source, destination = stores["sqlite"](), stores["redis"]()
        source.apply([opened("alice"), opened("bob"), entered("1", "5"), c.Put(account_id="", key="k", value=1)])
        source.apply([c.Suspend(settlement_id="s", amount=Decimal(1), details=None, at=1.0)])
        left = [writes]
        old, new = _Fragile(source, left), _Fragile(destination, left)
        try:
            migrate(old, examine(old, ROUTE), new, ROUTE)
        except _Cut:
            pass
        else:
            break
        marks = (ask(source, SEAL), ask(destination, SEAL))
        seen.add(marks)
        if marks == (None, ROUTE.incomplete):
            with pytest.raises(LocalError, match="did not finish; delete it and migrate again"):
                migrate(source, examine(source, ROUTE), destination, ROUTE)
            moved(source, stores["redis"](), ROUTE)
        else:
            moved(source, destination)
            assert (ask(source, SEAL), ask(destination, SEAL)) == (ROUTE.moved, None)
    assert seen == {
        (None, None),
        (None, ROUTE.incomplete),
        (None, ROUTE.unconfirmed),
        (ROUTE.moved, ROUTE.unconfirmed),
    }


def test_what_was_done_meanwhile_is_found_out(stores: Stores) -> None:
    """The old store is served on, the new one is refused."""
    source, destination = stores["redis"](), stores["sqlite"]()
    source.apply([opened(), entered("1", "5")])
    examined = examine(source, ROUTE)
    source.apply([entered("2", "7")])
    report = migrate(source, examined, destination, ROUTE)
    assert any("outgoing entered was 5, but is 12" in sentence for sentence in report.differences)
    assert ask(source, SEAL) is None
    with pytest.raises(LocalError, match="is not complete"):
        refuse_sealed(ask(destination, SEAL))


def test_released_credits_keep_their_turn(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they were released, not in that of their claims: books of earlier versions hold several."""
    monkeypatch.setattr("settlement_core.values.decisions.is_blocked", lambda *_: False)
    source, destination = stores["sqlite"](), stores["redis"]()
    source.apply([opened()])
    for name in "xyz":
        source.apply([entered(name, "3", direction=INCOMING), claimed(name, direction=INCOMING)])
        source.apply([c.Hold(account_id="alice", attempt_id=name, reason="409")])
    source.apply([c.Release(account_id="alice", attempt_id=n, reason="r", by="ann") for n in "zxy"])
    assert overview(source).released == ("z", "x", "y")
    moved(source, destination)
    for name in "zxy":
        claim = ask(destination, claimed("v", direction=INCOMING))
        assert isinstance(claim, c.Claimed)
        assert (claim.attempt.attempt_id, claim.attempt.state) == (name, AttemptState.OPEN)
        ask(destination, closed(name, "3"))


class _Busy:
    """A store that somebody uses at the very moment at which it is marked as moved."""

    threaded = False

    def __init__(self, store: Any, *meanwhile: c.Command[Any]) -> None:
        self.store = store
        self._meanwhile = meanwhile

    def apply(self, commands: Any) -> Any:
        if any(isinstance(command, c.Put) and command.value == ROUTE.moved for command in commands):
            self.store.apply(self._meanwhile)
        return self.store.apply(commands)

    def close(self) -> None:
        self.store.close()


@pytest.mark.parametrize(
    ("meanwhile", "sentence"),
    [
        (entered("2", "7"), "was used meanwhile: account 'alice': outgoing entered was 5, but is 12"),
        (c.Share(worker="w", lease_s=60.0), "somebody took sqlite:/old.db into use meanwhile"),
        (c.Put(account_id="", key="cursor", value=7), "the engine's value 'cursor' of '' is another than before"),
        (c.Suspend(settlement_id="s", amount=Decimal(1), details=None, at=1.0), "the unattributed settlement 's'"),
    ],
)
def test_what_was_done_at_the_last_moment_is_found_out_too(
    meanwhile: c.Command[Any], sentence: str, stores: Stores
) -> None:
    """The old store can be served again, which has it all; the new one cannot."""
    source, destination = stores["redis"](), stores["sqlite"]()
    source.apply([opened(), entered("1", "5"), c.Put(account_id="", key="cursor", value=6)])
    busy = _Busy(source, meanwhile)
    report = migrate(busy, examine(busy, ROUTE), destination, ROUTE)
    assert any(sentence in difference for difference in report.differences), report.differences
    assert (ask(source, SEAL), ask(destination, SEAL)) == (None, ROUTE.incomplete)

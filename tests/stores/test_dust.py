"""Money that is too little to claim costs a claim nothing, however many entries it is in."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from settlement_core.auditing.audit import audit
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values import decisions
from settlement_core.values.commands import Claim, Claimed, Enqueue, FinishStep, NothingToClaim, OpenAccount, Overview
from settlement_core.values.records import Direction
from tests.redis.servers import RedisServer
from tests.redis.support import fresh_namespace, shared_server, store_on

ENTRIES = 2500
"""More than one look at a queue in Redis covers."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One server for this module."""
    with shared_server(tmp_path_factory.mktemp("redis") / "dust") as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give each kind of store."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        made: Any = store_on(server.url(), namespace=fresh_namespace())
    else:
        made = create_memory_store() if request.param == "memory" else open_sqlite_store(tmp_path / "books.db")
    yield made
    made.close()


def test_a_claim_reads_none_of_the_dust_that_it_cannot_take(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue's sum decides; once it makes a unit, all that is needed is taken, and the rest is one entry."""
    read = [0]
    plan = decisions.plan_claim

    def counted(queue: Any, command: Claim) -> Any:
        def one_by_one() -> Any:
            for amount in queue:
                read[0] += 1
                yield amount

        return plan(one_by_one(), command)

    monkeypatch.setattr(decisions, "plan_claim", counted)
    about: dict[str, Any] = {"account_id": "alice", "direction": Direction.OUTGOING}
    store.apply([OpenAccount(account_id="alice", at=0.0)])
    dust = [Enqueue(**about, entry_id=f"{n}", amount=Decimal("0.0001"), at=0.0) for n in range(ENTRIES)]
    for start in range(0, ENTRIES, 500):
        store.apply(dust[start : start + 500])
    claim = Claim(**about, attempt_id="a", at=1.0, max_entries=1000, scale=0)
    (first,) = store.apply([claim])
    while not isinstance(first, NothingToClaim):  # setting the account up comes first
        store.apply([FinishStep(account_id="alice", step=first.step)])
        (first,) = store.apply([claim])
    assert first == NothingToClaim(Decimal("0.25"))
    assert read[0] == 0
    (claimed,) = store.apply([Enqueue(**about, entry_id="more", amount=Decimal(1), at=0.0), claim])[1:]
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt.amount, claimed.attempt.dust) == (Decimal(1), Decimal("0.25"))


def test_more_dust_than_a_claim_reads_is_summed_up_first(store: Any) -> None:
    """Each claim takes a bounded bite, which becomes one entry, until what makes a unit is near; nothing is lost."""
    about: dict[str, Any] = {"account_id": "alice", "direction": Direction.INCOMING}
    store.apply([OpenAccount(account_id="alice", at=0.0)])
    store.apply([Enqueue(**about, entry_id=f"{n}", amount=Decimal("0.01"), at=0.0) for n in range(ENTRIES // 5)])
    bites = 0
    while True:
        claim = Claim(**about, attempt_id=f"{bites}", at=1.0, max_entries=10, scale=0)
        (answer,) = store.apply([claim])
        if isinstance(answer, Claimed):
            break
        assert answer == NothingToClaim(Decimal(5), summed_up=True)
        # after a lost answer the same claim does nothing more
        assert store.apply([claim]) == [answer]
        assert audit(store).problems == ()
        bites += 1
    assert 1 < bites < 20
    assert (answer.attempt.amount, answer.attempt.dust) == (Decimal(1), Decimal(0))
    (account,) = store.apply([Overview()])[0]
    assert (account.incoming.entered, account.incoming.queued) == (Decimal(5), Decimal(4))
    assert audit(store).problems == ()

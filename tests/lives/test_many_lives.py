"""Life after life, everything goes wrong that may; the money is right after each, and all settled after the last."""

from __future__ import annotations

from decimal import Decimal

import pytest

from settlement_core.testing.lives.diary import Tally
from settlement_core.testing.lives.machine import live_many
from settlement_core.testing.lives.script import (
    ACCOUNTS,
    Cut,
    Deposit,
    Ending,
    Fault,
    Life,
    Mishap,
    Outage,
    Owe,
    Place,
    Setting,
)
from settlement_core.testing.lives.system import System

D = Decimal

SYSTEMS = 40


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_no_life_does_harm(backend: str) -> None:
    """Systems of up to five lives each, the same ones every time; `make soak` draws others for hours.

    What fails here is not made small, which takes long: `python -m settlement_core.testing.lives` does that.
    """
    tally = Tally()
    live_many(backend=backend, examples=SYSTEMS, tally=tally, shrink=False)
    assert tally.lives >= 3 * SYSTEMS
    # of every kind that moves money at least one, or the faults no longer reach what they are meant for
    for kind in (
        "submit arrives, the reply does not",
        "credit arrives, the reply does not",
        "batch is applied in part",
        "batch is applied, the store fails to say so",
        "reorganised transaction",
        "store outage",
        "clock jump",
        "amnesia",
        "account paused",
        "crash",
        "cancel",
        "reordered",
    ):
        assert tally.faults[kind] > 0, f"{kind} never happened"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_same_life_is_the_same_every_time(backend: str) -> None:
    """Whatever a failure prints can be replayed: times, order and what each party did, all but random ids."""
    life = Life(
        owes=(Owe("A", "silk", D(5)), Owe("B", "silk", D(7), at_s=1.0), Owe("B", "wool", D(2))),
        deposits=(Deposit("A", "?", D(3)),),
        faults=(
            Fault("A", Place.SUBMIT, Mishap.LOST_REPLY),
            Fault("B", Place.CREDIT, Mishap.LATE, extra=30),
            Fault("B", Place.STORE, Mishap.PART, nth=3, extra=1),
        ),
        cuts=(Cut(Ending.CRASH, 150, side="A"),),
        workers=2,
        lasts_s=300.0,
        seed=7,
    )

    def steps() -> tuple[int, float]:
        system = System(Setting(shared=True), backend=backend)
        system.live(life)
        return system.steps, system.now()

    first, *others = [steps() for _ in range(5)]
    assert others == [first] * 4
    assert first[0] > 500


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("verifiable", [True, False])
def test_money_goes_both_ways_and_both_books_agree(backend: str, verifiable: bool) -> None:
    """A life in which nothing goes wrong: what was asked for is with the peer's connector."""
    tally = Tally()
    system = System(Setting(verifiable=(verifiable, verifiable)), backend=backend, tally=tally)
    system.live(Life(owes=(Owe("A", "silk", D(5)), Owe("B", "wool", D(3))), lasts_s=60.0))
    assert system.credited("B", "silk") == 5
    assert system.credited("A", "wool") == 3
    system.end_in_peace()
    assert not tally.faults
    assert tally.lives == 2


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("leading", [True, False])
def test_a_worker_whose_store_is_away_is_followed_by_the_other(backend: str, leading: bool) -> None:
    """What it had under way is ended by whoever holds its accounts, or leads, next, and is paid once."""
    system = System(Setting(shared=True, leading=leading), backend=backend)
    owes = tuple(Owe("A", account, D(5), at_s=19.0) for account in ACCOUNTS)
    system.live(
        Life(
            owes=owes,
            faults=(Fault("A", Place.SUBMIT, Mishap.LOST_REPLY), Fault("B", Place.CREDIT, Mishap.LOST_REPLY, times=5)),
            happenings=(Outage("A", 41.0, 500.0, worker=0), Outage("B", 81.0, 500.0, worker=0)),
            workers=2,
            lasts_s=640.0,
        )
    )
    assert [system.credited("B", account) for account in ACCOUNTS] == [5, 5]
    system.end_in_peace()
    assert [system.credited("B", account) for account in ACCOUNTS] == [5, 5]

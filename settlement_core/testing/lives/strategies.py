"""Draws settings and lives, so that few and early things go wrong first: that is what a failure shrinks to."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from settlement_core.testing.lives.script import (
    ACCOUNTS,
    SIDES,
    Amnesia,
    ClockJump,
    Cut,
    Deposit,
    Ending,
    Fault,
    Happening,
    Life,
    Mishap,
    Outage,
    Owe,
    Pausing,
    Person,
    Place,
    Reorganisation,
    Setting,
)

__all__ = ["lives", "settings_of_systems"]

_ON_THE_WAY = (Mishap.LOST_REPLY, Mishap.LOST_REQUEST, Mishap.LATE, Mishap.TWICE)
_ANSWERED = (Mishap.ERROR, Mishap.ERROR_AFTER)
_MISHAPS: dict[Place, tuple[Mishap, ...]] = {
    Place.SUBMIT: (*_ON_THE_WAY, *_ANSWERED, Mishap.FAILS),
    Place.CREDIT: (*_ON_THE_WAY, *_ANSWERED),
    Place.STORE: (Mishap.AFTER, Mishap.BEFORE, Mishap.PART, Mishap.POWER_LOSS),
    Place.REQUEST: (*_ON_THE_WAY, *_ANSWERED),
    Place.LOOK_UP: (*_ON_THE_WAY, *_ANSWERED),
    Place.SCAN: (*_ON_THE_WAY, *_ANSWERED),
    Place.MESSAGE: (*_ON_THE_WAY, *_ANSWERED),
}
_WEIGHTS = {Place.SUBMIT: 3, Place.CREDIT: 3, Place.STORE: 2, Place.LOOK_UP: 2}
_STATUSES = (500, 503, 429, 404, 409, 400, 302)

_sides = st.sampled_from(SIDES)
_accounts = st.sampled_from(ACCOUNTS)
_amounts = st.sampled_from(
    [
        Decimal(text)
        for text in ("1", "2", "3", "10", "0.5", "2.25", "0.003", "7.0000000001", "1234567890123456.123456789123456789")
    ]
)
_moments = st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0, 20.0, 40.0, 100.0])
_steps = st.one_of(st.integers(1, 60), st.integers(1, 250), st.integers(1, 800))


def settings_of_systems(*, verifiable: bool | None = None, shared: bool | None = None) -> st.SearchStrategy[Setting]:
    """Return settings; `verifiable` and `shared` fix a part of them."""
    contracts = st.booleans() if verifiable is None else st.just(verifiable)
    return st.builds(
        Setting,
        verifiable=st.tuples(contracts, contracts),
        shared=st.booleans() if shared is None else st.just(shared),
        leading=st.sampled_from([False, False, True]),
        ledger_scale=st.sampled_from([None, None, 0, 2]),
        connector_scale=st.sampled_from([None, None, 1]),
        piecemeal=st.booleans(),
        max_entries=st.sampled_from([1000, 1, 2]),
        credit_cap=st.sampled_from([None, Decimal(10) ** 15]),
        forgetful_after_s=st.sampled_from([86_400.0, 86_400.0, 300.0]),
    )


def _faults_at(place: Place) -> st.SearchStrategy[Fault]:
    def with_extra(mishap: Mishap) -> st.SearchStrategy[Fault]:
        extras: st.SearchStrategy[int] = st.just(0)
        if mishap in {Mishap.LATE, Mishap.TWICE}:
            extras = st.sampled_from([0, 1, 8, 30, 90, 4000])
        elif mishap in _ANSWERED:
            extras = st.sampled_from(_STATUSES)
        elif mishap in {Mishap.PART, Mishap.POWER_LOSS}:
            extras = st.integers(0, 5)
        order = st.integers(1, 15) if place is Place.STORE else st.sampled_from([1, 1, 1, 2, 2, 3])
        # now and then again and again, so that what is repeated meets what happens meanwhile
        times = st.sampled_from([1, 1, 1, 3, 8])
        return st.builds(Fault, _sides, st.just(place), st.just(mishap), order, extras, times)

    return st.sampled_from(_MISHAPS[place]).flatmap(with_extra)


# most of all where money moves
_places = st.sampled_from([place for place in _MISHAPS for _ in range(_WEIGHTS.get(place, 1))])
_faults = _places.flatmap(_faults_at)
# of one worker alone most often: the other then takes its accounts
_outages = st.builds(
    Outage, _sides, _moments, st.sampled_from([100.0, 30.0, 3.0, 500.0]), st.sampled_from([0, 0, 1, None])
)
_happenings: st.SearchStrategy[Happening] = st.one_of(
    # when what was asked for at one of the moments has just been included
    st.builds(Reorganisation, st.sampled_from([8.0, 12.0, 28.0, 48.0, 108.0]), st.booleans()),
    _outages,
    _outages,
    st.builds(ClockJump, _sides, _moments, st.sampled_from([-90_000.0, -30.0, 30.0, 70.0, 4000.0, 90_000.0])),
    st.builds(Amnesia, _sides, _moments),
    st.builds(Person, _sides, _moments),
    st.builds(Pausing, _sides, _accounts, _moments, st.sampled_from([2.0, 30.0, 500.0])),
)
_cuts = st.one_of(
    st.builds(Cut, st.sampled_from(Ending), _steps),
    st.builds(Cut, st.sampled_from(Ending), _steps, _sides, st.integers(0, 1)),
)


_owes = st.lists(st.builds(Owe, _sides, _accounts, _amounts, _moments), max_size=4).map(tuple)
_deposits = st.lists(
    st.builds(Deposit, _sides, st.sampled_from([*ACCOUNTS, *ACCOUNTS, "?"]), _amounts, _moments), max_size=2
).map(tuple)


def lives() -> st.SearchStrategy[Life]:
    """Return lives: something is owed, something goes wrong, and it ends."""
    return st.sampled_from([_any_lives(), _any_lives(), _sides.flatmap(_contested_lives)]).flatmap(lambda kind: kind)


def _contested_lives(side: str) -> st.SearchStrategy[Life]:
    """Return lives in which one worker repeats itself while its store is away, and another takes its accounts."""
    repeated = st.builds(
        Fault,
        st.just(side),
        st.sampled_from([Place.CREDIT, Place.SUBMIT]),
        st.sampled_from([Mishap.LOST_REPLY, Mishap.LOST_REQUEST, Mishap.ERROR_AFTER]),
        extra=st.sampled_from([503, 429]),
        times=st.sampled_from([8, 20]),
    )
    away = st.builds(
        Outage, st.just(side), st.sampled_from([40.0, 60.0, 20.0]), st.sampled_from([500.0, 100.0]), st.integers(0, 1)
    )
    return st.builds(
        Life,
        owes=_owes,
        deposits=_deposits,
        faults=st.lists(st.one_of(repeated, _faults), min_size=1, max_size=4).map(tuple),
        happenings=away.map(lambda outage: (outage,)),
        workers=st.just(2),
        lasts_s=st.sampled_from([300.0, 600.0]),
        seed=st.integers(0, 2**16),
    )


def _any_lives() -> st.SearchStrategy[Life]:
    return st.builds(
        Life,
        owes=_owes,
        deposits=_deposits,
        faults=st.lists(_faults, max_size=8).map(tuple),
        happenings=st.lists(_happenings, max_size=2).map(tuple),
        cuts=st.one_of(st.just(()), st.lists(_cuts, max_size=2).map(tuple)),
        workers=st.sampled_from([1, 2, 2]),
        lasts_s=st.sampled_from([60.0, 1.0, 10.0, 30.0, 120.0, 200.0, 300.0, 2000.0]),
        gap_s=st.sampled_from([0.0, 0.0, 5.0, 600.0, 40_000.0]),
        seed=st.integers(0, 2**16),
    )

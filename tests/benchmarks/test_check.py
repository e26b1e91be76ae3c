"""The check of ratios fails on what is much slower for good, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import anyio
import pytest

from benchmarks.check import TRIES, check
from benchmarks.clients import Clients, open_accounts
from benchmarks.embedded import live, live_bare
from benchmarks.figures import Row
from settlement_core import Core, create_memory_store

PLANTED_S = 2.0
"""So long that no noise makes up for it: 64 clients are then served 32 times a second."""


def measured(ratio: float) -> list[Row]:
    """Return what a measurement finds: ours, and a floor whose ratio is its own affair."""
    ours = Row(question="q", workload="w", subject="ours", durability="none", figures={}, ratios={"original": ratio})
    return [ours, replace(ours, subject="ours, floor", ratios={"original": ratio / 10})]


def test_noise_in_one_try_or_two_is_no_regression() -> None:
    """Two tries far too low, the third as committed: all is well."""
    tries = iter([measured(0.1), measured(0.2), measured(2.0)])
    assert check({"q": lambda: next(tries)}, measured(2.0)) == []


def test_another_ratio_in_each_try_is_no_regression() -> None:
    """Three ratios, each of them far too low once: the same one has to fail each time."""
    row = measured(1.0)[0]
    good = [replace(row, subject=subject) for subject in "abc"]
    tries = iter([[replace(one, ratios={"original": 0.1}) if one is bad else one for one in good] for bad in good])
    assert check({"q": lambda: next(tries)}, good) == []


def test_a_ratio_that_stays_below_half_is_told() -> None:
    """Nothing but that ratio, with what it was."""
    assert check({"q": lambda: measured(0.9)}, measured(2.0)) == ["q, w: ours is 0.90 of original, was 2.00"]


def test_who_waits_for_the_disk_is_not_held_against_who_does_not() -> None:
    """A busy disk is no regression: ratios to a floor, or to memory, do not count for what is durable."""
    ours, floor = measured(2.0)
    durable = replace(ours, durability="fsync always", ratios={"original, memory": 2.0, "its floor": 0.5})
    original = replace(floor, subject="original, memory", ratios={})
    slow = replace(durable, ratios={"original, memory": 0.1, "its floor": 0.1})
    assert check({"q": lambda: [slow, original]}, [durable, original]) == []


def test_a_ratio_that_nobody_committed_or_measured_is_not_passed_over() -> None:
    """What is new, or has another name, needs a committed ratio; what is committed must be measured."""
    for committed, found in (([], measured(1.0)), (measured(1.0), [])):
        with pytest.raises(LookupError, match="either committed or measured"):
            check({"q": lambda found=found: found}, committed)  # type: ignore[misc]


def test_a_core_that_waits_before_each_request_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured for real, the core beside the bare loop; then with a pause planted in front of every request."""

    def measure() -> Iterator[Row]:
        found = {}
        for name, way in (("bare", live_bare), ("core", live)):
            with closing(create_memory_store()) as store:
                open_accounts(store, 10)
                found[name] = anyio.run(way, store, Clients(10), 0.3)["settlements/s"]
        yield replace(measured(0)[0], ratios={"bare loop": found["core"] / found["bare"]})

    # on a busy machine one of them may be far off
    committed = sorted((list(measure()) for _ in range(3)), key=lambda rows: rows[0].ratios["bare loop"])[1]
    request = Core.request_settlement

    async def request_later(*args: object, **kwargs: object) -> object:
        await anyio.sleep(PLANTED_S)
        return await request(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Core, "request_settlement", request_later)
    tries = []
    (told,) = check({"q": lambda: tries.append(1) or measure()}, committed)  # type: ignore[func-returns-value]
    assert told.startswith("q, w: ours is 0.")
    assert len(tries) == TRIES

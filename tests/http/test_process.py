"""What a process that only serves changes for itself."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from settlement_core.http.process import COLLECT_EVERY, collect_garbage_rarely


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class _Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_looked_for_less_often_among_what_came_later() -> None:
    """What was there before is left out; what is made afterwards is still collected."""
    gc.set_threshold(700, 10, 10)
    before = gc.get_freeze_count()
    collect_garbage_rarely()
    assert gc.get_threshold() == (COLLECT_EVERY, 10, 10)
    assert gc.get_freeze_count() > before + 1000
    gone = weakref.ref(_Knot())
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("young", [0, COLLECT_EVERY * 2])
def test_who_asked_for_no_collection_or_a_rarer_one_keeps_it(young: int) -> None:
    """The program around us knows why."""
    gc.set_threshold(young, 5, 5)
    collect_garbage_rarely()
    assert gc.get_threshold() == (young, 5, 5)

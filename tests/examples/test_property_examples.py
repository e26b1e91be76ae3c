"""The examples of property tests hold for the core as it is and fail for a broken one: they are worth copying."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from settlement_core.abc import Acknowledged
from settlement_core.core.incoming import IncomingLane
from settlement_core.values.backoff import Backoff
from settlement_core.values.records import Attempt
from tests.examples.loading import EXAMPLES, load_example

WEEK_S = 7 * 24 * 3600.0


def run(name: str) -> str:
    """Run an example; return what it printed."""
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_retry_example_runs_and_is_short() -> None:
    """As its docstring says, and in under 60 lines."""
    assert run("property_test_retry.py") == ""
    assert len((EXAMPLES / "property_test_retry.py").read_text().splitlines()) < 60


Breakage = Callable[[pytest.MonkeyPatch], None]


def wait(delay_s: Callable[[int, float], float]) -> Breakage:
    """Return how to replace the back-off."""
    return lambda patch: patch.setattr(Backoff, "delay_s", lambda _self, failures, chance: delay_s(failures, chance))


def offer(perform: Callable[[IncomingLane, Attempt], Any]) -> Breakage:
    """Return how to replace what is done to have a credit heard."""

    async def broken(self: IncomingLane, attempt: Attempt, *, fresh: bool) -> None:
        await perform(self, attempt)

    return lambda patch: patch.setattr(IncomingLane, "perform", broken)


async def under_fresh_keys(lane: IncomingLane, attempt: Attempt) -> None:
    """Offer under another key each time."""
    while True:
        outcome = await lane.context.connector.credit(lane.account_id, attempt.amount, str(uuid.uuid4()))
        if isinstance(outcome, Acknowledged):
            await lane.close(attempt, attempt.amount)
            return
        await lane.rest(lane.failed("away"), "away")


async def ten_times(lane: IncomingLane, attempt: Attempt) -> None:
    """Give up in the end."""
    for _ in range(10):
        outcome = await lane.context.connector.credit(lane.account_id, attempt.amount, attempt.attempt_id)
        if isinstance(outcome, Acknowledged):
            await lane.close(attempt, attempt.amount)
            return
        await lane.rest(lane.failed("away"), "away")
    await lane.park(attempt, "gave up")


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        pytest.param(wait(lambda _n, _c: 600.0), "within the bounds of their jitter", id="no growth"),
        pytest.param(
            wait(lambda n, c: min(0.5 * 2.0 ** min(n - 1, 14), 3540) * (1 - 0.9 * c)),
            "within the bounds of their jitter",
            id="too much jitter",
        ),
        pytest.param(offer(under_fresh_keys), "it is the same credit", id="fresh keys"),
        pytest.param(offer(ten_times), "credited once, and within an hour", id="gives up"),
    ],
)
def test_the_retry_example_finds_a_broken_back_off(
    break_it: Breakage, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delays without growth or with wild jitter, fresh keys, and giving up are each found and named.

    For one draw of Hypothesis' only: to find the smallest that fails takes it a minute.
    """
    holds = load_example("property_test_retry").test_a_credit_is_offered_until_it_is_heard.hypothesis.inner_test
    holds(WEEK_S, Random(1))
    break_it(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        holds(WEEK_S, Random(1))
    if isinstance(caught.value, ExceptionGroup):
        assert caught.group_contains(AssertionError, match=told)
    else:
        assert told in str(caught.value)


def test_the_engine_example_finds_the_planted_double_payment() -> None:
    """The sound engine keeps what can be tried; the other is told that it pays twice, and when."""
    sound, planted = run("property_test_engine.py").split("\n\n")
    assert sound.startswith("BankEngine: 16 promises held, through ")
    assert planted.startswith("ForgetfulEngine: this engine breaks ")
    assert "submits_twice_and_pays_once: paid 20.24 by a payment of 10.12: submitted twice, it pays twice" in planted
    assert "pays_once_although_it_crashes: crashed in the middle of submit: paid 20.24 for a settlement of" in planted


def test_the_examples_use_only_what_is_public() -> None:
    """Whoever copies them depends on no module that may change."""
    for path in EXAMPLES.glob("property_test_*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("from settlement_core", "import settlement_core")):
                assert "._" not in line, f"{Path(path).name}: {line}"
                assert line.startswith(("from settlement_core import", "from settlement_core.testing")), line

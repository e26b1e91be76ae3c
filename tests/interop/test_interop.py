"""Our server and the original, as peers: their books agree to the digit, but where its known faults strike.

`python -m tests.interop --help` is the long form.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.interop.run import Outcome, play
from tests.interop.strikes import Strike

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(folder: Path, strike: Strike, *, settlements: int, kills: int = 0, seed: int = 1) -> Outcome:
    """Play, on trio; the logs stay in the folder."""

    async def main() -> Outcome:
        return await play(folder, strike, settlements=settlements, kills=kills, seed=seed)

    outcome = anyio.run(main, backend="trio")
    assert outcome.problems == []
    assert outcome.is_explained, outcome
    return outcome


def test_the_books_agree_to_the_digit(tmp_path: Path) -> None:
    """Both ways, while replies are lost, requests doubled, our connector refuses, and our server is killed."""
    outcome = run(tmp_path, Strike.NONE, settlements=200, kills=2)
    assert outcome.kills == 2
    assert outcome.to_us.requested == outcome.to_us.paid == outcome.to_us.credited > 0
    assert outcome.from_us.requested == outcome.from_us.paid == outcome.from_us.credited > 0
    assert outcome.repeated == outcome.parked == outcome.lost == 0


@pytest.mark.parametrize("strike", [Strike.REFUSED, Strike.FAILED, Strike.PLAIN])
def test_what_the_original_misreads_of_its_connectors_answers_is_all_that_differs(
    strike: Strike, tmp_path: Path
) -> None:
    """Its connector has more than was paid by exactly what was credited again, less what is still parked."""
    outcome = run(tmp_path, strike, settlements=60, kills=1)
    assert outcome.to_us.requested == outcome.to_us.paid == outcome.to_us.credited > 0
    assert outcome.from_us.requested == outcome.from_us.paid > 0
    assert outcome.surplus == outcome.repeated - outcome.parked
    assert outcome.struck > 0
    assert (outcome.repeated > 0) == (strike is not Strike.REFUSED)


@pytest.mark.parametrize("strike", [Strike.THROWN, Strike.KILLED])
def test_what_the_original_takes_from_its_queue_and_never_pays_is_all_that_is_missing(
    strike: Strike, tmp_path: Path
) -> None:
    """Its connector asked for more than was paid by exactly those payments; what was paid, ours was credited."""
    outcome = run(tmp_path, strike, settlements=60)
    assert outcome.to_us.requested - outcome.to_us.paid == outcome.lost > 0
    assert outcome.to_us.paid == outcome.to_us.credited
    assert outcome.from_us.requested == outcome.from_us.paid == outcome.from_us.credited > 0

"""Five workers of two peers on one Redis, killed by SIGKILL, and Redis too: what was accepted is paid, once."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.redis.kill_loop import Outcome, run

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_what_was_accepted_is_paid_once_whoever_is_killed(tmp_path: Path) -> None:
    """Workers and Redis die in the middle of it; every party's books agree to the last digit."""
    outcome: Outcome = anyio.run(lambda: run(tmp_path, settlements=400, kills=6, seed=3))
    assert outcome.problems == []
    assert outcome.kills.total() == 6
    assert outcome.kills["redis"] == 2
    assert outcome.settlements == 400
    assert outcome.requested == outcome.credited
    assert not any((outcome.lost, outcome.paid_twice, outcome.in_doubt))

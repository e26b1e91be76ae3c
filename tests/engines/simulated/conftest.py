"""Every engine test runs on both loops, in real time: the ledger works in threads, which no virtual clock waits for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from settlement_core.engines.simulated import LedgerSettings, SimulatedLedger, open_ledger
from tests.engines.simulated.world import D


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Return the loop's name."""
    name: str = request.param
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the ledger is."""
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SimulatedLedger]:
    """Yield a ledger without a clock, alice, bob and carol with 100 each on it, and check its books at the end."""
    with open_ledger(path, create=LedgerSettings(confirmations=3, block_time_s=0), durable=False) as ledger:
        for name in ("alice", "bob", "carol"):
            ledger.open_address(name, D(100))
        yield ledger
        assert ledger.verify_books() == []
        assert ledger.total() == 0

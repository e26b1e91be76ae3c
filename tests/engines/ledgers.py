"""The engines we have, each on its ledger with as many buttons as that has: what `check_engine` is given in tests."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import anyio

from settlement_core import AccountServices
from settlement_core.engines.simulated import (
    FaultPlan,
    LedgerSettings,
    SimulatedLedger,
    Transfer,
    open_ledger,
    simulated_engine,
)
from settlement_core.engines.simulated.faults import chance
from settlement_core.testing.engine_check import LedgerControls
from settlement_core.values.amounts import total
from tests.core.worlds import MemoryLedger, MinimalEngine, VerifiableEngine
from tests.engines import toys
from tests.examples.loading import load_example

D = Decimal

minimal_engine, verifiable_engine = load_example("minimal_engine"), load_example("verifiable_engine")

RARELY = 0.02
"""How probable a fault on purpose is: with the right seed, it happens at the first draw and not again for long."""


def first_only() -> int:
    """Return a seed by which the first draw hits, and the next hundred miss."""
    return next(
        seed
        for seed in count()
        if chance(seed, 1) < RARELY and all(chance(seed, number) >= RARELY for number in range(2, 100))
    )


class SimulatedControls:
    """The shipped ledger, with blocks by hand."""

    def __init__(self, path: Path, ledger: SimulatedLedger) -> None:
        self.connect = simulated_engine(path, "us", poll_interval_s=0.005, chance=lambda: 0.0)
        self._ledger = ledger
        self._memos: dict[str, str] = {}
        self._numbers = count()

    async def paid(self, account_id: str) -> Decimal:
        """Return what is final."""
        return self._ledger.moved(source="us", destination=account_id).amount

    async def make_final(self) -> None:
        """Mine what finality takes."""
        self._ledger.mine(self._ledger.settings.confirmations)

    async def answer(self, account_id: str, message: Any) -> Any:
        """Open the peer's address, and tell it."""
        self._ledger.open_address(account_id, D(1000))
        self._memos[account_id] = message["memo"]
        return {"type": "paymentDetails", "address": account_id, "memo": f"for {account_id}".replace(" ", "-")}

    async def lose_next_request(self) -> None:
        """Drop."""
        self._ledger.set_fault_plan(FaultPlan(seed=first_only(), drop=RARELY))

    async def lose_next_reply(self) -> None:
        """Take, and say nothing."""
        self._ledger.set_fault_plan(FaultPlan(seed=first_only(), lose_reply=RARELY))

    async def reject_next(self) -> None:
        """Fail at the last moment."""
        self._ledger.set_fault_plan(FaultPlan(seed=first_only(), fail_at_finality=RARELY))

    async def reorganise(self) -> None:
        """Forget the newest block."""
        self._ledger.mine(1)
        self._ledger.reorganise(1, vanish=True)

    async def fall_behind(self, share: float) -> None:
        """Have a replica stop here."""
        self._ledger.set_fault_plan(FaultPlan(lag=share, lag_at=self._ledger.height()))

    async def prune(self, share: float) -> None:
        """Have a replica forget the blocks up to here."""
        self._ledger.set_fault_plan(FaultPlan(prune=share, pruned_below=self._ledger.height() + 1))

    async def catch_up(self) -> None:
        """Have no replicas but whole ones."""
        self._ledger.set_fault_plan(FaultPlan())

    async def pay_us(self, account_id: str, amount: Decimal) -> None:
        """Pay with the memo that the engine told the peer."""
        self._pay(account_id, amount, self._memos[account_id])

    async def pay_us_as_stranger(self, amount: Decimal) -> None:
        """Pay with a memo of one's own."""
        self._ledger.open_address("stranger", D(1000))
        self._pay("stranger", amount, "hello")

    def _pay(self, source: str, amount: Decimal, memo: str) -> None:
        tx_id = f"from-{source}-{next(self._numbers)}"
        self._ledger.submit(Transfer(tx_id=tx_id, source=source, destination="us", amount=amount, memo=memo))
        self._ledger.mine(self._ledger.settings.confirmations)


@asynccontextmanager
async def open_simulated() -> AsyncIterator[LedgerControls]:
    """Open the shipped ledger in a file, with what it costs to be paid many times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        settings = LedgerSettings(confirmations=3, block_time_s=0)
        with open_ledger(path, create=settings, durable=False) as ledger:
            ledger.open_address("us", D(1000))
            yield SimulatedControls(path, ledger)
            assert ledger.verify_books() == []


class PrintedControls:
    """The minimal example, whose ledger is what it prints."""

    def __init__(self, printed: io.StringIO) -> None:
        self._printed = printed

    def connect(self, services: AccountServices) -> Any:
        """Make the engine."""
        return minimal_engine.connect_engine(services)

    async def paid(self, account_id: str) -> Decimal:
        """Read what was printed."""
        found = re.findall(
            rf"paying (\S+) to the peer of account {account_id}$", self._printed.getvalue(), re.MULTILINE
        )
        return total(map(D, found))


@asynccontextmanager
async def open_printed() -> AsyncIterator[LedgerControls]:
    """Catch what is printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield PrintedControls(printed)


class FolderControls:
    """The verifiable example, whose ledger is a folder."""

    def connect(self, services: AccountServices) -> Any:
        """Make the engine."""
        return verifiable_engine.connect_engine(services)

    async def paid(self, account_id: str) -> Decimal:
        """Read every file."""
        payments = [json.loads(await path.read_text()) async for path in verifiable_engine.LEDGER.glob("*.json")]
        return total(D(payment["amount"]) for payment in payments if payment["to"] == account_id)


@asynccontextmanager
async def open_folder() -> AsyncIterator[LedgerControls]:
    """Give the example a folder of its own."""
    before = verifiable_engine.LEDGER
    with tempfile.TemporaryDirectory() as folder:
        verifiable_engine.LEDGER = anyio.Path(folder)
        try:
            yield FolderControls()
        finally:
            verifiable_engine.LEDGER = before


class FakeMinimalControls:
    """The minimal fake of the core's tests, which is engine and ledger in one."""

    def __init__(self) -> None:
        self._engine = MinimalEngine(takes_s=0.1)

    async def connect(self, _services: AccountServices) -> Any:
        """Return the engine."""
        return self._engine

    async def paid(self, _account_id: str) -> Decimal:
        """Return everything: only one account is looked at."""
        return total(self._engine.paid)


@asynccontextmanager
async def open_fake_minimal() -> AsyncIterator[LedgerControls]:
    """Make a fake."""
    yield FakeMinimalControls()


class FakeVerifiableControls:
    """The verifiable fake of the core's tests, and its ledger."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger(final_after_s=0.3)
        self._engine = VerifiableEngine(self._ledger)

    async def connect(self, _services: AccountServices) -> Any:
        """Return the engine: only its ledger knows anything."""
        return self._engine

    async def paid(self, _account_id: str) -> Decimal:
        """Return what is final: only one account is looked at."""
        now = anyio.current_time()
        done = [
            amount for when, amount in self._ledger.transactions.values() if when + self._ledger.final_after_s <= now
        ]
        return total(done)

    async def make_final(self) -> None:
        """Wait until it is."""
        await anyio.sleep(self._ledger.final_after_s)

    async def lose_next_request(self) -> None:
        """Break before."""
        self._engine.fail.append("submit-before")

    async def lose_next_reply(self) -> None:
        """Break after."""
        self._engine.fail.append("submit-after")

    async def reject_next(self) -> None:
        """Refuse."""
        self._ledger.reject_next = 1


@asynccontextmanager
async def open_fake_verifiable() -> AsyncIterator[LedgerControls]:
    """Make a fake."""
    yield FakeVerifiableControls()


def opening(engine: Any) -> Any:
    """Return how to open a toy ledger with an engine on it; minimal ones cannot be paid."""
    ledger = toys.ToyChain if issubclass(engine, toys.ToyEngine) else toys.ToyLedger

    @asynccontextmanager
    async def open_toy() -> AsyncIterator[LedgerControls]:
        yield ledger(engine)

    return open_toy

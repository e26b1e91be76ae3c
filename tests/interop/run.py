"""One run: settle both ways with a strike, wait until all is still, and lay everybody's books side by side."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread

from settlement_core.auditing.audit import audit
from settlement_core.store_urls import open_store
from settlement_core.values.amounts import subtract
from tests.interop.stage import OURS, THEIRS, Stage, open_stage, other
from tests.interop.strikes import Strike

__all__ = ["Direction", "Outcome", "play"]

DRAIN_S = 90.0
"""How long what was accepted may take to arrive after the last request."""

REFUSE_EVERY = 4
HELD = 12
"""Settlements under way when the original is killed."""


@dataclass(frozen=True, slots=True)
class Direction:
    """What one side asked for, what moved on the ledger, and what the other was credited, in standard units."""

    requested: Decimal
    paid: Decimal
    credited: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to.

    Attributes:
        from_us: payments of our server to the original.
        to_us: payments of the original to our server.
        struck: how many credits the original disbelieved, of those its connector was sent.
        repeated: what the original's connector booked and the original disbelieved, so that it is credited again.
        parked: what the original keeps as not credited.
        lost: what the original took from its queue and never pays.
        problems: what nothing explains; our own books that do not add up.
    """

    strike: Strike
    settlements: int
    kills: int
    transfers: int
    from_us: Direction
    to_us: Direction
    struck: int
    repeated: Decimal
    parked: Decimal
    lost: Decimal
    problems: list[str]

    @property
    def surplus(self) -> Decimal:
        """Return what the original's connector was credited beyond what was paid; below zero, what it lacks."""
        return subtract(self.from_us.credited, self.from_us.paid)

    @property
    def is_explained(self) -> bool:
        """Tell whether our books are exact, and theirs differ by what was repeated, parked and lost, to the digit."""
        from_us, to_us = self.from_us, self.to_us
        exact = from_us.requested == from_us.paid and to_us.paid == to_us.credited
        credited = self.surplus == subtract(self.repeated, self.parked)
        return exact and credited and subtract(to_us.requested, to_us.paid) == self.lost


async def play(folder: Path, strike: Strike, *, settlements: int, kills: int, seed: int) -> Outcome:
    """Settle in this folder; return what came of it."""
    async with open_stage(folder, strike, seed=seed) as stage:
        if strike is Strike.THROWN:
            stage.facade.refuse_every = REFUSE_EVERY
        await stage.settle(settlements, kills=kills)
        if strike is Strike.KILLED:
            await stage.wait_until_still(DRAIN_S)
            await _kill_while_paying(stage)
            await stage.settle(settlements // 4, kills=0)
        rested = await stage.wait_until_still(DRAIN_S)
        problems = [] if rested else ["after the last request, the books did not come to rest"]
        problems += [f"the ledger: {sentence}" for sentence in stage.ledger.verify_books()]
        outcome = await anyio.to_thread.run_sync(_compare, stage, strike, problems)
        if await stage.ours.stop():
            problems.append("our server did not end with exit code 0")
    problems += await anyio.to_thread.run_sync(_audit, folder)
    return outcome


async def _kill_while_paying(stage: Stage) -> None:
    """Have the ledger take nothing until the original has taken everything from its queue; then kill that."""
    stage.facade.open.clear()
    before = set(stage.original.begun())
    connector = stage.connectors[THEIRS]
    for number in range(HELD):
        await connector.settle(stage.accounts[number % len(stage.accounts)], Decimal(number + 1).scaleb(-9), scale=9)
    asked = sum(range(1, HELD + 1))

    def begun() -> dict[str, Decimal]:
        return {tx_id: amount for tx_id, amount in stage.original.begun().items() if tx_id not in before}

    with anyio.fail_after(DRAIN_S):
        while sum(begun().values()) != Decimal(asked).scaleb(-9):
            await anyio.sleep(0.02)
    await stage.original.kill()
    stage.lost.update(begun())
    stage.facade.open.set()
    await stage.original.start()


def _compare(stage: Stage, strike: Strike, problems: list[str]) -> Outcome:
    for account_id in stage.accounts if strike is Strike.NONE else ():
        left, right = (stage.connectors[side].account(account_id) for side in (OURS, THEIRS))
        if (left.requested, right.requested) != (right.credited, left.credited):
            problems.append(f"the connectors' books of {account_id} differ: {left}, {right}")
    directions = {
        side: Direction(stage.requested(side), stage.paid(side), stage.credited(other(side))) for side in (OURS, THEIRS)
    }
    return Outcome(
        strike=strike,
        settlements=stage.accepted,
        kills=stage.kills,
        transfers=stage.entries(OURS) + stage.entries(THEIRS),
        from_us=directions[OURS],
        to_us=directions[THEIRS],
        struck=len(stage.credits.disbelieved),
        repeated=stage.credits.repeated(),
        parked=stage.parked(),
        lost=stage.lost_amount(),
        problems=problems,
    )


def _audit(folder: Path) -> list[str]:
    store = open_store(f"sqlite:{folder / 'ours.db'}", create=False)
    try:
        report = audit(store)
    finally:
        store.close()
    problems = [f"our store, {p.row} of {p.account_id!r}: {p.sentence}" for p in report.problems]
    return problems + [f"our store: settlement {item.settlement_id!r} has no owner" for item in report.unattributed]

"""Stops payments after several in a row that nobody can know of: what fails every time is not to be tried on and on.

Invariant: once the limit is reached nothing new is paid in any account, by this run or a later one, until an operator
resumes payments. Requests are still taken, and what is open goes on to its end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from settlement_core.values.command import OWN_VALUES
from settlement_core.values.commands import Get, Put
from settlement_core.values.events import PaymentsResumed, PaymentsStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from settlement_core.core.journal import Journal
    from settlement_core.values.event import Event

__all__ = ["DOUBTS", "Doubts", "open_doubts", "resume_payments"]

DOUBTS = Get(account_id=OWN_VALUES, key="doubts")
"""Asks a store how many payments in a row are in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What the store keeps: the count, whether payments are stopped, and who last resumed them, why."""

    in_a_row: int = 0
    stopped: bool = False
    reason: str = ""
    by: str = ""


def resume_payments(*, reason: str, by: str) -> Put:
    """Return the command by which an operator has payments go on."""
    return Put(account_id=OWN_VALUES, key=DOUBTS.key, value=asdict(_Kept(reason=reason, by=by)))


class Doubts:
    """Counts over all accounts; `open_doubts` gives one. Workers that share a store learn of each other by `look`."""

    def __init__(
        self, journal: Journal, observe: Callable[[Event], None], limit: int, go_on: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._observe = observe
        self._limit = limit
        self._go_on = go_on
        self._kept = _Kept()

    @property
    def stopped(self) -> bool:
        """Tell whether nothing new is paid."""
        return self._kept.stopped and self._limit > 0

    @property
    def alarm(self) -> str:
        """Return what an operator should know, or ""."""
        if not self.stopped:
            return ""
        return (
            f"{self._kept.in_a_row} payments in a row are in doubt, so nothing new is paid: look at the ledger, "
            "resolve them, then settlement-core resume --payments"
        )

    async def look(self) -> None:
        """Learn what other workers, or an earlier run, counted."""
        found = await self._journal.ask(DOUBTS)
        self._kept = _Kept(**found) if isinstance(found, dict) else _Kept()

    def doubted(self) -> None:
        """Count a payment that is in doubt."""
        was = self.stopped
        in_a_row = self._kept.in_a_row + 1
        self._keep(replace(self._kept, in_a_row=in_a_row, stopped=was or 0 < self._limit <= in_a_row))
        if self.stopped and not was:
            self._observe(PaymentsStopped(in_a_row=in_a_row))

    def settled(self) -> None:
        """Count a payment that moved money; once stopped, only an operator ends that."""
        if self._kept.in_a_row and not self.stopped:
            self._keep(_Kept())

    def resumed(self, *, reason: str, by: str) -> None:
        """An operator had payments go on, and the store has it."""
        self._kept = _Kept()
        self._observe(PaymentsResumed(by=by, reason=reason))
        self._go_on()

    def _keep(self, kept: _Kept) -> None:
        self._kept = kept
        self._journal.submit(Put(account_id=OWN_VALUES, key=DOUBTS.key, value=asdict(kept)))


async def open_doubts(
    journal: Journal, observe: Callable[[Event], None], limit: int, go_on: Callable[[], None]
) -> Doubts:
    """Return the count as the store has it; with a limit of 0 payments are never stopped.

    `go_on` starts what was kept from being begun, once an operator has payments go on.
    """
    doubts = Doubts(journal, observe, limit, go_on)
    await doubts.look()
    return doubts

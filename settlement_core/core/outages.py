"""Has accounts tried again once the connector, or the ledger, answers again.

Each account backs off alone, up to an hour. The first success of another account after failures shows that it may be
worth trying now. An account for which it was not is tried early again ever more rarely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from settlement_core.core.lane import Lane

__all__ = ["Outage"]

WITHIN_S = 60.0
"""Within how long all accounts that wait are tried again."""

SLOWEST_S = 0.05
"""Between two of them at most; who has just come back must not be run over."""

AGAIN_S = 60.0
"""After an early try that failed, how long there is none for the account; twice as long after each further one."""

RELAPSE = 20
"""Failures in a row after which the accounts that are left go on waiting."""


class Outage:
    """The accounts of one direction that back off."""

    def __init__(self) -> None:
        self._waiting: dict[Lane, int] = {}
        """How often each was tried early since its first failure."""
        self._not_before: dict[Lane, float] = {}
        self._failures = 0
        self._over = anyio.Event()

    def failed(self, lane: Lane) -> None:
        """Count a failure after which the account backs off."""
        self._failures += 1
        self._waiting.setdefault(lane, 0)

    def succeeded(self, lane: Lane) -> None:
        """Count a success: if there were failures since the last one, it is worth trying the others."""
        self.leave(lane)
        if self._failures and self._waiting:
            self._over.set()
        self._failures = 0

    def leave(self, lane: Lane) -> None:
        """Forget an account that has nothing to try."""
        self._waiting.pop(lane, None)
        self._not_before.pop(lane, None)

    async def run(self) -> None:
        """Try accounts early, a few at a time; never returns."""
        while True:
            await self._over.wait()
            self._over = anyio.Event()
            now = anyio.current_time()
            due = [lane for lane in self._waiting if self._not_before.get(lane, now) <= now]
            for lane in due:
                if self._failures >= RELAPSE:
                    break
                if self._try_early(lane):
                    await anyio.sleep(min(WITHIN_S / len(due), SLOWEST_S))
            await anyio.sleep(SLOWEST_S)

    def _try_early(self, lane: Lane) -> bool:
        tries = self._waiting.get(lane)
        if tries is None or lane.next_try is None:
            return False
        self._waiting[lane] = tries + 1
        self._not_before[lane] = anyio.current_time() + AGAIN_S * 2.0 ** min(tries, 16)
        lane.nudge()
        return True

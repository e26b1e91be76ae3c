"""Limits how many accounts a recovery takes up at a time, without waiting for those that hang."""

from __future__ import annotations

import anyio

__all__ = ["Admission"]

AT_ONCE = 500
"""Accounts looked at together: enough to fill the journal's batches, few enough that requests get in."""

HELD_S = 2.0
"""An account that has neither ended nor come to rest for so long takes up no place any more."""


class Admission:
    """The accounts of one direction that a recovery has taken up, the oldest first."""

    def __init__(self) -> None:
        self._inside: dict[object, float] = {}
        self._left = anyio.Event()

    async def wait(self) -> None:
        """Wait until there is room for one more."""
        while len(self._inside) >= AT_ONCE:
            oldest = next(iter(self._inside))
            overdue_at = self._inside[oldest] + HELD_S
            with anyio.CancelScope(deadline=overdue_at):
                self._left = anyio.Event()
                await self._left.wait()
            if anyio.current_time() >= overdue_at:
                self._inside.pop(oldest, None)

    def enter(self, account: object) -> None:
        """Count one more."""
        self._inside[account] = anyio.current_time()

    def leave(self, account: object) -> None:
        """Count it no longer, if it was counted."""
        if self._inside.pop(account, None) is not None:
            self._left.set()

"""Tells whether this process stood still: stopped, suspended, swapped out, or its loop blocked.

What clients did meanwhile is still unread then, and they may have left: a request that is read after a stall is not
yet a request that is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from anyio.lowlevel import current_token

__all__ = ["Stalls"]

BEAT_S = 0.25
"""How often the loop is called: often enough for the shortest stall to be seen, rarely enough to cost nothing."""

STALL_S = 1.0
"""No call for that long is a stall. Connectors give up after five seconds, so a shorter one has lost no client."""

RECENT_S = 10.0
"""For so long after a stall requests may come that were sent before its end: a thousand connections take a while."""


class Stalls:
    """Has a thread call the loop it is made on: the loop's clock alone cannot tell a stall from having no work.

    The thread ends with its loop.
    """

    def __init__(self) -> None:
        self._beat_at = monotonic()
        self._ended_at = -RECENT_S
        loop: Any = current_token().native_token
        soon: Callable[[Callable[[], None]], object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        threading.Thread(target=self._run, args=(soon,), name="settlement_core stalls", daemon=True).start()

    def is_recent(self) -> bool:
        """Tell whether this process has just stood still; to be asked on its loop."""
        # a request may run before the thread that stood still, too
        self._look()
        return monotonic() - self._ended_at < RECENT_S

    def _run(self, soon: Callable[[Callable[[], None]], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            while True:
                sleep(BEAT_S)
                soon(self._beat)

    def _beat(self) -> None:
        self._look()
        self._beat_at = monotonic()

    def _look(self) -> None:
        now = monotonic()
        if now - self._beat_at > STALL_S:
            self._ended_at = now

"""What signals mean to a server: the first one ends it in order, the second at once, at any moment of its life."""

from __future__ import annotations

import logging
import signal
import sys

import anyio

from settlement_core.cli.notify import STOPPING, notify_service_manager
from settlement_core.cli.workers import Bell

__all__ = ["EarlySignals", "watch_signals"]

logger = logging.getLogger("settlement_core")


class EarlySignals:
    """Obeys signals until the loop does: the first process of a container ends by none that it does not handle."""

    def __init__(self) -> None:
        self._kept: int | None = None
        self._keeps = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._obey)
        # nothing has been read yet that could be read again
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def keep(self) -> None:
        """From now on keep a signal for the loop, which begins."""
        self._keeps = True

    def take(self) -> int | None:
        """Return the signal that was kept, if any."""
        return self._kept

    def _obey(self, number: int, _frame: object) -> None:
        if self._keeps:
            self._kept = number
            return
        # nothing has begun, so nothing has to end
        logger.info("%s: not started", signal.Signals(number).name)
        sys.exit(0)


async def watch_signals(stop: anyio.Event, again: Bell, scope: anyio.CancelScope, early: EarlySignals) -> None:
    """Stop at the first signal, cancel at the second; SIGHUP has files read again."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        if early.take() is not None:
            stop.set()
        async for number in signals:
            if number == signal.SIGHUP:
                logger.info("SIGHUP: reading certificates and tokens again")
                again.ring()
                continue
            if stop.is_set():
                logger.warning("%s again: stopping at once", signal.Signals(number).name)
                scope.cancel()
                return
            logger.info("%s: shutting down", signal.Signals(number).name)
            notify_service_manager(STOPPING)
            stop.set()

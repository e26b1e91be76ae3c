"""Between the core and its observer: nobody who only listens may stop a payment."""

from __future__ import annotations

import logging

from settlement_core.abc import Observer
from settlement_core.values.events import Event

__all__ = ["Bulletin"]

logger = logging.getLogger("settlement_core")


class Bulletin:
    """Tells one observer, or none. An observer that raises breaks its duty; that is logged, and settling goes on."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer

    def observe(self, event: Event) -> None:
        """Pass the event on."""
        if self._observer is None:
            return
        try:
            self._observer.observe(event)
        except Exception:
            logger.exception("observer %r failed on: %s", self._observer, event)

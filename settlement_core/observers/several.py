"""One event for several observers: each hears every event, whatever becomes of the others."""

from __future__ import annotations

import logging

from settlement_core.abc import Observer
from settlement_core.values.events import Event

__all__ = ["SeveralObservers"]

logger = logging.getLogger("settlement_core")


class SeveralObservers:
    """Tells each observer in order. One that raises is logged, and the next ones still hear of the event."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def __repr__(self) -> str:
        return f"<SeveralObservers {', '.join(map(repr, self._observers))}>"

    def observe(self, event: Event) -> None:
        """Pass the event on to all."""
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception:
                logger.exception("observer %r failed on: %s", observer, event)

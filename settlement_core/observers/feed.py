"""The latest events, for whoever follows them: kept once for all, however many listen and however slowly they read.

A listener is a place in what is kept, and nothing else. One whose place is no longer kept has missed something, which
it is told instead of what it missed: it has to look at the books again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio

from settlement_core.values.events import Event

__all__ = ["MAX_KEPT", "EventFeed"]

MAX_KEPT: Final = 2000
"""Events: some seconds of a busy server, or hours of a quiet one, for less than a megabyte."""


class EventFeed:
    """An `Observer` that keeps the latest events, numbered, until `close`.

    Args:
        max_kept: how many.
        now: the wall clock, seconds since 1970.
    """

    def __init__(self, *, max_kept: int = MAX_KEPT, now: Callable[[], float] = time.time) -> None:
        self._kept: deque[_Kept] = deque(maxlen=max_kept)
        self._now = now
        self._run = uuid.uuid4().hex[:12]
        self._news: anyio.Event | None = None
        self.last = 0
        """The number of the latest event."""
        self.closed = False

    def __repr__(self) -> str:
        return f"<EventFeed {len(self._kept)} of {self.last} events kept{', closed' if self.closed else ''}>"

    def observe(self, event: Event) -> None:
        """Keep the event, and wake who waits for one."""
        self.last += 1
        self._kept.append(_Kept(self.last, self._now(), event))
        self._wake()

    def close(self) -> None:
        """Have every listener end, and take no more."""
        self.closed = True
        self._wake()

    def name(self, number: int) -> str:
        """Return what a listener shows to go on behind an event: a number alone would also fit another run's."""
        return f"{self._run}-{number}"

    def number(self, name: str) -> int | None:
        """Return the number of an event by its name; None if it is none of this run."""
        run, _, digits = name.partition("-")
        if run != self._run or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            return None
        return int(digits)

    def after(self, number: int, limit: int) -> list[tuple[int, str, bytes]] | None:
        """Return number, type and JSON of the next events behind one, `limit` at most; None if some are gone."""
        missing = self.last - number
        if not 0 <= missing <= len(self._kept):
            return None
        first = len(self._kept) - missing
        found = [self._kept[place] for place in range(first, min(first + limit, len(self._kept)))]
        return [(kept.number, type(kept.event).__name__, kept.to_json()) for kept in found]

    async def wait(self, number: int) -> None:
        """Wait until there is an event behind this one, or no more will come."""
        while self.last <= number and not self.closed:
            if self._news is None:
                self._news = anyio.Event()
            await self._news.wait()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


class _Kept:
    """An event, written down when the first listener reads it."""

    __slots__ = ("_json", "at", "event", "number")

    def __init__(self, number: int, at: float, event: Event) -> None:
        self.number = number
        self.at = at
        self.event = event
        self._json: bytes | None = None

    def to_json(self) -> bytes:
        """Return what the log says in JSON: when, how grave, what, and the event's facts. It holds no line break."""
        if self._json is None:
            content = {
                "time": round(self.at, 3),
                "level": self.event.level,
                "text": str(self.event),
                "event": type(self.event).__name__,
                **self.event.facts(),
            }
            self._json = json.dumps(content, default=str).encode()
        return self._json

"""`GET /events`: what happens, as it happens, as server-sent events (WHATWG HTML, "Server-sent events").

Each event has an id. Who comes back with the last one it saw, as `Last-Event-ID`, gets what came since; who cannot be
given all of it, a newcomer included, is first sent `resync`: look at the books again. So a client has one rule for its
start, for a broken connection, for a server that was restarted, and for its own slowness.
"""

from __future__ import annotations

from typing import Final, Self

import anyio
from quart import Quart, Response, request
from quart.wrappers.response import ResponseBody

from settlement_core.http.answering import answering, response_of
from settlement_core.http.responses import problem_of
from settlement_core.observers.feed import EventFeed
from settlement_core.values.errors import ShuttingDown

__all__ = ["HEARTBEAT_S", "MAX_LISTENERS", "add_events"]

HEARTBEAT_S: Final = 10.0
"""How long nothing may be said: then a comment is, for those between us who forget silent connections."""

MAX_LISTENERS: Final = 32
"""At once; less than the connections of the operator's API, so that listeners never keep out who acts."""

RETRY_MS: Final = 2000
"""How long a client waits until it comes back, unless it knows better."""

_AT_ONCE: Final = 100
"""Events sent in one part: a slow reader has at most so many on the way to it."""

_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would keep events until it has a page of them
}


def add_events(app: Quart, feed: EventFeed) -> None:
    """Serve what the feed is told, until it is closed."""
    listeners: set[_Stream] = set()

    @app.get("/events")
    @answering()
    async def events() -> Response:
        if feed.closed:
            raise ShuttingDown
        if len(listeners) >= MAX_LISTENERS:
            return response_of(problem_of(503, f"{MAX_LISTENERS} listen already; try again later"))
        response = Response(_Stream(feed, listeners, request.headers.get("Last-Event-ID")), 200, _HEADERS)
        response.timeout = None
        return response


class _Stream(ResponseBody):
    """The body of one answer; no generator, of which a cut in the middle of a part would leave something to clean up.

    What is under way to a client is one part. If it does not read that, the connection is cut (`guarding`); if it is
    only slower than events come, its place in the feed is lost one day, and it is sent `resync`.
    """

    def __init__(self, feed: EventFeed, listeners: set[_Stream], last_id: str | None) -> None:
        self._feed = feed
        self._listeners = listeners
        self._place = None if last_id is None else feed.number(last_id)
        self._begun = False

    async def __aenter__(self) -> Self:
        self._listeners.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listeners.discard(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next part, waiting for it."""
        if not self._begun:
            self._begun = True
            return b"retry: %d\n\n" % RETRY_MS + (self._next_part() or b"")
        if self._place is not None:
            with anyio.move_on_after(HEARTBEAT_S):
                await self._feed.wait(self._place)
        if self._feed.closed:
            raise StopAsyncIteration
        return self._next_part() or b": nothing new\n\n"

    def _next_part(self) -> bytes:
        feed = self._feed
        found = None if self._place is None else feed.after(self._place, _AT_ONCE)
        if found is None:
            self._place = feed.last
            return _written(feed.name(feed.last), "resync", b"{}")
        if found:
            self._place = found[-1][0]
        return b"".join(_written(feed.name(number), kind, content) for number, kind, content in found)


def _written(name: str, kind: str, content: bytes) -> bytes:
    return f"id: {name}\nevent: {kind}\ndata: ".encode() + content + b"\n\n"

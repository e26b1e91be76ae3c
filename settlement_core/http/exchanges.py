"""The requests of one connection that are under way: how many, and whether any of them is owed its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from settlement_core.http.requests import MAX_MESSAGE

__all__ = ["Exchanges"]

Message = MutableMapping[str, Any]


class Exchanges:
    """Starts the application's tasks for hypercorn's protocols, never more at once than a limit.

    A task counts until it has ended, even if its request was reset before that.
    """

    def __init__(
        self, tasks: Any, limit: int, changed: Callable[[], None], hold: Callable[[int], None] = lambda _: None
    ) -> None:
        """Start tasks in hypercorn's task group.

        `changed` is called for each change of the counts, `hold` with how many bytes more of incomplete bodies are
        held.
        """
        self.alive = 0
        self.owed = 0
        """Requests that have arrived whole, and are not answered yet."""
        self._stopped = False
        self._tasks = tasks
        self._limit = limit
        self._changed = changed
        self.hold = hold
        self._ended = anyio.Event()

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Start a task of the protocol's own."""
        self._tasks.spawn(function, *args)

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Message | None], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Start the application for a request, once there is room for it; return what passes events to it."""
        while self.alive >= self._limit and not self._stopped:
            await self.wait_ended()
        if self._stopped:
            return _drop
        exchange = _Exchange(self)

        async def send_and_note(message: Message | None) -> None:
            try:
                await send(message)
            finally:
                if message is None:
                    exchange.end()
            if message is not None and message["type"] == "http.response.body" and not message.get("more_body", False):
                exchange.note_answered()

        put = await self._tasks.spawn_app(app, config, scope, send_and_note)

        async def put_and_note(event: Message) -> None:
            if event["type"] == "http.request":
                if self._stopped:
                    return
                exchange.note_part(event)
            await put(event)

        return put_and_note

    def stop(self) -> None:
        """Take nothing more from the client: what is received from now on could not be answered."""
        self._stopped = True
        self._wake()

    async def wait_ended(self) -> None:
        """Wait until a task has ended, or until nothing more is taken."""
        await self._ended.wait()

    def count(self, *, alive: int = 0, owed: int = 0) -> None:
        """Change the counts."""
        self.alive += alive
        self.owed += owed
        if alive < 0:
            self._wake()
        self._changed()

    def _wake(self) -> None:
        self._ended.set()
        self._ended = anyio.Event()


async def _drop(_event: Message) -> None:
    """Stand in for an application that was not started."""


class _Exchange:
    """One request and its answer. Refers to neither, so that both go as soon as they have ended."""

    __slots__ = ("_exchanges", "_held", "_owed")

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._owed = False
        self._held = 0
        exchanges.count(alive=1)

    def note_part(self, event: Message) -> None:
        if event.get("more_body", False):
            # an application keeps no more of one
            more = min(len(event.get("body", b"")), MAX_MESSAGE - self._held)
            self._held += more
            self._exchanges.hold(more)
        else:
            self._release()
            self._owed = True
            self._exchanges.count(owed=1)

    def note_answered(self) -> None:
        if self._owed:
            self._owed = False
            self._exchanges.count(owed=-1)

    def end(self) -> None:
        self._release()
        owed, self._owed = self._owed, False
        self._exchanges.count(alive=-1, owed=-owed)

    def _release(self) -> None:
        self._exchanges.hold(-self._held)
        self._held = 0

"""The open connections of one API in bounds: how many there are, and which one makes room for another.

A connection whose request has arrived whole is never closed to make room before its answer was sent: its client would
have to ask again, and a connector that does so under a new key owes twice.
"""

from __future__ import annotations

from typing import Protocol

import anyio

from settlement_core.http.tally import Tally

__all__ = ["SEND_S", "Connection", "Connections"]

SEND_S = 20.0
"""How long a client may leave unread what is sent to it; every part of an answer is at most some hundred kilobytes."""

STALLED_S = 5.0
"""How long, where its connection is needed for another client."""

SWEEP_S = 1.0
"""How often we look for those who do not read, or do not send."""

MAX_HELD = 16 * 1024 * 1024
"""Bytes of bodies that have not arrived whole, of all connections."""


class Connection(Protocol):
    """A connection, as the crowd of them sees it."""

    def cut(self) -> None:
        """Close the socket, whatever uses it."""
        ...

    def is_writing(self) -> bool:
        """Return whether a part of an answer has not been sent yet."""
        ...

    def unread_since(self, sweep: int) -> int:
        """Return since which sweep something has waited for the client to read it; `sweep` if nothing has."""
        ...


class Connections:
    """The open connections of one API."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sweeps = 0
        # of each, those that have been in it for longest come first. With the sweep since which no request is under
        # way; None: one is, or not even TLS is agreed yet
        self._sending: dict[Connection, int | None] = {}
        self._idle: dict[Connection, int | None] = {}
        self._owed: dict[Connection, int | None] = {}
        self._held = 0
        self.floods = Tally("%d connections were closed for a flood, the last for %s")
        self.broken = Tally("%d connections broke and were closed, the last for %s")

    def __repr__(self) -> str:
        counts = f"{len(self._sending)} sending, {len(self._idle)} idle and {len(self._owed)} owed an answer"
        return f"<Connections: {counts}, at most {self.limit}>"

    def __len__(self) -> int:
        return len(self._sending) + len(self._idle) + len(self._owed)

    def enter(self, connection: Connection) -> bool:
        """Count a new connection; return False if there is no room for it.

        Room is made by closing the connection that has been sending its request for longest, else the longest idle
        one, else one whose client does not read.
        """
        if len(self) >= self.limit:
            leaving = self._find_leaving()
            if leaving is None:
                return False
            self.leave(leaving)
            leaving.cut()
        self._sending[connection] = None
        return True

    def _find_leaving(self) -> Connection | None:
        for connection in [*self._sending, *self._idle]:
            if not connection.is_writing():
                return connection
        for connection in [*self._owed, *self._idle]:
            if (self.sweeps - connection.unread_since(self.sweeps)) * SWEEP_S > STALLED_S:
                return connection
        return None

    def leave(self, connection: Connection) -> None:
        """Count it no longer."""
        for place in (self._sending, self._idle, self._owed):
            place.pop(connection, None)

    def note_idle(self, connection: Connection) -> None:
        """Remember that no request is under way."""
        self._move(connection, self._idle, self.sweeps)

    def note_begun(self, connection: Connection) -> None:
        """Remember that an idle connection begins a request; its head is due as long after the last as before."""
        if connection in self._idle:
            self._move(connection, self._sending, self._idle[connection])

    def note_sending(self, connection: Connection) -> None:
        """Remember that a request is under way, and none is owed its answer."""
        self._move(connection, self._sending, None)

    def note_owed(self, connection: Connection) -> None:
        """Remember that a request has arrived whole."""
        self._move(connection, self._owed, None)

    def _move(self, connection: Connection, place: dict[Connection, int | None], since: int | None) -> None:
        for other in (self._sending, self._idle, self._owed):
            if connection in other:
                if other is not place:
                    del other[connection]
                place[connection] = since
                return

    def note_held(self, length: int) -> None:
        """Count bytes of bodies that have not arrived whole. Above a bound, those who send for longest are closed."""
        self._held += length
        while length > 0 and self._held > MAX_HELD and self._sending:
            leaving = next(iter(self._sending))
            self.leave(leaving)
            leaving.cut()

    def cut(self) -> None:
        """Close all of them, whatever they are doing."""
        for connection in [*self._sending, *self._idle, *self._owed]:
            connection.cut()

    async def run_sweeps(self, idle_s: float) -> None:
        """Close those to which we have been sending in vain for too long, or that are idle for longer; for ever."""
        while True:
            await anyio.sleep(SWEEP_S)
            self.sweeps += 1
            for connection, since in [*self._sending.items(), *self._idle.items(), *self._owed.items()]:
                unread_s = (self.sweeps - connection.unread_since(self.sweeps)) * SWEEP_S
                idle = since is not None and (self.sweeps - since) * SWEEP_S > idle_s
                if unread_s > SEND_S or (idle and not connection.is_writing()):
                    connection.cut()

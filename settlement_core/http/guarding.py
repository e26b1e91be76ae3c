"""Connections in bounds: never more than a limit, and none that waits for ever for a client that does not read.

Hypercorn bounds what a client sends: the head of a request by its `keep_alive_timeout`, a handshake by its
`ssl_handshake_timeout`. But what it sends it shields from every deadline, its own shutdown included; and over HTTP/2
it waits for a client that opens no window for its answer, even when that client has gone. The first of these bounds is
kept by sweeps instead: hypercorn begins and ends a task for it with every request, a fifth of what a request costs.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable
from typing import Any

import anyio
import sniffio
from hypercorn.events import Closed, RawData, Updated

__all__ = ["Connections", "guard_hypercorn"]

SEND_S = 20.0
"""How long a client may leave unread what is sent to it; every part of an answer is at most some hundred kilobytes."""

SWEEP_S = 1.0
"""How often we look for those who do not read, or do not send."""


class Connections:
    """The open connections of one API."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sweeps = 0
        # those on which nothing has happened for longest come first, with the sweep since which; None: not even TLS yet
        self._idle: dict[_Guarded, int | None] = {}
        self._busy: dict[_Guarded, None] = {}

    def __repr__(self) -> str:
        return f"<Connections: {len(self._idle)} idle and {len(self._busy)} busy, at most {self.limit}>"

    def enter(self, connection: _Guarded) -> None:
        """Count a new connection. If it is one too many, the longest idle has to go, or else the longest busy.

        Requests take milliseconds: what has been busy for longest is a client that is slow to send or to read.
        """
        if len(self._idle) + len(self._busy) >= self.limit:
            leaving = next(iter(self._idle or self._busy))
            self.leave(leaving)
            leaving.cut()
        self._idle[connection] = None

    def leave(self, connection: _Guarded) -> None:
        """Count it no longer."""
        self._idle.pop(connection, None)
        self._busy.pop(connection, None)

    def note(self, connection: _Guarded, *, idle: bool) -> None:
        """Remember whether a request is under way."""
        if connection in self._idle or connection in self._busy:
            self.leave(connection)
            if idle:
                self._idle[connection] = self.sweeps
            else:
                self._busy[connection] = None

    def is_idle(self, connection: _Guarded) -> bool:
        """Tell whether no request is under way."""
        return connection in self._idle

    def cut(self) -> None:
        """Close all of them, whatever they are doing."""
        for connection in [*self._idle, *self._busy]:
            connection.cut()

    async def run_sweeps(self, idle_s: float) -> None:
        """Close those to which we have been sending in vain for too long, or that are idle for longer; for ever."""
        while True:
            await anyio.sleep(SWEEP_S)
            self.sweeps += 1
            for connection in [*self._idle, *self._busy]:
                unread_s = (self.sweeps - connection.unread_since(self.sweeps)) * SWEEP_S
                since = self._idle.get(connection)
                if unread_s > SEND_S or (since is not None and (self.sweeps - since) * SWEEP_S > idle_s):
                    connection.cut()


def guard_hypercorn() -> None:
    """Have hypercorn, for the loop that runs, obey the `connections` of its settings, if they have any."""
    runner: Any = importlib.import_module(f"hypercorn.{sniffio.current_async_library()}.run")
    if not issubclass(runner.TCPServer, _Guarded):
        # where hypercorn looks it up: it offers no other way
        runner.TCPServer = type("GuardedTCPServer", (_Guarded, runner.TCPServer), {})


class _Idle:
    """Stands in for what hypercorn begins when a connection gets idle, and stops when a request comes.

    Sweeps do the counting; only for the end of the server a task waits, one for the whole connection.
    """

    def __init__(self, connection: _Guarded, task: Any) -> None:
        self._connection = connection
        self._task = task
        self._begun = False

    async def restart(self, task_group: Any, _action: object) -> None:
        if not self._begun:
            # from now on the first request's head is due
            self._begun = True
            self._connection.note(idle=True)
            await self._task.restart(task_group, self._connection.end_with_server)

    async def stop(self) -> None:
        pass

    async def end(self) -> None:
        await self._task.stop()


class _Guarded:
    """Mixed into hypercorn's class for a connection."""

    config: Any
    context: Any
    idle_task: Any
    protocol: Any

    _connections: Connections | None = None
    _was_cut = False
    _sending = 0
    _sending_since = 0
    """The sweep since which we have been sending the same: nothing is as cheap as a clock that others turn."""

    async def run(self) -> None:
        parent: Any = super()
        connections = self._connections = getattr(self.config, "connections", None)
        if connections is None:
            await parent.run()
            return
        self.idle_task = _Idle(self, self.idle_task)
        self._backlog_since: dict[int, int] = {}
        connections.enter(self)
        try:
            await parent.run()
        except Exception:
            if not self._was_cut:
                raise
        finally:
            connections.leave(self)

    def cut(self) -> None:
        """Close the socket under all that uses it, which ends as when a client is gone."""
        self._was_cut = True
        me: Any = self
        if hasattr(me, "writer"):
            me.writer.transport.abort()
        else:
            getattr(me.stream, "transport_stream", me.stream).socket.close()

    def note(self, *, idle: bool) -> None:
        """Remember whether a request is under way."""
        if self._connections is not None:
            self._connections.note(self, idle=idle)

    async def end_with_server(self) -> None:
        """Close an idle connection once the server ends; others are closed when they have been answered."""
        await self.context.terminated.wait()
        me: Any = self
        if self._connections is not None and self._connections.is_idle(self):
            await me._initiate_server_close()  # noqa: SLF001 - what we stand in for

    def unread_since(self, sweep: int) -> int:
        """Return since which sweep something has waited for the client to read it; `sweep`, this one, if nothing has.

        Over HTTP/2 that is one stream's backlog: each answer has a window of its own.
        """
        waiting = [number for number, buffer in self._buffers().items() if buffer.buffer]
        self._backlog_since = {number: self._backlog_since.get(number, sweep) for number in waiting}
        return min([sweep, *self._backlog_since.values(), *([self._sending_since] if self._sending else [])])

    async def protocol_send(self, event: Any) -> None:
        parent: Any = super()
        connections = self._connections
        if connections is not None:
            if isinstance(event, Updated):
                self.note(idle=event.idle)
            elif isinstance(event, RawData) and not event.data:
                return  # the end of a body whose length was told
        if isinstance(event, Closed):
            # an app is cancelled when its request has ended, maybe here in the middle of closing the connection, which
            # would then stay open
            with anyio.move_on_after(SEND_S, shield=True):
                await self._send(parent.protocol_send(event))
        else:
            await self._send(parent.protocol_send(event))

    async def _close(self) -> None:
        parent: Any = super()
        await self._send(parent._close())  # noqa: SLF001 - what we stand in for

    async def _send(self, sending: Awaitable[None]) -> None:
        connections = self._connections
        self._sending += 1
        if connections is not None and self._sending == 1:
            self._sending_since = connections.sweeps
        try:
            await sending
        finally:
            self._sending -= 1
            if connections is not None:
                self._sending_since = connections.sweeps

    async def _read_data(self) -> None:
        parent: Any = super()
        await parent._read_data()  # noqa: SLF001 - what we stand in for
        if self._connections is not None:
            # the client is gone: there is nothing to wait for any more, nor any window that could open
            await self.idle_task.end()
        for buffer in list(self._buffers().values()):
            await buffer.close()

    def _buffers(self) -> dict[int, Any]:
        """Return what HTTP/2 clients have not opened windows for, by stream."""
        protocol = getattr(getattr(self, "protocol", None), "protocol", None)
        return getattr(protocol, "stream_buffers", {})

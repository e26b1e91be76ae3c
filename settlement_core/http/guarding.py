"""Hypercorn's connections, held to the bounds of `Connections` and of `Protocols`.

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
from anyio.lowlevel import checkpoint
from hypercorn.events import Closed, RawData, Updated

from settlement_core.http.crowding import SEND_S, Connections
from settlement_core.http.exchanges import Exchanges
from settlement_core.http.frames import Flood
from settlement_core.http.protocols import Protocols

__all__ = ["guard_hypercorn"]

SLICE = 8 * 1024
"""Bytes of one connection that are parsed until others have a turn."""


def guard_hypercorn() -> None:
    """Have hypercorn, for the loop that runs, obey the `connections` of its settings, if they have any."""
    library = f"hypercorn.{sniffio.current_async_library()}"
    runner: Any = importlib.import_module(f"{library}.run")
    if not issubclass(runner.TCPServer, _Guarded):
        # where hypercorn looks them up: it offers no other way
        facts: dict[str, Any] = {}
        if library.endswith("trio"):
            trio: Any = importlib.import_module("trio")
            facts["broken"] = (trio.BrokenResourceError, trio.ClosedResourceError)
        runner.TCPServer = type("GuardedTCPServer", (_Guarded, runner.TCPServer), facts)
        module: Any = importlib.import_module(f"{library}.tcp_server")
        usual = module.ProtocolWrapper

        def choose(app: Any, config: Any, context: Any, tasks: Any, *rest: Any) -> Any:
            # the last but one is what the protocol sends by: a method of the connection
            connection: Any = rest[-2].__self__
            if getattr(config, "connections", None) is None:
                return usual(app, config, context, tasks, *rest)
            return Protocols(app, config, context, connection.exchanges_in(tasks), *rest)

        module.ProtocolWrapper = choose


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
            self._connection.note_changed()
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
    send_lock: Any

    broken: tuple[type[Exception], ...] = (OSError,)
    """What reading raises when the client is gone."""

    _connections: Connections | None = None
    _exchanges: Exchanges | None = None
    _ending = False
    """Whether nothing more is read."""
    _was_cut = False
    _writing = 0
    _writing_since = 0
    """The sweep since which we have been sending the same: nothing is as cheap as a clock that others turn."""

    async def run(self) -> None:
        parent: Any = super()
        connections = self._connections = getattr(self.config, "connections", None)
        if connections is None:
            await parent.run()
            return
        self.idle_task = _Idle(self, self.idle_task)
        self._backlog_since: dict[int, int] = {}
        me: Any = self
        if hasattr(me, "reader"):
            # asyncio would read 256 KiB at once, and 128 KiB ahead; it offers no other way to bound it
            me.writer.transport.max_size = me.reader._limit = SLICE  # noqa: SLF001
        if not connections.enter(self):
            self.cut()
            return
        try:
            await parent.run()
        except Exception:
            if not self._was_cut:
                raise
        finally:
            connections.leave(self)
            # they refer to each other; what the client sent goes with them, without the garbage collector
            broken = me.reader.exception() if hasattr(me, "reader") else None
            while broken is not None:
                broken.__traceback__ = None
                broken = broken.__context__
            if "protocol" in self.__dict__:
                self.protocol.forget()
            for name in ("idle_task", "protocol", "_exchanges"):
                self.__dict__.pop(name, None)

    def exchanges_in(self, tasks: Any) -> Exchanges:
        """Return what starts the application for each request."""
        self._exchanges = Exchanges(tasks, self.config.h2_max_concurrent_streams, self.note_changed, self.note_held)
        return self._exchanges

    def note_changed(self) -> None:
        """Take the place among the connections that belongs to the requests under way."""
        connections, exchanges = self._connections, self._exchanges
        if connections is None or exchanges is None:
            return
        if exchanges.owed:
            connections.note_owed(self)
        elif exchanges.alive:
            connections.note_sending(self)
        else:
            connections.note_idle(self)

    def note_held(self, length: int) -> None:
        """Count bytes of bodies that have not arrived whole; fewer, if `length` is negative."""
        if self._connections is not None:
            self._connections.note_held(length)

    def _stop(self) -> None:
        """Read nothing more, and take nothing of what was read."""
        self._ending = True
        if self._exchanges is not None:
            self._exchanges.stop()

    def cut(self) -> None:
        """Close the socket under all that uses it, which ends as when a client is gone."""
        self._was_cut = True
        self._stop()
        me: Any = self
        if hasattr(me, "writer"):
            me.writer.transport.abort()
        else:
            getattr(me.stream, "transport_stream", me.stream).socket.close()

    async def end_with_server(self) -> None:
        """Close an idle connection once the server ends; others are closed when they have been answered."""
        await self.context.terminated.wait()
        me: Any = self
        if self._exchanges is not None and not self._exchanges.alive:
            await me._initiate_server_close()  # noqa: SLF001 - what we stand in for

    def unread_since(self, sweep: int) -> int:
        """Return since which sweep something has waited for the client to read it; `sweep`, this one, if nothing has.

        Over HTTP/2 that is one stream's backlog: each answer has a window of its own.
        """
        waiting = [number for number, buffer in self._buffers().items() if buffer.buffer]
        self._backlog_since = {number: self._backlog_since.get(number, sweep) for number in waiting}
        return min([sweep, *self._backlog_since.values(), *([self._writing_since] if self._writing else [])])

    def _is_gone(self) -> bool:
        """Return whether asyncio knows that the client is gone; it would log each further attempt to write."""
        me: Any = self
        return hasattr(me, "writer") and bool(me.writer.transport.is_closing())

    def is_writing(self) -> bool:
        """Return whether a part of an answer has not been sent yet."""
        me: Any = self
        return self._writing > 0 or (hasattr(me, "writer") and me.writer.transport.get_write_buffer_size() > 0)

    async def protocol_send(self, event: Any) -> None:
        parent: Any = super()
        if self._connections is None:
            await parent.protocol_send(event)
        elif isinstance(event, Closed):
            self._stop()
            # an app is cancelled when its request has ended, maybe here in the middle of closing the connection, which
            # would then stay open
            with anyio.move_on_after(SEND_S, shield=True):
                async with self.send_lock:  # trio refuses to close in the middle of sending
                    await self._write(parent.protocol_send(event))
        elif self._was_cut or self._is_gone():
            await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            if event.idle and self.context.terminated.is_set():
                me: Any = self
                await me._initiate_server_close()  # noqa: SLF001 - what we stand in for
        elif not isinstance(event, RawData) or event.data:  # else the end of a body whose length was told
            await self._write(parent.protocol_send(event))

    async def _close(self) -> None:
        parent: Any = super()
        await self._write(parent._close())  # noqa: SLF001 - what we stand in for

    async def _write(self, writing: Awaitable[None]) -> None:
        connections = self._connections
        self._writing += 1
        if connections is not None and self._writing == 1:
            self._writing_since = connections.sweeps
        try:
            await writing
        finally:
            self._writing -= 1
            if connections is not None:
                self._writing_since = connections.sweeps

    async def _read_data(self) -> None:
        parent: Any = super()
        connections, exchanges = self._connections, self._exchanges
        if connections is None or exchanges is None:
            await parent._read_data()  # noqa: SLF001 - what we stand in for
            return
        try:
            while not self._ending:
                data = await self._receive()
                if data is None or self._ending:
                    break
                await self.protocol.handle(RawData(data))
                if not data:
                    break
                if not exchanges.alive and self.protocol.protocol.is_partial():
                    connections.note_begun(self)
                if len(data) == SLICE:
                    await checkpoint()
        except Flood as flood:
            await self._end_flood(connections, exchanges, str(flood))
        await self.protocol.handle(Closed())
        # there is nothing to wait for any more, nor any window that could open
        await self.idle_task.end()
        for buffer in list(self._buffers().values()):
            await buffer.close()

    async def _receive(self) -> bytes | None:
        """Return what has arrived next, nothing at the end; None if the connection broke."""
        me: Any = self
        try:
            return bytes(await (me.reader.read(SLICE) if hasattr(me, "reader") else me.stream.receive_some(SLICE)))
        except self.broken:
            return None

    async def _end_flood(self, connections: Connections, exchanges: Exchanges, reason: str) -> None:
        """Read nothing more; close once the requests that have arrived whole are answered."""
        self._stop()
        connections.floods.note(reason)
        while exchanges.owed:
            await exchanges.wait_ended()
        with anyio.move_on_after(SEND_S):
            await self.protocol.protocol.calm()
        await self.protocol_send(Closed())

    def _buffers(self) -> dict[int, Any]:
        """Return what HTTP/2 clients have not opened windows for, by stream."""
        protocol = getattr(getattr(self, "protocol", None), "protocol", None)
        return getattr(protocol, "stream_buffers", {})

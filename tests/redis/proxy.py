"""A network between a client and its server that fails on request, to the command.

`TcpProxy` reads the Redis protocol (without TLS) just far enough to know where each command and each reply ends. So a
fault strikes exactly the command it is meant for, however the bytes were cut into segments.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Self

from tests.redis.frames import Frames, name_of
from tests.redis.servers import HOST, reserve_port

__all__ = ["HANDSHAKE", "TcpProxy"]

HANDSHAKE = frozenset({b"HELLO", b"AUTH", b"SELECT", b"CLIENT", b"PING"})
"""What clients say of their own accord when they connect, or to keep a connection alive; for `uncounted`."""

_WAIT_S = 10.0
_BURST_GAP_S = 0.02
"""A client that was silent this long, with all its commands answered, has sent the whole of its burst."""

_LINGER_S = 5.0
"""How long a client is given to read what was delivered, and to close, before its connection is reset."""

Loss = Literal["request", "reply", "burst"]


class _Outbox:
    """What is still to be written to a socket, and when."""

    def __init__(self, sink: socket.socket) -> None:
        self._sink = sink
        self._waiting: deque[tuple[float, bytes]] = deque()

    def put(self, data: bytes, delay_s: float) -> None:
        self._waiting.append((time.monotonic() + delay_s, data))

    @property
    def due_s(self) -> float | None:
        """When there is something to write next; None if there is nothing."""
        return self._waiting[0][0] if self._waiting else None

    def flush(self) -> bool:
        """Write what is due and fits; return whether it is waiting for the socket to take more."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            due_s, data = self._waiting[0]
            try:
                written = self._sink.send(data)
            except BlockingIOError:
                return True
            except OSError:
                # Whoever should read it is gone; its own side of the connection says so.
                self._waiting.clear()
                return False
            if written < len(data):
                self._waiting[0] = (due_s, data[written:])
            else:
                self._waiting.popleft()
        return False


class _Connection:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.requests, self.replies = Frames(), Frames()
        self.to_client, self.to_server = _Outbox(client), _Outbox(server)
        self.forwarded = self.answered = 0
        self.deliverable: int | None = None
        """How many replies the client still gets to see, once a fault has struck; the server's work ends with it."""
        self.loss: Loss | None = None
        self.heard_at_s = 0.0
        self.client_ended = self.server_ended = self.half_closed = False
        self.lingers_until_s: float | None = None

    def sockets(self, now_s: float) -> Iterator[tuple[socket.socket, int]]:
        """Yield what to wait for."""
        if self.lingers_until_s is not None:
            yield self.client, select.POLLIN
            return
        for sock, ended, outbox in (
            (self.client, self.client_ended, self.to_client),
            (self.server, self.server_ended, self.to_server),
        ):
            due_s = outbox.due_s
            writes = due_s is not None and due_s <= now_s
            events = (0 if ended else select.POLLIN) | (select.POLLOUT if writes else 0)
            if events:
                yield sock, events

    def done_by_fault(self) -> bool:
        """Tell whether the fault that struck has run its course: what the server was to execute, it has."""
        if self.loss is None or self.answered < self.forwarded:
            return False
        return self.loss != "burst" or time.monotonic() >= self.heard_at_s + _BURST_GAP_S

    def wakes_at(self, now_s: float) -> Iterator[float]:
        """Yield when it needs attention though nothing arrives."""
        if self.lingers_until_s is not None:
            yield self.lingers_until_s
            return
        yield from (due for due in (self.to_client.due_s, self.to_server.due_s) if due is not None and due > now_s)
        if self.loss == "burst" and self.answered == self.forwarded:
            yield self.heard_at_s + _BURST_GAP_S


class TcpProxy:
    """A proxy before a server, with faults that are switched on while it runs.

    One thread owns all its state; the methods hand it a change and return when that is in effect, so that a test's next
    command meets it. Only one loss can be armed at a time; it strikes once, and then the proxy forwards again.
    Use it as a context manager.

    Args:
        target_host: The server's host.
        target_port: The server's port.
        uncounted: Names of commands, in upper case, that losses do not count, such as `HANDSHAKE`.
        unix: Where it listens on a Unix socket, instead of on its port.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        uncounted: frozenset[bytes] = frozenset(),
        unix: Path | None = None,
    ) -> None:
        self.port, self._claim = reserve_port()
        self.connections = 0
        """How many connections were accepted so far, refused ones not included."""
        self.commands = 0
        """How many commands arrived so far, uncounted ones not included."""
        self.dropped_replies = 0
        """How many replies the server gave that no client was shown."""
        self._target = (target_host, target_port)
        self._uncounted = uncounted
        if unix is None:
            self._listener = socket.create_server((HOST, self.port), backlog=100)
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(unix))
            self._listener.listen(100)
        self._listener.setblocking(False)
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._calls: deque[tuple[Callable[[], object], threading.Event]] = deque()
        self._open: dict[int, _Connection] = {}
        self._loss: tuple[Loss, int] | None = None
        self._refusing = self._stalled = self._closing = False
        self._request_delay_s = self._reply_delay_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"proxy of port {target_port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """The proxy's host and port."""
        return f"{HOST}:{self.port}"

    def url(self, db: int = 0) -> str:
        """Return the URL of one of the server's databases by way of the proxy."""
        return f"redis://{self.address}/{db}"

    @property
    def armed(self) -> bool:
        """Whether a loss was asked for that has not struck yet."""
        return self._loss is not None

    def lose_reply_of(self, command_number: int) -> None:
        """Let the server execute one more command to come, the first is 1, and lose its reply and the connection.

        Commands are counted over all connections. The replies before it are delivered, the commands after it on its
        connection do not reach the server, and the connection breaks when the server has answered.
        """
        self._arm("reply", command_number)

    def lose_request(self, command_number: int) -> None:
        """Lose one more command to come, the first is 1, and all after it on its connection.

        The replies of those before it are delivered; then the connection breaks.
        """
        self._arm("request", command_number)

    def drop_replies_after(self, replies: int) -> None:
        """Deliver that many more replies, and then, on the connection of the next, none any more.

        Unlike `lose_reply_of`, the whole burst is executed: the connection breaks when all is answered and the client
        has been silent for a moment.
        """
        self._arm("burst", replies + 1)

    def refuse(self) -> None:
        """Close every new connection at once; present ones go on."""
        self._call(lambda: setattr(self, "_refusing", True))

    def stall(self) -> None:
        """Accept connections, but forward nothing in either direction until `resume`."""
        self._call(lambda: setattr(self, "_stalled", True))

    def resume(self) -> None:
        """End `stall`; what has come in meanwhile is forwarded."""
        self._call(lambda: setattr(self, "_stalled", False))

    def cut(self) -> None:
        """Break all present connections now, on both sides, with whatever is under way on them."""
        self._call(self._cut)

    def delay(self, seconds: float, *, replies: bool = False) -> None:
        """Hold back every request that long from now on or, with `replies`, every reply.

        A request that is held back reaches the server even if its client has given up and gone.
        """
        self._call(lambda: setattr(self, "_reply_delay_s" if replies else "_request_delay_s", seconds))

    def pass_through(self) -> None:
        """End every fault, and take back the loss that has not struck."""
        self._call(self._reset)

    def close(self) -> None:
        """Break all connections and end."""
        if self._thread.is_alive():
            self._call(lambda: setattr(self, "_closing", True))
            self._thread.join(_WAIT_S)
        for sock in (self._listener, self._waker, self._woken, self._claim):
            sock.close()

    def _arm(self, loss: Loss, number: int) -> None:
        if number < 1:
            raise ValueError(f"commands are counted from 1, not {number}")
        self._call(lambda: setattr(self, "_loss", (loss, number)))

    def _call(self, change: Callable[[], object]) -> None:
        """Have the thread make a change; return when it is made."""
        done = threading.Event()
        self._calls.append((change, done))
        self._waker.send(b".")
        if not done.wait(_WAIT_S):
            raise RuntimeError(f"{self._thread.name} has died, or hangs")

    # From here on everything runs in the proxy's own thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                ready = self._wait()
                self._make_changes()
                if self._listener.fileno() in ready:
                    self._accept()
                if not self._stalled:
                    for connection in list(self._open.values()):
                        self._serve(connection, ready)
        finally:
            self._cut()

    def _wait(self) -> set[int]:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        now_s = time.monotonic()
        wakes: list[float] = []
        for connection in () if self._stalled else self._open.values():
            for sock, events in connection.sockets(now_s):
                poll.register(sock, events)
            wakes += connection.wakes_at(now_s)
        # A millisecond more than needed, for poll counts in them and must not wake before the time.
        timeout_ms = max(0.0, (min(wakes) - now_s) * 1000) + 1 if wakes else None
        return {number for number, _ in poll.poll(timeout_ms)}

    def _make_changes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._calls:
            change, done = self._calls.popleft()
            change()
            done.set()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._target, timeout=_WAIT_S)
            except OSError:
                _break(client)
                return
            self.connections += 1
            for sock in (client, server):
                sock.setblocking(False)
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open[client.fileno()] = _Connection(client, server)

    def _serve(self, connection: _Connection, ready: set[int]) -> None:
        if connection.client.fileno() in ready and not connection.client_ended:
            self._hear_client(connection)
        if connection.lingers_until_s is not None:
            if connection.client_ended or time.monotonic() >= connection.lingers_until_s:
                del self._open[connection.client.fileno()]
                connection.client.close()
            return
        if connection.server.fileno() in ready and not connection.server_ended:
            self._hear_server(connection)
        connection.to_server.flush()
        connection.to_client.flush()
        if connection.client_ended and not connection.half_closed and connection.to_server.due_s is None:
            # The server hears of it only after all that the client said before it left.
            connection.half_closed = True
            with contextlib.suppress(OSError):
                connection.server.shutdown(socket.SHUT_WR)
        over = connection.done_by_fault() or connection.server_ended
        if over and connection.to_client.due_s is None:
            _end(connection)

    def _hear_client(self, connection: _Connection) -> None:
        data = _receive(connection.client)
        if data is None:
            return
        connection.client_ended = not data
        connection.heard_at_s = time.monotonic()
        if connection.lingers_until_s is not None:
            return
        for command in connection.requests.feed(data):
            if not self._is_lost(connection, command):
                connection.forwarded += 1
                connection.to_server.put(command, self._request_delay_s)

    def _is_lost(self, connection: _Connection, command: bytes) -> bool:
        """Count a command, and let the loss strike if it is the one."""
        if connection.loss is not None:
            return connection.loss != "burst"
        if name_of(command) in self._uncounted:
            return False
        self.commands += 1
        if self._loss is None:
            return False
        loss, number = self._loss
        if number > 1:
            self._loss = (loss, number - 1)
            return False
        self._loss = None
        connection.loss, connection.deliverable = loss, connection.forwarded
        return loss == "request"

    def _hear_server(self, connection: _Connection) -> None:
        data = _receive(connection.server)
        if data is None:
            return
        connection.server_ended = not data
        for reply in connection.replies.feed(data):
            # What the server pushes of its own accord answers no command.
            pushed = reply.startswith(b">")
            if connection.deliverable is None or connection.answered < connection.deliverable:
                connection.to_client.put(reply, self._reply_delay_s)
            elif not pushed:
                self.dropped_replies += 1
            connection.answered += not pushed

    def _cut(self) -> None:
        for connection in self._open.values():
            _break(connection.client)
            _break(connection.server)
        self._open.clear()

    def _reset(self) -> None:
        self._loss = None
        self._refusing = self._stalled = False
        self._request_delay_s = self._reply_delay_s = 0.0


def _receive(sock: socket.socket) -> bytes | None:
    """Return what has arrived; empty if the other side has ended, and None if there is nothing after all."""
    try:
        return sock.recv(1 << 18)
    except BlockingIOError:
        # The socket that was ready has been closed since, and this one was given its number.
        return None
    except OSError:
        return b""


def _end(connection: _Connection) -> None:
    """Close a connection, the client's side only once the client has read what was delivered, and closes too.

    Closing it while the client still writes would reset it, and take back the replies that it has not read yet.
    """
    connection.server.close()
    connection.server_ended = True
    connection.lingers_until_s = time.monotonic() + (0 if connection.client_ended else _LINGER_S)
    with contextlib.suppress(OSError):
        connection.client.shutdown(socket.SHUT_WR)


def _break(sock: socket.socket) -> None:
    """Close a socket so that the other side gets a reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()

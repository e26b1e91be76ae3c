"""`serve --workers N`: several processes behind one port, which share one store, and the process that keeps them.

The parent holds the sockets that listen and decides nothing about money. Each worker is the same command again, a
server of its own, given its sockets and a line to the parent. By that line it tells where it listens, and is told to
end; when the line breaks, because the parent is gone, the worker ends in order by itself.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import Process

from settlement_core.cli.printing import say
from settlement_core.server import listen
from settlement_core.values.errors import LocalError

__all__ = ["Place", "keep_workers", "my_place"]

logger = logging.getLogger("settlement_core")

FIRST_DELAY_S = 1.0
"""How long after the end of a killed worker another takes its place; doubled each time, up to `LONGEST_DELAY_S`."""

LONGEST_DELAY_S = 30.0

SOUND_S = 60.0
"""A worker that lived so long has nothing to do with what killed those before it."""

_VARIABLE = "SETTLEMENT_WORKER_PLACE"

_STOP, _CUT, _AGAIN = b"s", b"c", b"a"

_ONE_PROCESS = ("sqlite", "memory")


class Bell:
    """Wakes whoever waits for it, as often as it is rung."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake them."""
        self._rung.set()

    async def wait(self) -> None:
        """Return once it is rung; what was rung meanwhile counts."""
        await self._rung.wait()
        self._rung = anyio.Event()


# the worker's side


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place: its sockets, and its line to the parent."""

    number: int
    listener: socket.socket
    admin_listener: socket.socket | None
    line: socket.socket

    def tell(self, **facts: str | None) -> None:
        """Tell the parent that we listen, and where."""
        # a parent that is gone is noticed by `obey`
        try:
            self.line.sendall(json.dumps(facts).encode() + b"\n")
        except OSError:
            logger.debug("the parent process does not hear us")

    async def obey(self, stop: anyio.Event, again: Bell, scope: anyio.CancelScope) -> None:
        """Set `stop` when the parent says so, or is gone; cancel the scope if it says so again.

        Ring `again` when files are to be read again.
        """
        while True:
            await anyio.wait_readable(self.line)
            try:
                said = self.line.recv(16)
            except OSError:
                said = b""
            if _CUT in said:
                scope.cancel()
                return
            if _AGAIN in said:
                again.ring()
                if _STOP not in said:
                    continue
            if not said and not stop.is_set():
                logger.warning("the parent process is gone: worker %d is shutting down", self.number)
            stop.set()
            if not said:
                return


def my_place() -> Place | None:
    """Return this process's place among workers; None if it is no worker, or was told its place before."""
    told = os.environ.pop(_VARIABLE, None)
    if told is None:
        return None
    number, *descriptors = map(int, told.split())
    sockets = [socket.socket(fileno=fd) if fd >= 0 else None for fd in descriptors]
    for mine in sockets:
        if mine is not None:
            # whether it blocks is one and the same for all who share it: Python must think so, too, when it copies it
            mine.setblocking(False)
            mine.set_inheritable(False)  # nothing an engine starts has a part in this
    listener, admin_listener, line = sockets
    assert listener is not None
    assert line is not None
    return Place(number, listener, admin_listener, line)


# the parent's side


def keep_workers(count: int, target: str, settings: dict[str, Any]) -> None:
    """Run `count` workers until SIGTERM, SIGINT or a failure; exit with their worst code."""
    scheme = settings["store"].partition(":")[0]
    if scheme in _ONE_PROCESS:
        raise LocalError(
            f"--workers {count} needs a store that several processes can use, such as --store redis://HOST:PORT; "
            f"{scheme}: is one process's"
        )
    with ExitStack() as sockets:
        listener = sockets.enter_context(listen(settings["host"], settings["port"], "--port"))
        admin: list[socket.socket] = []
        first = settings["admin_port"]
        for number in range(count if first >= 0 else 0):
            port = first + number if first else 0
            admin.append(sockets.enter_context(listen(settings["admin_host"], port, "--admin-port")))
        for shared in (listener, *admin):
            # a copy of one that blocks would have those who wait for connections block for ever, with all they do
            shared.setblocking(False)
        crew = _Crew(target, count, listener, admin)
        anyio.run(crew.run, backend=settings["backend"])
    sys.exit(crew.code())


class _Crew:
    """The workers of one parent."""

    def __init__(self, target: str, count: int, listener: socket.socket, admin: Sequence[socket.socket]) -> None:
        self._target = target
        self._count = count
        self._listener = listener
        self._admin = admin
        self._lines: dict[int, socket.socket] = {}
        self._told: dict[int, dict[str, str | None]] = {}
        self._codes: set[int] = set()
        self._stopping = anyio.Event()
        self._cut = False
        self._first_listens = anyio.Event()

    def code(self) -> int:
        """Return the worst exit code: 1, that something broke, before 2, that a setting is wrong."""
        return min(self._codes - {0}, default=0)

    async def run(self) -> None:
        """Keep all workers until they have ended."""
        async with anyio.create_task_group() as signals:
            signals.start_soon(self._watch_signals)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep, 0)
                # what is wrong with the settings, the first one says for all
                await self._first_listens.wait()
                if not self._stopping.is_set():
                    for number in range(1, self._count):
                        tasks.start_soon(self._keep, number)
            signals.cancel_scope.cancel()

    async def _watch_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                name = signal.Signals(number).name
                if number == signal.SIGHUP:
                    logger.info("SIGHUP: %d workers read certificates and tokens again", len(self._lines))
                    self._say(_AGAIN)
                elif self._stopping.is_set():
                    logger.warning("%s again: stopping at once", name)
                    self._cut = True
                    self._say(_CUT)
                else:
                    logger.info("%s: shutting down %d workers", name, len(self._lines))
                    self._stop()

    def _stop(self) -> None:
        """Have all workers end in order."""
        self._stopping.set()
        self._first_listens.set()
        # connections from now on are refused as soon as the last worker has stopped listening
        self._listener.close()
        self._say(_STOP)

    def _say(self, what: bytes) -> None:
        for line in self._lines.values():
            # one that has ended hears nothing, and need not
            try:
                line.send(what)
            except OSError:
                continue

    async def _keep(self, number: int) -> None:
        """Run a worker, and another in its place if it is killed, until all are to end."""
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            began = anyio.current_time()
            try:
                code = await self._run_worker(number)
            except OSError as problem:
                logger.error("worker %d cannot be started: %s", number, problem)  # noqa: TRY400 - the sentence will do
                code = 0
            if self._stopping.is_set() or code > 0:
                self._codes.add(code if code >= 0 else 1)
                if not self._stopping.is_set():
                    if self._lines:
                        logger.error("worker %d ended with exit code %d: shutting down the others", number, code)
                    self._stop()
                return
            if anyio.current_time() - began >= SOUND_S:
                delay_s = FIRST_DELAY_S
            how = f"was killed by {_signal_name(-code)}" if code else "ended unasked"
            logger.warning("worker %d %s: another takes its place in %g s", number, how, delay_s)
            with anyio.move_on_after(delay_s):
                await self._stopping.wait()
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    async def _run_worker(self, number: int) -> int:
        """Run one process to its end; return its exit code, negative if a signal killed it."""
        ours, theirs = socket.socketpair()
        with ours:
            # a listener of its own, which is not closed while the process is being made
            with theirs, self._listener.dup() as listener:
                process = await self._start(number, listener, theirs)
            self._lines[number] = ours
            logger.info("worker %d is process %d", number, process.pid)
            try:
                if self._stopping.is_set():
                    ours.send(_CUT if self._cut else _STOP)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._hear, number, ours)
                    code = await process.wait()
                    tasks.cancel_scope.cancel()
            finally:
                del self._lines[number]
        return code

    async def _start(self, number: int, listener: socket.socket, line: socket.socket) -> Process:
        admin = self._admin[number].fileno() if self._admin else -1
        descriptors = [listener.fileno(), admin, line.fileno()]
        return await anyio.open_process(
            # the very command we were started by, with the options of its interpreter
            [sys.executable, *sys.orig_argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=None,
            stderr=None,
            env={**os.environ, _VARIABLE: " ".join(map(str, [number, *descriptors]))},
            pass_fds=[fd for fd in descriptors if fd >= 0],
            # Ctrl-C is said to us, and by us to them
            start_new_session=True,
        )

    async def _hear(self, number: int, line: socket.socket) -> None:
        """Hear where a worker listens; once all of them do, print it."""
        said = b""
        while not said.endswith(b"\n"):
            await anyio.wait_readable(line)
            try:
                part = line.recv(65536)
            except OSError:
                return
            if not part:
                return
            said += part
        news = len(self._told) < self._count
        self._told[number] = json.loads(said)
        self._first_listens.set()
        if news and len(self._told) == self._count:
            say(self._line())

    def _line(self) -> str:
        admin = ", ".join(f"{told['admin_url']}" for _, told in sorted(self._told.items()) if told["admin_url"])
        said = f", admin {admin}" if admin else ""
        # any of them may be the one that created it
        store = max((str(told["store"]) for told in self._told.values()), key=len)
        return f"settlement engine {self._target} on {self._told[0]['url']}, {self._count} workers{said}, store {store}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

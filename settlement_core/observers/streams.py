"""Writes log lines to a stream from a thread of its own: a pipe that nobody reads must never stop the server.

What does not fit is dropped and counted, and the count is written once there is room again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from typing import IO

__all__ = ["OncePerMinute", "PatientHandler"]

MAX_WAITING = 4 * 2**20
"""Characters that wait to be written: minutes of a busy server's log, and little memory."""

LAST_S = 1.0
"""How long the process's end waits for the rest to be written."""

FULL_S = 0.05
"""Between two tries to write to a full pipe that does not block."""

MINUTE_S = 60.0


class PatientHandler(logging.Handler):
    """Takes a record in microseconds, whatever becomes of its line."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        try:
            # past the stream's own lock, which must be free when the interpreter ends
            self._file_no: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._file_no = None
        if self._file_no is not None:
            threading.Thread(target=self._write_for_ever, name="log writer", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line, or count it as dropped."""
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - as logging does
            self.handleError(record)
            return
        if self._file_no is None:
            self._stream.write(line)
            return
        with self._changed:
            if self._size + len(line) > MAX_WAITING:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify()

    def flush(self) -> None:
        """Wait until all is written, for a second at most."""
        deadline = time.monotonic() + LAST_S
        with self._changed:
            while self._size and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _write_for_ever(self) -> None:
        assert self._file_no is not None
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                lines = list(self._lines)
                self._lines.clear()
            _write(self._file_no, "".join(lines))
            with self._changed:
                self._size -= sum(map(len, lines))
                dropped, self._dropped = self._dropped, 0
                self._changed.notify_all()
            if dropped:
                _write(self._file_no, f"{dropped} log lines were dropped: nobody read them in time\n")


def _write(file_no: int, text: str) -> None:
    content = text.encode(errors="backslashreplace")
    # a closed pipe is nobody who listens, and no reason to end
    with contextlib.suppress(OSError):
        while content:
            try:
                content = content[os.write(file_no, content) :]
            except BlockingIOError:
                # another process made the pipe that we share non-blocking
                time.sleep(FULL_S)


class OncePerMinute(logging.Filter):
    """Lets a message of a logger through once a minute, whatever its details are."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record's message has not come within the last minute."""
        message = str(record.msg)[:100]
        now = time.monotonic()
        if now - self._last.get(message, -MINUTE_S) < MINUTE_S:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[message] = now
        return True

"""Log lines are written by a thread, in order, and dropped with a count where nobody reads."""

from __future__ import annotations

import io
import logging
import os
import threading
import time

import pytest

from settlement_core.observers import streams
from settlement_core.observers.streams import OncePerMinute, PatientHandler


def record(text: str) -> logging.LogRecord:
    """Return a record that says so."""
    return logging.LogRecord("x", logging.INFO, __file__, 1, text, (), None)


def test_lines_arrive_whole_and_in_order() -> None:
    """Whatever thread they come from, and however many are written at once."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as lines:
        handler = PatientHandler(stream)
        for number in range(500):
            handler.emit(record(f"line {number}"))
        handler.flush()
        assert [lines.readline() for _ in range(500)] == [f"line {number}\n" for number in range(500)]


def test_what_does_not_fit_is_dropped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is full, then the queue; nothing waits, and once somebody reads the number is told."""
    monkeypatch.setattr(streams, "MAX_WAITING", 10_000)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as source:
        handler = PatientHandler(stream)
        began = time.monotonic()
        for _ in range(1000):
            handler.emit(record("x" * 999))
        assert time.monotonic() - began < 20
        found = bytearray()
        told = threading.Event()

        def read() -> None:
            while b"nobody read them in time" not in found:
                found.extend(source.read(65536) or b"")
            told.set()

        threading.Thread(target=read, daemon=True).start()
        handler.flush()
        handler.emit(record("the end"))
        assert told.wait(30)
        # or its writer would write to whatever has the pipe's number next
        handler.flush()
        written = found.count(b"x" * 999)
        told_of = [int(line.split()[0]) for line in found.splitlines() if line.endswith(b"in time")]
        assert 0 < sum(told_of) <= 1000 - written
        assert written < 200


def test_a_full_pipe_that_does_not_block_loses_nothing() -> None:
    """Whoever shares standard error may have made it so: the rest is written once there is room."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as lines:
        handler = PatientHandler(stream)
        for number in range(200):
            handler.emit(record(f"{number:0999}"))
        assert [int(lines.readline()) for _ in range(200)] == list(range(200))


def test_a_stream_without_a_file_is_written_at_once() -> None:
    """Such as one of a test, or of a notebook."""
    stream = io.StringIO()
    PatientHandler(stream).emit(record("hello"))
    assert stream.getvalue() == "hello\n"


def test_a_message_that_repeats_comes_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is told in between."""
    now = [1000.0]
    monkeypatch.setattr("settlement_core.observers.streams.time.monotonic", lambda: now[0])
    once = OncePerMinute()
    found = []
    for _ in range(130):
        found.append(once.filter(record("out of files")))
        assert once.filter(record(f"other {now[0]}"))
        now[0] += 1
    assert [number for number, passed in enumerate(found) if passed] == [0, 60, 120]

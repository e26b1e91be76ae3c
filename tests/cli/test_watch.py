"""`settlement-core watch`: every event of a running server, one a line, or a look at it that keeps up."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from settlement_core.cli.following import Heard, events_of
from settlement_core.stores.sqlite import open_sqlite_store
from tests.cli.processes import (
    COMMAND,
    MINIMAL,
    Connector,
    Server,
    clean_environment,
    open_connector,
    run,
    serving,
    until,
    write_engine,
)


@pytest.fixture
def connector() -> Iterator[Connector]:
    """Serve a connector."""
    with open_connector() as connector:
        yield connector


@pytest.fixture
def server(connector: Connector, tmp_path: Path) -> Iterator[Server]:
    """Serve an engine."""
    engine = str(write_engine(tmp_path, MINIMAL.replace("no answer from the ledger", "[/] no\\x1b[2J answer")))
    arguments = (engine, "--store", "memory:", "--connector-url", connector.url)
    with serving(*arguments, folder=tmp_path, PAID=str(tmp_path / "paid")) as server:
        assert server.create() == 201
        yield server


@contextmanager
def watching(server: Server, *options: str, stdout: Any = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run the command beside us."""
    with subprocess.Popen(
        [*COMMAND, "watch", "--admin-url", server.admin_url, *options],
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=clean_environment(PYTHONUNBUFFERED="1", TERM="xterm", COLUMNS="160", LINES="40"),
        text=True,
        # as a terminal starts it: what is begun in the background of a script ignores Ctrl-C, and so do its children
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Lines:
    """What a process has printed so far."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append(line)

    def wait_for(self, kind: str) -> dict[str, Any]:
        """Return the first event of a type."""
        until(lambda: any(json.loads(line)["event"] == kind for line in self.lines), f"for {kind}")
        return next(event for event in map(json.loads, self.lines) if event["event"] == kind)


def test_each_event_is_a_line_of_json(server: Server) -> None:
    """From the beginning, through what happens, to the loss of the server; Ctrl-C ends it with exit code 0."""
    with watching(server, "--json") as process:
        assert process.stdout is not None
        heard = Lines(process.stdout)
        heard.wait_for("resync")
        assert server.settle("5", "a key") == 201
        assert Decimal(heard.wait_for("SettlementRecorded")["amount"]) == 5
        assert heard.wait_for("SettlementRequested")["key"] == "a key"
        assert server.stop() == 0
        heard.wait_for("lost")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_terminal_shows_what_waits_and_what_happens(server: Server) -> None:
    """In doubt, with a reason whose markup and terminal codes change nothing; then settled, without being asked."""
    ours, theirs = pty.openpty()
    screen = b""

    def shows(*texts: str) -> bool:
        nonlocal screen
        while select.select([ours], [], [], 0)[0]:
            screen += os.read(ours, 65536)
        return all(text.encode() in screen for text in texts)

    with watching(server, stdout=theirs):
        os.close(theirs)
        until(lambda: shows("your money is all right"), "for the first look")
        assert server.settle("13", "a") == 201
        until(lambda: shows("the books add up, and this waits for you: 13 in doubt", "[/]"), "for what waits")
        assert server.settle("5", "b") == 201
        until(lambda: shows("account alice settled 5 of 5"), "for the event")
        assert b"no\x1b[2J answer" not in screen
    os.close(ours)


def test_what_cannot_be_watched_is_one_sentence(server: Server, tmp_path: Path) -> None:
    """A stopped server's store, or an address where nobody is: exit code 2."""
    with closing(open_sqlite_store(str(tmp_path / "books"))):
        pass
    refused = run("watch", "--json", "--admin-url", "http://127.0.0.1:1", code=2)
    assert refused.stderr.startswith("Error: no server answers at http://127.0.0.1:1: ")
    refused = run("watch", "--json", "--store", f"sqlite:{tmp_path / 'books'}", code=2)
    assert refused.stderr == "Error: only a running server can be watched; start it, or say --admin-url\n"
    # what a stranger wrote breaks no table of the others either
    assert server.settle("13", "a") == 201
    until(lambda: server.books("/attempts?state=in_doubt") != [], "for money in doubt")
    listed = run("attempts", "--admin-url", server.admin_url).stdout
    assert "[/] no [2J answer" in listed


def test_a_stream_is_read_as_the_standard_says() -> None:
    """Comments, retry times and blocks without data are no events."""
    lines = ["retry: 2000", "", ": nothing new", "", "id: r-1", "event: resync", "data: {}", "", "id: r-2"]
    assert list(events_of(iter(lines))) == [Heard("resync", {}, "r-1")]

"""The load measures what clients would feel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.load import open_loop
from benchmarks.servers import require_node

STALL_S = 0.8


class Server(ThreadingHTTPServer):
    """Answers at once, but for one stall, or refuses."""

    daemon_threads = True

    def __init__(self, *, status: int = 201) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.turn = threading.Lock()
        self.asked = 0

    def stall_once(self) -> None:
        """Answer, but the tenth time only after the stall, and everybody else after that."""
        with self.turn:
            self.asked += 1
            if self.asked == 10:
                time.sleep(STALL_S)


class Handler(BaseHTTPRequestHandler):
    """Of one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        """Take the body, and answer."""
        self.rfile.read(int(self.headers["content-length"]))
        self.server.stall_once()
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """Serve from a thread for the block, and give the URL."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_stall_is_charged_with_everyone_who_would_have_asked_meanwhile() -> None:
    """Of a hundred requests in a second, most are due while nobody answers; a closed loop would have sent one."""
    require_node()
    with serving(Server()) as url:
        figures = open_loop(url, accounts=1, rate=100, seconds=1)
    assert figures["p99 ms"] >= STALL_S * 900
    # half of the eighty that were due in it waited for more than half of it
    assert figures["p50 ms"] >= STALL_S * 200


@pytest.mark.slow
def test_a_refusal_counts_as_the_longest_wait() -> None:
    """A server is not faster for refusing."""
    require_node()
    with serving(Server(status=503)) as url:
        figures = open_loop(url, accounts=1, rate=20, seconds=1)
    assert figures == {"p99 ms": 10_000, "p50 ms": 10_000, "refused": 20}

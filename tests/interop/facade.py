"""The simulated ledger over HTTP, for engines that are not written in Python; it can be told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from settlement_core.engines.simulated import LedgerUnavailable, SimulatedLedger, Transfer
from settlement_core.values.errors import LocalError

__all__ = ["Facade", "serve_ledger"]


@dataclass(slots=True)
class Facade:
    """A ledger's HTTP side.

    Attributes:
        open: while cleared, a payment is not taken, and its request hangs.
        refuse_every: each so many-th payment is answered 500 and not taken; 0 for none.
        refused: the ids of those.
    """

    ledger: SimulatedLedger
    url: str = ""
    open: threading.Event = field(default_factory=threading.Event)
    refuse_every: int = 0
    refused: list[str] = field(default_factory=list)
    _submitted: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Answer a request: status and JSON value."""
        url = urlsplit(target)
        try:
            match (method, *url.path.strip("/").split("/")):
                case ("POST", "transfers"):
                    return self._submit(Transfer.from_json(json.loads(body)))
                case ("GET", "transfers", tx_id):
                    return 200, {"state": self.ledger.lookup(tx_id).state}
                case ("GET", "incoming", address):
                    after = int(parse_qs(url.query)["after"][0])
                    entries = self.ledger.incoming(address, after_seq=after).entries
                    return 200, [{**asdict(entry), "amount": f"{entry.amount:f}"} for entry in entries]
                case _:
                    return 404, None
        except LedgerUnavailable as error:
            return 503, str(error)
        except LocalError as error:
            return 400, str(error)

    def _submit(self, transfer: Transfer) -> tuple[int, Any]:
        if not self.open.is_set():
            self.open.wait()
            return 503, "closed"
        with self._lock:
            self._submitted += 1
            if self.refuse_every and self._submitted % self.refuse_every == 0:
                self.refused.append(transfer.tx_id)
                return 500, "refused on purpose"
        while True:
            try:
                self.ledger.submit(transfer)
            except LedgerUnavailable:
                if not self.refuse_every:
                    raise
                # then only what was refused on purpose may be lost
            else:
                return 200, None


@contextmanager
def serve_ledger(ledger: SimulatedLedger) -> Iterator[Facade]:
    """Serve a ledger in threads for the block."""
    facade = Facade(ledger)
    facade.open.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 64 * 1024  # head and body in one packet, or each answer waits for an acknowledgement
        served: ClassVar[Facade] = facade

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            status, value = self.served.respond(self.command, self.path, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any  # noqa: N815

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that are killed

    with Server(("127.0.0.1", 0), Handler) as server:
        facade.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield facade
        finally:
            facade.open.set()
            server.shutdown()
            thread.join()

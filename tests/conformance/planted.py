"""A small settlement engine in threads, honest but for what is planted in it, so that every check can fail."""

from __future__ import annotations

import http.client
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeAlias
from urllib.parse import unquote, urlsplit

from settlement_core.values.amounts import Quantity, floor
from settlement_core.values.errors import LocalError

__all__ = ["DROP", "SCALE", "Call", "Engine", "Reply", "Twist", "planted_engine"]

JSON, OCTETS = "application/json", "application/octet-stream"

SCALE = 9
"""The ledger's, where an engine is planted that forgets what is finer."""

RETRY_S = 0.05
MAX_BODY = 100 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request: its path as it came, its header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; without a status, the connection is closed."""

    status: int
    body: bytes = b""
    media_type: str = JSON


DROP = Reply(0)

Twist: TypeAlias = "Callable[[Engine, Call], Reply | None]"
"""What is done with a request in place of what is right; None leaves it to the honest engine."""


@dataclass(slots=True)
class Engine:
    """RFC 38 in memory: what it settles comes back at once, as a credit of the same account.

    Attributes:
        flaws: names of what it does wrong where no twist reaches.
        keys: by account, what each key was first used for and how that was answered.
        unacknowledged: credits the connector has not taken, by their key.
    """

    connector_url: str
    twist: Twist
    flaws: frozenset[str]
    accounts: set[str] = field(default_factory=set)
    keys: dict[str, dict[str, tuple[Quantity, Reply]]] = field(default_factory=dict)
    unacknowledged: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    dust: dict[str, Decimal] = field(default_factory=dict)
    broken: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    threads: list[threading.Thread] = field(default_factory=list)

    def respond(self, call: Call) -> Reply:
        """Answer a request."""
        planted = self.twist(self, call)
        if planted is not None:
            return planted
        if len(call.body) > MAX_BODY:
            return Reply(413)
        segments = [unquote(part) for part in call.path.partition("?")[0].split("/") if part]
        try:
            return self._respond(call, segments)
        except LocalError as error:
            return Reply(400, str(error).encode())

    def _respond(self, call: Call, segments: list[str]) -> Reply:
        with self.lock:
            match (call.method, *segments):
                case ("POST", "accounts"):
                    return self._create(call)
                case ("DELETE", "accounts", account_id):
                    return self._delete(account_id)
                case ("POST", "accounts", account_id, "settlements" | "messages") if account_id not in self.accounts:
                    return Reply(404)
                case ("POST", "accounts", account_id, "settlements"):
                    return self._settle(account_id, call)
                case ("POST", "accounts", account_id, "messages"):
                    return self._hear(call)
                case _:
                    return Reply(404)

    def restart(self) -> None:
        """Live again, with what was kept."""
        with self.lock:
            if "forgets keys at a restart" in self.flaws:
                self.keys.clear()
            if "rekeys at a restart" in self.flaws:
                self.unacknowledged = {str(uuid.uuid4()): credit for credit in self.unacknowledged.values()}
                for key in self.unacknowledged:
                    self._start(self._offer, key)

    def _create(self, call: Call) -> Reply:
        content = _json(call)
        if not isinstance(content, dict):
            return Reply(400)
        account_id = content.get("id") or str(uuid.uuid4())
        if not isinstance(account_id, str) or not re.fullmatch(r"[A-Za-z0-9._~-]+", account_id) or account_id == "..":
            return Reply(400)
        self.accounts.add(account_id)
        self._greet(account_id)
        return Reply(201, json.dumps({"id": account_id}).encode())

    def _delete(self, account_id: str) -> Reply:
        if account_id not in self.accounts:
            return Reply(404)
        self.accounts.remove(account_id)
        if "forgets deleted accounts" in self.flaws:
            self.keys.pop(account_id, None)
        return Reply(204)

    def _settle(self, account_id: str, call: Call) -> Reply:
        key = call.headers.get("idempotency-key", "")
        quantity = Quantity.parse(_json(call))
        if not key or not quantity.to_amount():
            return Reply(400)
        keys = self.keys.setdefault(account_id, {})
        if key in keys and "has no memory for keys" not in self.flaws:
            first, reply = keys[key]
            return reply if first == quantity else Reply(409)
        if "remembers ten keys" in self.flaws and len(keys) >= 10:
            keys.clear()
        reply = Reply(201, json.dumps(quantity.to_json()).encode())
        keys[key] = (quantity, reply)
        self._pay(account_id, quantity.to_amount())
        return reply

    def _pay(self, account_id: str, amount: Decimal) -> None:
        if "drops dust" in self.flaws:
            amount = floor(amount, SCALE)
        if "merges credits" in self.flaws:
            for key, (name, waiting) in list(self.unacknowledged.items()):
                if name == account_id:
                    amount += waiting
                    del self.unacknowledged[key]
        for _ in range(0 if "never pays" in self.flaws else 2 if "pays twice" in self.flaws else 1):
            key = str(uuid.uuid4())
            if amount:
                self.unacknowledged[key] = (account_id, amount)
                self._start(self._offer, key)

    def _hear(self, call: Call) -> Reply:
        if call.headers.get("content-type", "") != OCTETS:
            return Reply(415)
        try:
            return Reply(201, json.dumps(json.loads(call.body)).encode(), OCTETS)
        except (ValueError, RecursionError):
            return Reply(400)

    # what it asks of its connector

    def _start(self, work: Callable[[str], None], argument: str) -> None:
        thread = threading.Thread(target=work, args=(argument,))
        self.threads.append(thread)
        thread.start()

    def _greet(self, account_id: str) -> None:
        kind = "text/plain" if "writes text" in self.flaws else OCTETS
        self._post(f"/accounts/{account_id}/messages", b'"hello"', {"content-type": kind})

    def _offer(self, key: str) -> None:
        """Offer a credit until it is taken."""
        while not self.ended.is_set():
            with self.lock:
                if key not in self.unacknowledged:
                    return
                account_id, amount = self.unacknowledged[key]
            headers = {"content-type": JSON}
            if "has no keys for credits" not in self.flaws:
                headers["idempotency-key"] = key
            content: dict[str, Any] = dict(Quantity.of(amount).to_json())
            if "credits numbers" in self.flaws:
                content["amount"] = int(content["amount"])
            status, body = self._post(f"/accounts/{account_id}/settlements", json.dumps(content).encode(), headers)
            taken = 200 <= status < 300
            if "needs a quantity" in self.flaws:
                taken = body.startswith(b"{") and taken
            with self.lock:
                if taken:
                    self.unacknowledged.pop(key, None)
                elif "gives up" in self.flaws or ("merges credits" in self.flaws and status):
                    return
                elif "rekeys" in self.flaws:
                    key, old = str(uuid.uuid4()), key
                    self.unacknowledged[key] = self.unacknowledged.pop(old)
            self.ended.wait(RETRY_S)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        target = urlsplit(self.connector_url)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=10)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def _json(call: Call) -> Any:
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise LocalError("not JSON")
    try:
        return json.loads(call.body, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise LocalError("not JSON") from error


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(members)) != len(members):
        raise ValueError("a member twice")
    return dict(members)


@contextmanager
def planted_engine(connector_url: str, twist: Twist, flaws: frozenset[str]) -> Iterator[tuple[str, Engine]]:
    """Serve an engine for the block; give its URL, and itself."""
    planted = Engine(connector_url, twist, flaws)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 64 * 1024  # head and body in one packet, or each answer waits for an acknowledgement
        engine: ClassVar[Engine] = planted

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            body = self.rfile.read(length)
            if len(body) < length:
                self.engine.broken = "breaks when cut off" in self.engine.flaws
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = self.engine.respond(Call(self.command, self.path, headers, body))
            if self.engine.broken or not reply.status:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("content-type", reply.media_type)
            if reply.status != 204:
                self.send_header("content-length", str(len(reply.body)))
            if "keeps no connection" in self.engine.flaws:
                self.send_header("connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = handle_any  # noqa: N815

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that hang up

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", planted
        finally:
            planted.ended.set()
            server.shutdown()
            thread.join()
            for credit in planted.threads:
                credit.join()

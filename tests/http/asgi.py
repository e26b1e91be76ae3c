"""Ask the real ASGI app in this process, byte by byte as a server would, and look at every row of the books."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.lowlevel
from quart import Quart

from settlement_core.abc import Store
from settlement_core.core.core import Core
from settlement_core.http.app import create_app
from settlement_core.http.gate import AccessRules
from settlement_core.http.requests import Dialect
from settlement_core.values.commands import Entries, History, Overview, Suspense
from settlement_core.values.records import Direction
from tests.core.worlds import World

JSON = ("content-type", "application/json")
OCTETS = ("content-type", "application/octet-stream")

KNOWN = AccessRules(allowed_hosts=("engine",))
"""Lets in the clients below."""

Header = tuple[str, str]
Part = bytes | float
"""Bytes of a body, or seconds until the next ones."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header that comes at most once."""
        found = [value for given, value in self.headers if given == name]
        assert len(found) <= 1, f"{name} comes {len(found)} times"
        return found[0] if found else None

    def json(self) -> Any:
        """Return the JSON value of the body."""
        return json.loads(self.body)

    def detail(self) -> str:
        """Return the sentence of a problem, having checked everything around it."""
        assert self.header("content-type") == "application/problem+json"
        assert self.header("content-length") == str(len(self.body))
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["type"] == "about:blank"
        assert problem["title"]
        detail = problem["detail"]
        assert isinstance(detail, str)
        assert "\n" not in detail
        assert 10 < len(detail) < 400, "one sentence"
        return detail


@dataclass
class Request:
    """One exchange with the app: gives the parts of a body one by one, and then, if told so, hangs up."""

    parts: list[Part]
    hangs_up: bool = False
    sent: list[Any] = field(default_factory=list)

    async def receive(self) -> dict[str, Any]:
        """Return the next event from the client."""
        await anyio.lowlevel.checkpoint()
        while self.parts:
            body = self.parts.pop(0)
            if not isinstance(body, bytes):
                await anyio.sleep(body)
                continue
            return {"type": "http.request", "body": body, "more_body": bool(self.parts) or self.hangs_up}
        if not self.hangs_up:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take an event from the app."""
        await anyio.lowlevel.checkpoint()
        self.sent.append(message)

    def answer(self) -> Answer | None:
        """Return the answer, having checked that it is a legal one; None if there is none."""
        if not self.sent:
            return None
        start, *bodies = self.sent
        assert start["type"] == "http.response.start"
        assert all(message["type"] == "http.response.body" for message in bodies)
        assert bodies
        assert not bodies[-1].get("more_body", False)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start.get("headers", ())]
        assert all(name == name.lower() for name, _ in headers), "ASGI has names in lower case"
        return Answer(start["status"], headers, b"".join(bytes(message.get("body", b"")) for message in bodies))


@dataclass
class Client:
    """Speaks ASGI to an app."""

    app: Any
    core: Core

    async def send(
        self,
        method: str,
        target: str | bytes,
        headers: Iterable[Header | tuple[bytes, bytes]] = (),
        parts: Sequence[Part] = (b"",),
        *,
        hangs_up: bool = False,
    ) -> Answer | None:
        """Send a request in parts; return the answer, if any."""
        raw = target if isinstance(target, bytes) else target.encode()
        raw_path, _, query = raw.partition(b"?")
        pairs = [(_bytes(name).lower(), _bytes(value)) for name, value in headers]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"engine"), *pairs],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 3000),
            "extensions": {},
        }
        request = Request(list(parts), hangs_up)
        await self.app(scope, request.receive, request.send)
        return request.answer()

    async def request(
        self, method: str, target: str | bytes, *headers: Header | tuple[bytes, bytes], body: bytes = b""
    ) -> Answer:
        """Send a request and return its answer."""
        answer = await self.send(method, target, headers, [body])
        assert answer is not None
        return answer

    async def create(self, account_id: str = "alice") -> Answer:
        """Create an account as RFC 38 says."""
        return await self.request("POST", "/accounts", JSON, body=json.dumps({"id": account_id}).encode())

    async def settle(self, amount: str, scale: int, key: str, account_id: str = "alice") -> Answer:
        """Ask for a settlement as RFC 38 says."""
        body = json.dumps({"amount": amount, "scale": scale}).encode()
        target = f"/accounts/{account_id}/settlements"
        return await self.request("POST", target, JSON, ("idempotency-key", key), body=body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


@asynccontextmanager
async def serving(world: World, *, dialect: Dialect | None = None) -> AsyncIterator[Client]:
    """Run one life of the core behind the app that `create_app` makes."""
    async with world.core() as core:
        app: Quart = create_app(core, dialect=dialect, access=KNOWN)
        yield Client(app, core)


def books(store: Store) -> list[Any]:
    """Return everything a store knows of money."""
    accounts, attempts, suspense = store.apply([Overview(limit=1000), History(limit=1000), Suspense(assigned=True)])
    entries = store.apply([Entries(account_id=a.account_id, direction=d) for a in accounts for d in Direction])
    return [accounts, attempts, suspense, entries]

"""In front of a whole app: what its gate refuses never reaches it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from settlement_core.http import responses
from settlement_core.http.asgi import ASGIApp, Receive, Scope, Send, send_discarding
from settlement_core.http.gate import Gate
from settlement_core.http.problems import BadUrl
from settlement_core.http.targets import in_origin_form

__all__ = ["Access"]


class Access:
    """ASGI middleware that asks a gate of every request."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        found = in_origin_form(scope)
        scope = found or scope
        refusal = self._gate.refusal(scope)
        if refusal is None and found is None:
            refusal = responses.problem(BadUrl())
        if refusal is None:
            request = _Request(self._gate, receive, send)
            try:
                await self._app(scope, request.receive, request.send)
            finally:
                request.ends()
        elif scope["type"] == "http":
            await send_discarding(receive, send, refusal)
        else:
            await send({"type": "websocket.close", "code": 1008})


class _Request:
    """Counts a request while we are at work on it: from the end of its body to the beginning of its answer.

    A client that is slow to send, or to read, has no part in that; so slow clients do not keep others out.
    """

    __slots__ = ("_arrived", "_at_work", "_gate", "_receive", "_send")

    def __init__(self, gate: Gate, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._receive = receive
        self._send = send
        self._arrived = self._at_work = False

    async def receive(self) -> MutableMapping[str, Any]:
        event = await self._receive()
        if not self._arrived and not event.get("more_body", False):
            self._arrived = self._at_work = True
            self._gate.under_way += 1
        return event

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self._at_work:
            self.ends()
        await self._send(message)

    def ends(self) -> None:
        if self._at_work:
            self._at_work = False
            self._gate.under_way -= 1

"""The thin ASGI adapter: reads, asks the core, answers. What is not RFC 38's goes on to the app behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import anyio

from settlement_core.core.core import Core
from settlement_core.http import responses
from settlement_core.http.problems import BodyTooLarge, BodyTooSlow
from settlement_core.http.requests import (
    CreateAccount,
    DeleteAccount,
    Dialect,
    HandleMessage,
    Intent,
    RequestSettlement,
    find_route,
    read_intent,
)
from settlement_core.http.responses import Response
from settlement_core.values.amounts import Quantity
from settlement_core.values.errors import SettlementError

__all__ = ["ASGIApp", "SettlementEngineApi"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_DEADLINE_S = 10.0
"""A request is at most 100 KiB: who takes longer to send it is not a connector."""


class SettlementEngineApi:
    """ASGI middleware that serves the four endpoints of RFC 38 from a core, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, core: Core, dialect: Dialect) -> None:
        self._app = app
        self._core = core
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            path = scope.get("raw_path") or scope["path"].encode()
            route = find_route(scope["method"], path.split(b"?", 1)[0], self._dialect)
            if route is None:
                await self._app(scope, receive, send)
                return
            body = await _read_body(receive, route.max_body)
            if body is None:
                return
            response = await self._carry_out(read_intent(route, scope["headers"], body, self._dialect))
        except SettlementError as error:
            response = responses.problem(error)
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _carry_out(self, intent: Intent) -> Response:
        core = self._core
        match intent:
            case RequestSettlement(account_id, amount, key):
                return responses.settling(Quantity.of(await core.request_settlement(account_id, amount, key)))
            case HandleMessage(account_id, message):
                return responses.message_answer(await core.handle_message(account_id, message))
            case CreateAccount(account_id):
                return responses.created(await core.create_account(account_id))
            case DeleteAccount(account_id):
                await core.delete_account(account_id)
                return responses.deleted()


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """Return the whole body, or None if the client went away before it was complete."""
    body = b""
    with anyio.move_on_after(BODY_DEADLINE_S):
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return None
            body += bytes(event.get("body", b""))
            if len(body) > limit:
                raise BodyTooLarge(limit)
            if not event.get("more_body", False):
                return body
    raise BodyTooSlow(BODY_DEADLINE_S)

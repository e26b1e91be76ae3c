"""The thin ASGI adapter: reads, asks the core, answers. What is not RFC 38's goes on to the app behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from functools import lru_cache, partial
from types import coroutine
from typing import Any, TypeAlias, TypeVar

import anyio

from settlement_core.core.core import Core
from settlement_core.http import responses
from settlement_core.http.openapi import describe_engine_api
from settlement_core.http.problems import BadUrl, BodyTooLarge, BodyTooSlow
from settlement_core.http.requests import (
    MAX_JSON,
    CreateAccount,
    DeleteAccount,
    DescribeApi,
    Dialect,
    HandleMessage,
    Intent,
    RequestSettlement,
    Route,
    find_route,
    read_intent,
)
from settlement_core.http.responses import Response
from settlement_core.http.stalls import Stalls
from settlement_core.http.targets import in_origin_form, local_raw_path
from settlement_core.values.amounts import Quantity
from settlement_core.values.errors import AskerLeft, LocalError, SettlementError

__all__ = ["ASGIApp", "AnswersAfterBodies", "SettlementEngineApi", "send_discarding", "send_response"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

T = TypeVar("T")

BODY_DEADLINE_S = 10.0
"""A request is at most 100 KiB: who takes longer to send it is not a connector."""

KNOWN_PATHS = 1024
"""Paths whose endpoints are remembered; peers are few, and ask for the same ones again and again. A stranger's may be
as long as a head: these are 16 MiB at most."""

LOOKS, LOOK_S = 5, 0.04
"""How often, and for how many seconds each, a client is looked for that may have left while the process stood still."""

MAX_DISCARDED = 1024 * 1024
"""Bytes of a body that is too large anyway, for the sake of a client that only listens after sending."""


_NOTHING_HERE = responses.problem_of(404, "there is nothing of this name here; nothing was recorded")


class SettlementEngineApi:
    """ASGI middleware that serves RFC 38's four endpoints and their description, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, core: Core, dialect: Dialect) -> None:
        self._app = app
        self._core = core
        self._dialect = dialect
        self._stalls = Stalls()
        self._description = responses.description(describe_engine_api(dialect))
        route = partial(find_route, dialect=dialect)
        # a secret path is compared anew each time: how long a look among known ones takes may tell something of it
        self._route = route if dialect.base_path else lru_cache(KNOWN_PATHS)(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = in_origin_form(scope)
        found = BadUrl() if origin is None else self._find_route(origin)
        scope = origin or scope
        if found is None:
            await self._app(scope, receive, send)
            return
        try:
            # even of what is refused: an answer that overtakes its request costs the connection, and may not arrive
            body = await _read_body(receive, found.max_body if isinstance(found, Route) else MAX_JSON)
            if body is None:
                return
            if isinstance(found, LocalError):
                raise found
            intent = read_intent(found, scope["headers"], body, self._dialect)
            response = await self._carry_out(intent, partial(_wait_left, receive))
        except AskerLeft:
            return
        except SettlementError as error:
            response = responses.problem(error)
            too_large = isinstance(error, BodyTooLarge)
            # who keeps the error would keep this call by it, with the body
            error.__traceback__ = None
        else:
            too_large = False
        if too_large:
            await send_discarding(receive, send, response)
        else:
            await send_response(send, response)

    def _find_route(self, scope: Scope) -> Route | LocalError | None:
        """Return the endpoint, or what is wrong with the request's head, or None if it is none of ours."""
        try:
            return self._route(scope["method"], local_raw_path(scope))
        except LocalError as error:
            return error

    async def _carry_out(self, intent: Intent, left: Callable[[], Awaitable[None]]) -> Response:
        core = self._core
        match intent:
            case RequestSettlement(account_id, amount, key):
                if self._stalls.is_recent():
                    await _refuse_left(left)
                entered = await core.request_settlement(account_id, amount, key, left=left)
                return responses.settling(Quantity.of(entered))
            case HandleMessage(account_id, message):
                return responses.message_answer(await core.handle_message(account_id, message))
            case CreateAccount(account_id):
                return responses.created(await core.create_account(account_id))
            case DeleteAccount(account_id):
                await core.delete_account(account_id)
                return responses.deleted()
            case DescribeApi():
                return self._description


class AnswersAfterBodies:
    """ASGI middleware that holds the answer of `app` back until the request has arrived whole.

    An app may answer without having read, as Quart does for a path it does not know. If the body only comes then,
    hypercorn never reads the connection's next request. The app has to go on receiving meanwhile, which Quart does.

    What the app has nothing to do with is answered 404 here. Quart would keep the body, and what it answers with would
    stay in memory until garbage is collected.
    """

    def __init__(self, app: ASGIApp, knows: Callable[[Scope], bool]) -> None:
        """Stand in front of `app`; `knows` returns whether it has anything to do with a request."""
        self._app = app
        self._knows = knows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, the answer in its turn."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if not self._knows(scope):
            if scope["type"] == "http":
                await send_discarding(receive, send, _NOTHING_HERE)
            else:
                await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = anyio.Event()
        received = 0

        async def receive_and_note() -> MutableMapping[str, Any]:
            nonlocal received
            event = await receive()
            received += len(event.get("body", b""))
            if not event.get("more_body", False) or received > MAX_DISCARDED:
                arrived.set()
            return event

        async def send_in_turn(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                with anyio.move_on_after(BODY_DEADLINE_S):
                    await arrived.wait()
            await send(message)

        await self._app(scope, receive_and_note, send_in_turn)


async def send_response(send: Send, response: Response) -> None:
    """Send a complete answer."""
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body})


async def send_discarding(receive: Receive, send: Send, response: Response) -> None:
    """Answer, if we can after the body: an answer in its middle may cost the connection, and not arrive.

    It is discarded meanwhile, because hypercorn cannot end an exchange while body parts fill its queue.
    """
    ended = anyio.Event()

    async def discard() -> None:
        discarded = 0
        more = True
        while more:
            event = await receive()
            discarded += len(event.get("body", b""))
            more = event["type"] == "http.request" and event.get("more_body", False)
            if not more or discarded > MAX_DISCARDED:
                ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(discard)
        with anyio.move_on_after(BODY_DEADLINE_S):
            await ended.wait()
        await send_response(send, response)
        tasks.cancel_scope.cancel()


async def _wait_left(receive: Receive) -> None:
    """Return when the client has left; call it once the body has arrived whole."""
    while (await receive())["type"] == "http.request":
        pass


async def _refuse_left(left: Callable[[], Awaitable[None]]) -> None:
    """Raise `AskerLeft` if the client left while this process stood still.

    The server reads the end of a connection only after the request that came before it. Several short waits, since the
    loop reads sockets between any two of them, however long each of its rounds takes.
    """
    for _ in range(LOOKS):
        with anyio.move_on_after(LOOK_S):
            await left()
            raise AskerLeft


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """Return the whole body, or None if the client went away before it was complete."""
    reading = _read_all(receive, limit)
    try:
        awaited = reading.send(None)
    except StopIteration as read:
        body: bytes | None = read.value  # it was all there, as nearly always: a timer costs more than all of reading
        return body
    with anyio.move_on_after(BODY_DEADLINE_S):
        return await _resume(reading, awaited)
    raise BodyTooSlow(BODY_DEADLINE_S)


async def _read_all(receive: Receive, limit: int) -> bytes | None:
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        body += bytes(event.get("body", b""))
        if len(body) > limit:
            raise BodyTooLarge(limit)
        if not event.get("more_body", False):
            return body


@coroutine
def _resume(begun: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Await the rest of a coroutine that was begun, and waits for `awaited`."""
    answers = []
    try:
        while True:
            try:
                answers.append((yield awaited))
            except BaseException as error:  # noqa: BLE001 - thrown into whoever waits, as any
                awaited = begun.throw(error)
            else:
                # trio's answer may hold the exception it raises; kept in a name here, it would keep this call alive
                awaited = begun.send(answers.pop())
    except StopIteration as ended:
        result: T = ended.value
        return result

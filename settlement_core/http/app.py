"""The web app: Quart, with RFC 38 in front, for a core that runs already or for one the server's lifespan runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import sniffio
from quart import Quart

from settlement_core.core.core import Core
from settlement_core.core.effects import describe
from settlement_core.http import responses
from settlement_core.http.access import Access
from settlement_core.http.asgi import AnswersAfterBodies, Receive, Scope, Send, SettlementEngineApi, send_response
from settlement_core.http.gate import AccessRules, Gate
from settlement_core.http.requests import MAX_MESSAGE, Dialect
from settlement_core.http.targets import local_path
from settlement_core.values.errors import ShuttingDown

__all__ = ["LifespanApp", "create_app", "create_bare_app", "make_quart"]

logger = logging.getLogger("settlement_core.http")


def create_app(core: Core, *, dialect: Dialect | None = None, access: AccessRules | None = None) -> Quart:
    """Return a `QuartTrio` app under trio, a `Quart` app under asyncio, that serves RFC 38 from the core.

    Add routes, blueprints and middleware as to any Quart app; RFC 38's paths are served in front of them.

    Args:
        core: the core that runs.
        dialect: deviations from RFC 38.
        access: who may ask, checked for every path. By default every client that calls the server by an IP address, as
            localhost or as `*.localhost` (DNS-rebinding check) and that is no web page of another site; name other
            hosts in `allowed_hosts`. How many connections there may be is the affair of the server that runs the app.

    Raises `LocalError` if the rules name a file that cannot be used.
    """
    app = create_bare_app(core, dialect=dialect)
    gate = Gate(access or AccessRules(), name="settlement engine API")
    app.asgi_app = Access(app.asgi_app, gate)  # type: ignore[method-assign,assignment,arg-type]
    return app


def create_bare_app(core: Core, *, dialect: Dialect | None = None) -> Quart:
    """Return the app for a server that checks access itself."""
    app = make_quart()
    app.asgi_app = SettlementEngineApi(app.asgi_app, core, dialect or Dialect())  # type: ignore[method-assign,assignment,arg-type]
    return app


def make_quart() -> Quart:
    """Return an empty app for the loop that runs."""
    if sniffio.current_async_library() == "trio":
        from quart_trio import QuartTrio  # noqa: PLC0415 - half a second that asyncio users need not wait

        app: Quart = QuartTrio("settlement_core", static_folder=None)
    else:
        app = Quart("settlement_core", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_MESSAGE
    app.asgi_app = AnswersAfterBodies(app.asgi_app, partial(_knows, app))  # type: ignore[method-assign,assignment,arg-type]
    return app


def _knows(app: Quart, scope: Scope) -> bool:
    """Return whether the app has a route for a request, or something that concerns every request."""
    if app.error_handler_spec or app.before_request_funcs or app.after_request_funcs or app.teardown_request_funcs:
        return True
    routes = app.url_map
    if routes.host_matching or app.config["SERVER_NAME"]:
        return True  # where routes depend on the host, Quart finds out
    if next(routes.iter_rules(), None) is None:
        return False  # even looking for one would leave garbage behind
    adapter = routes.bind("localhost", url_scheme="ws" if scope["type"] == "websocket" else "http")
    path, method = local_path(scope), scope.get("method", "GET")
    return adapter.test(path, method) or bool(adapter.allowed_methods(path))


_NEVER_RAN = (
    "no core is open, because the lifespan of this LifespanApp never ran: servers run that of the app they serve, "
    "unless told not to, and none of a mounted one; mount create_app(core) in the outer app's lifespan instead"
)


class LifespanApp:
    """An ASGI app that runs its core for as long as the server's lifespan lasts.

    `open_core` opens the core with all it needs, in the loop of the server. If the core fails, every further
    request is answered 503 and the real exceptions go to the server's log: most servers then go on running.

    Servers run the lifespan of the app that they serve, and of none that is mounted in it. An app to be mounted is
    `create_app(core)`, in the outer app's lifespan. A `LifespanApp` whose lifespan never ran answers 503 and says so,
    also in the log.

    `dialect` and `access` are as for `create_app`: by default the Host header must name this machine.
    """

    def __init__(
        self,
        open_core: Callable[[], AbstractAsyncContextManager[Core]],
        *,
        dialect: Dialect | None = None,
        access: AccessRules | None = None,
    ) -> None:
        self._open_core = open_core
        self._dialect = dialect
        self._access = access
        self._app: Quart | None = None
        self._begun = False
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or run the core for the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)  # type: ignore[arg-type]
        elif scope["type"] == "http":
            await send_response(send, responses.problem(ShuttingDown()) if self._begun else self._never_ran())
        else:
            await send({"type": "websocket.close"})

    def _never_ran(self) -> responses.Response:
        if not self._told:
            self._told = True
            logger.error("%s; requests are answered 503", _NEVER_RAN)
        return responses.problem_of(503, f"{_NEVER_RAN}; nothing was recorded")

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._begun = True
        said: list[str] = []
        last_word: list[Any] = []

        async def send_until_shut_down(message: Any) -> None:
            said.append(message["type"])
            # the server may end the loop as soon as it hears of the shutdown: say so when the core has ended
            if message["type"] == "lifespan.shutdown.complete":
                last_word.append(message)
            else:
                await send(message)

        try:
            async with self._open_core() as core:
                app = create_app(core, dialect=self._dialect, access=self._access)
                self._app = app
                try:
                    await app(scope, receive, send_until_shut_down)  # type: ignore[arg-type]
                finally:
                    self._app = None
        except Exception as error:
            if not said:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": describe(error)})
            raise
        for message in last_word:
            await send(message)

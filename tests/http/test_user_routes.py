"""Routes of one's own beside RFC 38's: the app is a Quart app like any other."""

from __future__ import annotations

import json

import pytest
import sniffio
from quart import Blueprint, Quart, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from settlement_core.http.app import create_app
from tests.core.worlds import MinimalEngine, World, until
from tests.http.asgi import JSON, Client

pytestmark = pytest.mark.anyio


async def test_a_route_a_blueprint_and_middleware_stand_beside_the_rfc_s_paths() -> None:
    """Each is served, and RFC 38's four are ours whatever routes there are."""
    world = World(MinimalEngine())
    async with world.core() as core:
        app = create_app(core)
        pages = Blueprint("pages", __name__, url_prefix="/pages")
        seen: list[str] = []

        @app.get("/health")
        async def health() -> ResponseReturnValue:
            return {"lanes": core.statistics().active_lanes}

        @pages.post("/echo/<name>")
        async def echo(name: str) -> ResponseReturnValue:
            return {"name": name, "said": await request.get_json()}, 202

        @app.get("/accounts/<account_id>/balance")
        async def balance(account_id: str) -> ResponseReturnValue:
            return {"settled": str(world.account(account_id).outgoing.settled)}

        @app.before_request
        async def note() -> None:
            seen.append(request.path)

        @app.post("/accounts")
        async def never() -> ResponseReturnValue:
            raise AssertionError("RFC 38's paths are served in front")

        app.register_blueprint(pages)
        client = Client(app, core)
        assert (await client.request("GET", "/health")).json() == {"lanes": 0}
        answer = await client.request("POST", "/pages/echo/x", JSON, body=json.dumps([1]).encode())
        assert (answer.status, answer.json()) == (202, {"name": "x", "said": [1]})
        assert (await client.create()).json() == {"id": "alice"}
        assert (await client.settle("5", 0, "a")).status == 201
        await until(lambda: world.account().outgoing.settled == 5)
        assert (await client.request("GET", "/accounts/alice/balance")).json() == {"settled": "5"}
        assert (await client.request("GET", "/nothing")).status == 404
    assert seen == ["/health", "/pages/echo/x", "/accounts/alice/balance", "/nothing"]


async def test_a_route_that_fails_is_500_and_settles_on() -> None:
    """Its bug is its own."""
    world = World(MinimalEngine())
    async with world.core() as core:
        app = create_app(core)

        @app.get("/broken")
        async def broken() -> ResponseReturnValue:
            raise ZeroDivisionError

        client = Client(app, core)
        assert (await client.request("GET", "/broken")).status == 500
        await client.create()
        assert (await client.settle("5", 0, "a")).status == 201
        await until(lambda: world.account().outgoing.settled == 5)


async def test_the_app_is_of_the_loop_that_runs() -> None:
    """`QuartTrio` under trio, `Quart` under asyncio."""
    world = World(MinimalEngine())
    async with world.core() as core:
        app = create_app(core)
    assert isinstance(app, QuartTrio) == (sniffio.current_async_library() == "trio")
    assert isinstance(app, Quart)

"""Routes of one's own beside RFC 38's: the app is a Quart app like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sniffio
from quart import Blueprint, Quart, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from settlement_core.http.app import create_app
from settlement_core.http.gate import AccessRules
from settlement_core.http.tokens import hash_line
from tests.core.worlds import MinimalEngine, World, until
from tests.http.asgi import JSON, KNOWN, Client, books

pytestmark = pytest.mark.anyio


async def test_a_route_a_blueprint_and_middleware_stand_beside_the_rfc_s_paths() -> None:
    """Each is served, and RFC 38's four are ours whatever routes there are."""
    world = World(MinimalEngine())
    async with world.core() as core:
        app = create_app(core, access=KNOWN)
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
        app = create_app(core, access=KNOWN)

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
        app = create_app(core, access=KNOWN)
    assert isinstance(app, QuartTrio) == (sniffio.current_async_library() == "trio")
    assert isinstance(app, Quart)


HOSTS = [
    (b"engine.attacker.example", 421),
    (b"engine", 421),
    (b"engine.internal:3000", 200),
    (b"ENGINE.internal.", 200),
    (b"localhost:3000", 200),
    (b"a.localhost", 200),
    (b"192.0.2.7:3000", 200),
    (b"[2001:db8::1]", 200),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
async def test_an_embedded_app_answers_only_to_its_names(host: bytes, status: int) -> None:
    """RFC 38's paths and one's own; what is refused records nothing (DNS rebinding)."""
    world = World(MinimalEngine())
    async with world.core() as core:
        app = create_app(core, access=AccessRules(allowed_hosts=("engine.internal",)))

        @app.get("/own")
        async def own() -> ResponseReturnValue:
            return "mine"

        client = Client(app, core)
        assert (await client.request("GET", "/own", (b"host", host))).status == status
        created = await client.request("POST", "/accounts", JSON, (b"host", host), body=b'{"id":"alice"}')
        assert created.status == (201 if status == 200 else 421)
        assert (books(world.store)[0] == []) == (status == 421)


async def test_an_embedded_app_refuses_strangers_and_other_sites_by_default(tmp_path: Path) -> None:
    """Without rules a strange name and a page of another site are refused; with tokens, who shows none."""
    world = World(MinimalEngine())
    tokens = tmp_path / "tokens"
    tokens.write_text(hash_line("alice", "a-token-of-43-characters-made-by-hand-000000"))
    async with world.core() as core:
        client = Client(create_app(core), core)
        body = b'{"id":"alice"}'
        answer = await client.request("POST", "/accounts", JSON, body=body)
        assert answer.status == 421
        assert "allowed_hosts of AccessRules; nothing was recorded" in answer.detail()
        local = (b"host", b"localhost")
        foreign = (b"origin", b"http://attacker.example")
        assert (await client.request("POST", "/accounts", JSON, local, foreign, body=body)).status == 403
        strict = Client(create_app(core, access=AccessRules(tokens=str(tokens))), core)
        assert (await strict.request("POST", "/accounts", JSON, local, body=body)).status == 401
        assert books(world.store)[0] == []
        assert (await client.request("POST", "/accounts", JSON, local, body=body)).status == 201

"""The app below a path of another one: it is found there, and says what is missing if nothing runs its core."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import unquote

import pytest
import uvicorn
from quart import request, url_for
from starlette.applications import Starlette
from starlette.routing import Mount

from settlement_core.core.core import Core
from settlement_core.http.access import Access
from settlement_core.http.app import LifespanApp, create_app
from settlement_core.http.gate import AccessRules, Gate
from settlement_core.http.requests import Dialect
from tests.core.worlds import D, MinimalEngine, World
from tests.http.asgi import Answer, Client, Request
from tests.http.sockets import PATIENCE_S
from tests.http.test_foreign_servers import ask, wait

KNOWN = AccessRules(allowed_hosts=("engine",))


@contextmanager
def under_uvicorn(app: Any, **settings: Any) -> Iterator[int]:
    """Run a real uvicorn in a thread for the block; give its port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, **settings))
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        wait(lambda: server.started or not thread.is_alive())
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def settles_once(port: int, world: World, prefix: str) -> None:
    """Have an account opened and paid below a prefix, and see that there is nothing of it elsewhere."""
    assert ask(port, "POST", f"{prefix}/accounts", {"id": "alice"}) == (201, {"id": "alice"})
    content = {"amount": "5", "scale": 0}
    for _ in range(2):
        settled = ask(port, "POST", f"{prefix}/accounts/alice/settlements", content, **{"idempotency-key": "a"})
        assert settled == (201, content)
    wait(lambda: world.account().outgoing.settled == 5)
    assert world.engine.paid == [D(5)]
    status, said = ask(port, "GET", f"{prefix}/mine", None)
    assert (status, said) == (200, {"mine": unquote(f"{prefix}/mine")})


def with_a_route(core: Core) -> Any:
    """Return the app with a route of the user's, which answers with its own path."""
    app = create_app(core)

    @app.get("/mine")
    async def mine() -> dict[str, str]:
        assert request.root_path + request.path == url_for("mine")
        return {"mine": url_for("mine")}

    return app


@pytest.mark.parametrize("prefix", ["/settlement", "/a/b", "/ä b"])
def test_an_app_mounted_by_starlette_serves_below_its_path(prefix: str) -> None:
    """Starlette, and FastAPI with it, leave the prefix in `path` and name it as `root_path`."""
    world = World(MinimalEngine())

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncIterator[None]:
        async with world.core() as core:
            outer.mount(prefix, with_a_route(core))
            yield

    with under_uvicorn(Starlette(lifespan=lifespan)) as port:
        sent = prefix.replace("ä b", "%C3%A4%20b")
        assert ask(port, "POST", "/accounts", {"id": "alice"})[0] == 404
        settles_once(port, world, sent)


@pytest.mark.parametrize("root_path", ["/settlement", "/settlement/", "/a/b"])
def test_a_server_that_is_told_a_root_path_serves_what_a_proxy_left_of_it(root_path: str) -> None:
    """A proxy takes the prefix off, and uvicorn's --root-path puts it back: what arrives is the short path."""
    world = World(MinimalEngine())
    with under_uvicorn(LifespanApp(world.core), root_path=root_path) as port:
        assert ask(port, "POST", "/accounts", {"id": "alice"}) == (201, {"id": "alice"})
        assert ask(port, "POST", "/other/accounts", {"id": "bob"})[0] == 404


@pytest.mark.anyio
@pytest.mark.parametrize("has_raw", [True, False])
@pytest.mark.parametrize(
    ("root", "path", "raw", "found"),
    [
        ("/settlement", "/settlement/accounts", b"/settlement/accounts", True),
        ("/settlement", "/accounts", b"/accounts", True),
        ("/settlement/", "/settlement/accounts", b"/settlement/accounts", True),
        ("settlement", "/settlement/accounts", b"/settlement/accounts", True),
        ("/settlement", "/settlement/accounts", b"/settle%6Dent/accounts", True),
        ("/a/b", "/a/b/accounts", b"/a%2Fb/accounts", True),
        ("", "/accounts", b"/accounts", True),
        ("/", "/accounts", b"/accounts", True),
        ("/settlement", "/settlements/accounts", b"/settlements/accounts", False),
        ("/settlement", "/settlement/settlement/accounts", b"/settlement/settlement/accounts", False),
        ("/settlement", "/other/settlement/accounts", b"/other/settlement/accounts", False),
        ("/settlement", "/settlement", b"/settlement", False),
        ("", "/settlement/accounts", b"/settlement/accounts", False),
    ],
)
async def test_each_way_to_tell_a_root_path_leads_to_the_same_place(
    root: str, path: str, raw: bytes, *, has_raw: bool, found: bool
) -> None:
    """With the prefix or without it, however it is written; and never below another path."""
    world = World(MinimalEngine())
    async with world.core() as core:
        client = Client(create_app(core, access=KNOWN), core)
        scope = {"root_path": root, "path": path, "raw_path": raw if has_raw else None}
        answer = await _create(client, scope)
        assert answer.status == (201 if found else 404)


async def _create(client: Client, scope: dict[str, Any]) -> Answer:
    headers = [(b"host", b"engine"), (b"content-type", b"application/json")]
    usual = {"type": "http", "method": "POST", "scheme": "http", "http_version": "1.1", "query_string": b""}
    sent = Request([b'{"id": "alice"}'])
    await client.app(usual | {"headers": headers, "client": None} | scope, sent.receive, sent.send)
    answer = sent.answer()
    assert answer is not None
    return answer


@pytest.mark.anyio
async def test_a_secret_path_is_one_below_the_mount_too() -> None:
    """The base path begins where the mount ends."""
    world = World(MinimalEngine())
    async with world.core() as core:
        client = Client(create_app(core, access=KNOWN, dialect=Dialect(base_path="/s3cret")), core)
        for path, status in (("/m/accounts", 404), ("/m/s3cret/accounts", 201), ("/s3cret/m/accounts", 404)):
            answer = await _create(client, {"root_path": "/m", "path": path, "raw_path": path.encode()})
            assert answer.status == status


@pytest.mark.anyio
async def test_what_needs_no_token_is_told_by_its_path_below_the_mount(tmp_path: Any) -> None:
    """A mount's name cannot make another path public."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann:{'0' * 64}\n")
    gate = Gate(AccessRules(tokens=str(tokens)), name="x", tokenless=frozenset({"/live"}))
    passed: list[str] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    for root, path in (("/m", "/m/live"), ("/m", "/live"), ("/live", "/live/books"), ("/live", "/live")):
        sent = Request([b""])
        scope: dict[str, Any] = {"type": "http", "method": "GET", "query_string": b"", "headers": [], "client": None}
        await Access(app, gate)(scope | {"root_path": root, "path": path}, sent.receive, sent.send)
    assert passed == ["/m/live", "/m/live"]


@pytest.mark.parametrize("mounted", [True, False])
def test_an_app_whose_lifespan_never_ran_says_so(*, mounted: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Mounted, or under a server that was told to run none: 503 with the remedy, and one line in the log."""
    world = World(MinimalEngine())
    app: Any = LifespanApp(world.core)
    served = Starlette(routes=[Mount("/settlement", app)]) if mounted else app
    prefix = "/settlement" if mounted else ""
    with caplog.at_level(logging.ERROR, "settlement_core.http"):
        with under_uvicorn(served, lifespan="auto" if mounted else "off") as port:
            for _ in range(2):
                status, said = ask(port, "POST", f"{prefix}/accounts", {"id": "alice"})
                assert status == 503
                assert said["detail"].startswith("no core is open, because the lifespan of this LifespanApp never ran")
                assert said["detail"].endswith(
                    "mount create_app(core) in the outer app's lifespan instead; nothing was recorded"
                )
        told = [record.getMessage() for record in caplog.records if record.name == "settlement_core.http"]
    assert len(told) == 1
    assert "lifespan of this LifespanApp never ran" in told[0]

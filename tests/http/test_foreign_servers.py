"""The app under servers that are not ours, which run its core through ASGI's lifespan protocol."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import anyio
import hypercorn
import hypercorn.asyncio
import hypercorn.trio
import pytest
import uvicorn

from settlement_core.abc import AccountServices
from settlement_core.core.core import Core, open_core
from settlement_core.http.app import LifespanApp
from settlement_core.http.gate import AccessRules
from settlement_core.http.requests import Dialect
from settlement_core.values.commands import Overview
from tests.core.worlds import D, MinimalEngine, World
from tests.http.sockets import PATIENCE_S, connected


class Life:
    """A world whose engine tells how it lives and ends."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.world = World(MinimalEngine())
        self.fails_at_start = False
        self.dies: list[anyio.Event] = []
        self.slow = threading.Event()

    def open(self) -> AbstractAsyncContextManager[Core]:
        """Open its core."""
        return open_core(
            self._connect, store=self.world.store, connector=self.world.connector, config=self.world.config
        )

    @asynccontextmanager
    async def _connect(self, services: AccountServices) -> AsyncIterator[MinimalEngine]:
        if self.fails_at_start:
            raise ConnectionError("no ledger here")
        died = anyio.Event()
        self.dies.append(died)

        async def die() -> None:
            await died.wait()
            raise ConnectionError("the ledger went away")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(die)
            self.told.append("engine opened")
            yield self.world.engine
            # a server that ends its loop as soon as it has sent "shutdown" never gets past this
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()
        self.told.append("engine closed")


def ask(port: int, method: str, path: str, content: Any, **headers: str) -> tuple[int, Any]:
    """Send a request from another thread than the server's; return status and JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=json.dumps(content).encode(),
        headers={"content-type": "application/json", **headers},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refused:
        with refused:
            problem = refused.headers["content-type"] == "application/problem+json"
            return refused.code, json.loads(refused.read()) if problem else None


@contextmanager
def under_uvicorn(
    life: Life, *, dialect: Dialect | None = None, access: AccessRules | None = None
) -> Iterator[tuple[uvicorn.Server, int]]:
    """Run a real uvicorn in a thread for the block; give the server and its port."""
    app = LifespanApp(life.open, dialect=dialect, access=access)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="on", log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:  # noqa: BLE001 - uvicorn leaves by SystemExit
            failures.append(error)
        life.told.append("uvicorn ended")

    thread = threading.Thread(target=run, name="uvicorn")
    thread.start()
    try:
        wait(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1] if server.started else 0
        yield server, port
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert [type(failure) for failure in failures] in ([], [SystemExit])


def wait(condition: Any) -> None:
    """Wait in real time, from a thread of our own."""
    pause, waited = threading.Event(), 0.0
    while not condition():
        pause.wait(0.01)
        waited += 0.01
        assert waited < PATIENCE_S


def test_uvicorn_accepts_settles_and_ends_after_the_core() -> None:
    """Settlements are paid once, and the engine is closed before uvicorn's loop is gone."""
    life = Life()
    with under_uvicorn(life) as (_, port):
        assert ask(port, "POST", "/accounts", {"id": "alice"}) == (201, {"id": "alice"})
        for _ in range(3):
            content = {"amount": "468200000", "scale": 8}
            assert ask(port, "POST", "/accounts/alice/settlements", content, **{"idempotency-key": "a"}) == (
                201,
                content,
            )
        wait(lambda: life.world.account().outgoing.settled == D("4.682"))
        assert ask(port, "POST", "/accounts/nobody/settlements", content, **{"idempotency-key": "a"})[0] == 404
    assert life.told == ["engine opened", "engine closed", "uvicorn ended"]
    assert life.world.engine.paid == [D("4.682")]


def test_uvicorn_waits_for_a_payment_under_way() -> None:
    """It takes half a second, and is recorded though the server was told to end at once."""
    life = Life()
    life.world.engine.takes_s = 0.5
    with under_uvicorn(life) as (_, port):
        ask(port, "POST", "/accounts", {"id": "alice"})
        ask(port, "POST", "/accounts/alice/settlements", {"amount": "5", "scale": 0}, **{"idempotency-key": "a"})
        wait(lambda: life.world.engine.calls != [])
    assert life.world.engine.paid == [5]
    assert life.world.account().outgoing.settled == 5
    assert life.told == ["engine opened", "engine closed", "uvicorn ended"]


def test_uvicorn_is_told_of_an_engine_that_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    """It logs the true cause, never listens, and ends."""
    life = Life()
    life.fails_at_start = True
    with caplog.at_level(logging.INFO, "uvicorn.error"), under_uvicorn(life) as (server, _):
        assert not server.started
    assert any("ConnectionError: no ledger here" in record.getMessage() for record in caplog.records)
    assert life.told == ["uvicorn ended"]


def test_uvicorn_answers_503_once_the_engine_has_died(caplog: pytest.LogCaptureFixture) -> None:
    """Most servers go on without their lifespan: nothing more is taken, and the log has the real exception."""
    life = Life()
    with caplog.at_level(logging.INFO, "uvicorn.error"), under_uvicorn(life) as (_, port):
        ask(port, "POST", "/accounts", {"id": "alice"})
        life.dies[0].set()
        content = {"amount": "5", "scale": 0}
        key = {"idempotency-key": "a"}
        wait(lambda: ask(port, "POST", "/accounts/alice/settlements", content, **key)[0] == 503)
        status, said = ask(port, "POST", "/accounts/alice/settlements", content, **key)
        assert (status, said["detail"]) == (503, "shutting down; nothing was recorded, try again later")
    logged = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert any("sub-exception" in text for text in logged)
    assert "the ledger went away" in caplog.text


def test_a_dialect_goes_along() -> None:
    """`LifespanApp` takes the same options as `create_app`."""
    life = Life()
    with under_uvicorn(life, dialect=Dialect(base_path="secret", rafiki=True)) as (_, port):
        assert ask(port, "POST", "/accounts", {"id": "harry"})[0] == 404
        assert ask(port, "POST", "/secret/accounts", {"id": "harry"}) == (201, {"id": "harry"})
        status, _ = ask(port, "POST", "/secret/accounts/harry/settlement", {"amount": "5", "scale": 0})
        assert status == 201
        wait(lambda: life.world.account("harry").outgoing.settled == 5)


@pytest.mark.parametrize("access", [None, AccessRules(allowed_hosts=("engine.internal",))])
def test_a_lifespan_s_app_answers_only_to_its_names(access: AccessRules | None) -> None:
    """A page whose name was made to point here (DNS rebinding) moves nothing; names are added by `access`."""
    life = Life()
    with under_uvicorn(life, access=access) as (_, port):
        status, said = ask(port, "POST", "/accounts", {"id": "mallory"}, Host="engine.attacker.example")
        assert status == 421
        assert said["detail"].endswith("nothing was recorded")
        status, _ = ask(port, "POST", "/accounts", {"id": "harry"}, Host="engine.internal")
        assert status == (421 if access is None else 201)
        assert ask(port, "POST", "/accounts", {"id": "ida"})[0] == 201
        accounts = {one.account_id for one in life.world.store.apply([Overview()])[0]}
        assert accounts == ({"ida"} if access is None else {"harry", "ida"})


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])
async def test_hypercorn_alone_runs_the_core_in_its_lifespan(anyio_backend: str) -> None:
    """As a foreign server, on both loops: it accepts, settles, and the core ends before it does."""
    life = Life()
    settings = hypercorn.Config()
    settings.bind = ["127.0.0.1:0"]
    sockets = settings.create_sockets()
    port = sockets.insecure_sockets[0].getsockname()[1]
    sockets.insecure_sockets[0].listen(16)
    settings.bind = [f"fd://{sockets.insecure_sockets[0].detach()}"]
    settings.errorlog = logging.getLogger("tests.hypercorn")
    serve: Any = hypercorn.trio.serve if anyio_backend == "trio" else hypercorn.asyncio.serve
    stop = anyio.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(serve, LifespanApp(life.open), settings, shutdown_trigger=stop.wait, mode="asgi"))
            async with connected(port) as client:
                assert (await client.create()).status == 201
                assert (await client.settle("5", "a")).status == 201
                while life.world.account().outgoing.settled != 5:
                    await anyio.sleep(0.005)
            stop.set()
    assert life.told == ["engine opened", "engine closed"]
    assert life.world.engine.paid == [5]

"""An answer waits for its request, whatever the app has read of it: else the connection's next request would hang."""

from __future__ import annotations

import anyio
import h11
import pytest

from settlement_core.http.asgi import BODY_DEADLINE_S, MAX_DISCARDED
from tests.core.worlds import MinimalEngine, World
from tests.http.asgi import JSON, Part, serving
from tests.http.sockets import PATIENCE_S, Connection, Response, connected, open_engine_server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("parts", "after_s"),
    [
        ([b""], 0.0),
        ([3.0, b"{}"], 3.0),
        ([b"{", 3.0, b"}"], 3.0),
        ([b"{", 5.0, b" ", 5.0, b"}"], BODY_DEADLINE_S),
        ([b"{", 4 * BODY_DEADLINE_S, b"}"], BODY_DEADLINE_S),
        ([b"{", 1.0, b" " * MAX_DISCARDED, 20.0, b"}"], 1.0),
    ],
    ids=["no body", "late", "in parts", "just in time", "never", "endless"],
)
async def test_a_path_nobody_knows_is_answered_once_the_request_is_here(parts: list[Part], after_s: float) -> None:
    """Or after a deadline, or at once where there is more of it than anybody would want to wait for."""
    async with serving(World(MinimalEngine())) as client:
        began = anyio.current_time()
        with anyio.move_on_after(after_s + 0.001):
            answer = await client.send("POST", "/nothing", [JSON], parts)
            assert answer is not None
            assert (answer.status, anyio.current_time() - began) == (404, after_s)
            return
        raise AssertionError("no answer in time")


async def _exchange(client: Connection, method: str, target: str, *headers: tuple[str, str], body: bytes) -> Response:
    """Send a request whose body comes after a moment, long enough for a server to answer too early, if it does."""
    fields = [("host", "localhost"), ("content-length", str(len(body))), JSON, *headers]
    await client.stream.send(client.parser.send(h11.Request(method=method, target=target, headers=fields)))
    await anyio.sleep(0.02)
    for event in (h11.Data(data=body), h11.EndOfMessage()):
        await client.stream.send(client.parser.send(event) or b"")
    return await client.receive()


class TestOnSockets:
    """On both loops, in real time."""

    @pytest.fixture(params=["trio", "asyncio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Return a loop with the system's clock."""
        return str(request.param)

    @pytest.mark.parametrize("target", ["/nothing", "/accounts/alice/balance", "/openapi.json", "/accounts/alice"])
    async def test_a_connection_goes_on_after_an_answer_to_a_body_nobody_reads(self, target: str) -> None:
        """The body comes after the app could answer: it is refused all the same, and the next request served."""
        async with open_engine_server(World(MinimalEngine())) as server, connected(server.port) as client:
            for number in range(3):
                with anyio.fail_after(PATIENCE_S):
                    assert (await _exchange(client, "PUT", target, body=b"{}")).status in {404, 405}
                    created = await _exchange(client, "POST", "/accounts", body=b'{"id":"a%d"}' % number)
                    assert (created.status, created.json()) == (201, {"id": f"a{number}"})

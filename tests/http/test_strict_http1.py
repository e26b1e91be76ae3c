"""HTTP/1.1 that two parsers may read differently is refused on real sockets, and whole URLs are understood."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import anyio
import pytest

from settlement_core.http.asgi import Scope
from settlement_core.http.gate import AccessRules
from settlement_core.http.targets import in_origin_form
from tests.core.worlds import MinimalEngine, World
from tests.http.asgi import books
from tests.http.sockets import LOCAL, PATIENCE_S, connected, open_engine_server
from tests.http.test_server import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


SETTLE = b"POST /accounts/alice/settlements HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
KEY = b"idempotency-key: k\r\n"
BODY = b'{"amount":"1","scale":0}'
LENGTH = b"content-length: 24\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n18\r\n" + BODY + b"\r\n0\r\n"


async def answers_to(port: int, wire: bytes) -> bytes:
    """Send bytes and return all that is answered until the server closes the connection."""
    received = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        with anyio.fail_after(PATIENCE_S):
            try:
                await stream.send(wire)
                while True:
                    received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return received


REFUSED = {
    "length beside chunks": SETTLE + KEY + b"content-length: 24\r\n" + CHUNKED + b"\r\n",
    "chunks beside length": SETTLE + KEY + b"transfer-encoding: chunked\r\n" + LENGTH + BODY,
    "two lengths": SETTLE + KEY + b"content-length: 3\r\n" + LENGTH + BODY,
    "chunks in HTTP/1.0": SETTLE.replace(b"1.1", b"1.0") + KEY + CHUNKED + b"\r\n",
    "other encoding": SETTLE + KEY + CHUNKED.replace(b"chunked", b"gzip, chunked") + b"\r\n",
    "bare LF after a field": SETTLE + KEY.replace(b"\r", b"") + LENGTH + BODY,
    "bare LF after the request line": SETTLE.replace(b"1.1\r\n", b"1.1\n") + KEY + LENGTH + BODY,
    "only bare LFs": (SETTLE + KEY + LENGTH).replace(b"\r", b"") + BODY,
    "bare LF at the end": SETTLE + KEY + LENGTH.replace(b"\r\n\r\n", b"\r\n\n") + BODY,
    "bare LF at first": b"\n" + SETTLE + KEY + LENGTH + BODY,
    "bare CR": SETTLE + b"x: a\rb\r\n" + KEY + LENGTH + BODY,
    "folded line": SETTLE + KEY + b"x: y\r\n z\r\n" + LENGTH + BODY,
    "folded by a tab": SETTLE + KEY + b"x: y\r\n\tz\r\n" + LENGTH + BODY,
    "folded first line": SETTLE.replace(b"\r\nhost", b"\r\n host") + KEY + LENGTH + BODY,
    "bare LF in trailers": SETTLE + KEY + CHUNKED + b"x: y\n\r\n",
    "folded trailer": SETTLE + KEY + CHUNKED + b"x: y\r\n z\r\n\r\n",
    "space before the colon": SETTLE + b"x : y\r\n" + KEY + LENGTH + BODY,
    "HTTP/9.9": SETTLE.replace(b"1.1", b"9.9") + KEY + LENGTH + BODY,
    "HTTP/2.0": SETTLE.replace(b"1.1", b"2.0") + KEY + LENGTH + BODY,
    "HTTP/1.2": SETTLE.replace(b"1.1", b"1.2") + KEY + LENGTH + BODY,
    "HTTP/0.9": SETTLE.replace(b"1.1", b"0.9") + KEY + LENGTH + BODY,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bad chunk": SETTLE + KEY + CHUNKED.replace(b"18\r\n", b"0x18\r\n") + b"\r\n",
    "chunk with a bare LF": SETTLE + KEY + CHUNKED.replace(b"18\r\n", b"18\n") + b"\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_ambiguous_request_is_refused_and_its_connection_closed(name: str) -> None:
    """400, or 501 for an encoding we lack; a second request behind it, as smuggled, is not even read."""
    world = World(MinimalEngine())
    async with open_engine_server(world) as server, connected(server.port) as neighbour:
        await neighbour.create()
        kept = books(world.store)
        received = await answers_to(server.port, REFUSED[name] + SETTLE + b"idempotency-key: 2\r\n" + LENGTH + BODY)
        assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in received.lower()
        assert books(world.store) == kept


HEAD = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize(("length", "status"), [(16_384, b"200"), (16_385, b"431"), (17_000, b"431"), (60_000, b"431")])
@pytest.mark.parametrize("lines", [1, 60], ids=["one line", "many lines"])
@pytest.mark.parametrize("portion", [60_000, 5_000], ids=["at once", "in portions"])
async def test_a_whole_head_is_at_most_16_kib(length: int, status: bytes, lines: int, portion: int) -> None:
    """Counted with its last empty line, in however many lines and portions it comes."""
    room = length - len(HEAD) - len(b"connection: close\r\n\r\n")
    fields = [b"x: " + b"y" * (room // lines - 5) + b"\r\n"] * (lines - 1)
    fields.append(b"x: " + b"y" * (room - sum(map(len, fields)) - 5) + b"\r\n")
    wire = HEAD + b"".join(fields) + b"connection: close\r\n\r\n"
    assert len(wire) == length
    async with open_engine_server(World(MinimalEngine())) as server:
        received = b""
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            try:
                for start in range(0, length, portion):
                    await stream.send(wire[start : start + portion])
                    await anyio.sleep(0.001)
            except anyio.BrokenResourceError:
                pass
            try:
                while True:
                    received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
        # where the answer came before all had been sent, the system may have thrown it away
        assert received[9:12] in ({status} if length < 17_000 or portion > 5000 else {status, b""})


async def test_trailers_and_chunks_are_taken() -> None:
    """A body in chunks, with an extension and a trailer, is a settlement as any other."""
    world = World(MinimalEngine())
    wire = SETTLE + KEY + CHUNKED.replace(b"18\r\n", b"18;x=y\r\n") + b"trailer: x\r\n\r\n"
    async with open_engine_server(world) as server, connected(server.port) as client:
        await client.create()
        await client.stream.send(wire)
        assert (await client.receive()).status == 201
        await until(lambda: world.account().outgoing.settled == 1)


@pytest.mark.parametrize("target", [b"?", b"http://[", b"http:///accounts", b"ftp://localhost/accounts", b"accounts"])
@pytest.mark.parametrize("admin", [False, True], ids=["connector's", "operator's"])
async def test_a_target_that_is_no_url_is_refused_with_one_sentence(
    target: bytes, *, admin: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """400, on both ports, and no traceback in the log."""
    world = World(MinimalEngine())
    config = replace(LOCAL, admin_port=0)
    async with open_engine_server(world, config) as server:
        port = urlsplit(server.addresses.admin_url or "").port if admin else server.port
        assert port is not None
        wire = b"GET " + target + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        received = await answers_to(port, wire)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"the request's target is no URL" in received
    assert "Traceback" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)


async def test_a_whole_url_is_a_target_like_its_path() -> None:
    """RFC 9112, section 3.2.2: a server accepts the absolute form in requests."""
    world = World(MinimalEngine())
    async with open_engine_server(world, replace(LOCAL, admin_port=0)) as server, connected(server.port) as client:
        for number in range(2):
            created = await client.request(
                "POST",
                "http://localhost:7/accounts",
                ("content-type", "application/json"),
                body=b'{"id":"a%d"}' % number,
            )
            assert created.status == 201
        admin = urlsplit(server.addresses.admin_url or "").port
        assert admin is not None
        async with connected(admin) as operator:
            accounts = (await operator.request("GET", f"HTTP://127.0.0.1:{admin}/accounts?limit=7")).json()
            assert sorted(account["id"] for account in accounts) == ["a0", "a1"]
            assert (await operator.request("GET", "http://localhost/live")).status == 200


async def test_the_host_of_a_whole_url_is_checked_in_place_of_the_header() -> None:
    """RFC 9112: the header is ignored then. A name that was made to point here is refused in either place."""
    world = World(MinimalEngine())
    config = replace(LOCAL, access=AccessRules(allowed_hosts=("engine",)))
    async with open_engine_server(world, config) as server, connected(server.port) as client:
        for host, status in (("engine", 200), ("evil.example", 421), ("[::1]:80", 200)):
            assert (await client.request("GET", f"http://{host}/openapi.json")).status == status


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a", ("/a", b"/a")),
        ("http://h", ("/", b"/")),
        ("http://h/a%20b", ("/a b", b"/a%20b")),
        ("HTTPS://[::1]:1/a", ("/a", b"/a")),
        ("http://u@h/a", None),
        ("http://h:x/a", None),
        ("http://h\n/a", None),
        ("*", None),
        ("", None),
        ("h:443", None),
    ],
)
def test_targets_become_paths(path: str, found: tuple[str, bytes] | None) -> None:
    """Or nothing."""
    scope: Scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": []}
    scope["query_string"] = b"x"
    seen = in_origin_form(scope)
    assert (None if seen is None else (seen["path"], seen["raw_path"])) == found


def test_options_may_ask_for_the_server_itself() -> None:
    """RFC 9112, section 3.2.4."""
    scope: Scope = {"type": "http", "method": "OPTIONS", "path": "*", "headers": [], "query_string": b""}
    assert in_origin_form(scope) is scope

"""A running server under attack, on both loops: nothing falls, nothing leaks, and settlement goes on.

Every attack ends with a settlement of somebody else's being accepted and paid, and the server ending in order.
"""

from __future__ import annotations

import json
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import httpx2
import pytest
import trustme

from settlement_core.http import crowding
from settlement_core.http import settings as settings_module
from settlement_core.http.gate import AccessRules
from settlement_core.http.requests import Dialect
from settlement_core.http.tokens import hash_line
from settlement_core.server import ServerConfig, start_server
from settlement_core.values.errors import LocalError
from settlement_core.values.events import CoreStopped
from tests.cli.processes import MINIMAL, serving, write_engine
from tests.cli.processes import until as until_paid
from tests.core.worlds import MinimalEngine, World
from tests.http.asgi import books
from tests.http.sockets import HTTP_2, LOCAL, PATIENCE_S, Connection, Running, connected, open_engine_server
from tests.http.test_server import until

pytestmark = pytest.mark.anyio

KNOWN = AccessRules(allowed_hosts=("engine",))
"""The tests' clients call every server "engine"."""

JSON = ("content-type", "application/json")
OCTETS = ("content-type", "application/octet-stream")
GOOD = b'{"amount":"1","scale":0}'


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


class Talkative(MinimalEngine):
    """Answers every message with 60 kB."""

    async def handle_message(self, account_id: str, message: object) -> object:
        """Answer."""
        return "x" * 60_000


@dataclass
class Attacked:
    """A server under attack, and the neighbour who only wants to settle."""

    world: World
    server: Running
    headers: tuple[tuple[str, str], ...] = ()
    base: str = ""
    settled: int = 0
    sockets: list[anyio.abc.SocketStream] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Return the port of the Settlement Engine HTTP API."""
        return self.server.port

    @property
    def admin_port(self) -> int:
        """Return the port of the operator's API."""
        port = urlsplit(self.server.addresses.admin_url or "").port
        assert port is not None
        return port

    async def settles(self) -> None:
        """Check that somebody new is served, and paid."""
        self.settled += 1
        async with connected(self.port) as client:
            headers = (JSON, ("idempotency-key", f"neighbour {self.settled}"), *self.headers)
            answer = await client.request("POST", f"{self.base}/accounts/alice/settlements", *headers, body=GOOD)
            assert answer.status == 201
        await until(lambda: self.world.account().outgoing.settled == self.settled)

    async def refuses(self, wire: bytes, port: int | None = None) -> bytes:
        """Send bytes, check that they are answered 4xx or not at all and change nothing; return the answer."""
        kept = books(self.world.store)
        received = b""
        async with await anyio.connect_tcp("127.0.0.1", port or self.port) as stream:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream), anyio.move_on_after(PATIENCE_S / 2):
                await stream.send(wire)
                while b"\r\n\r\n" not in received:
                    received += await stream.receive()
        assert received[:10] in {b"", b"HTTP/1.1 4"}, received[:200]
        assert books(self.world.store) == kept
        return received


@asynccontextmanager
async def attacked(
    config: ServerConfig = LOCAL,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    engine: Any = None,
    ends_within_s: float | None = None,
) -> AsyncIterator[Attacked]:
    """Serve for an attack; afterwards the neighbour settles, every unit has been paid once, and the server ends.

    It ends before its deadlines have passed, `ends_within_s` where that is given.
    """
    world = World(engine or MinimalEngine())
    known = replace(config.access, allowed_hosts=("engine",))
    config = replace(config, access=known, admin_access=replace(config.admin_access, allowed_hosts=("engine",)))
    base = config.dialect.base_path
    async with AsyncExitStack() as held, open_engine_server(world, config) as server:
        attack = Attacked(world, server, headers, base)
        async with connected(server.port) as client:
            body = b'{"id":"alice"}'
            assert (await client.request("POST", f"{base}/accounts", JSON, *headers, body=body)).status == 201
        yield attack
        for stream in attack.sockets:
            held.push_async_callback(anyio.aclose_forcefully, stream)
        await attack.settles()
        # those who hold their connections must not hold up its end
        began = anyio.current_time()
        server.stop.set()
        await until(lambda: world.ears.of(CoreStopped) != [])
        assert anyio.current_time() - began < (ends_within_s or config.drain_s + PATIENCE_S / 2)
    assert sum(world.engine.paid) == attack.settled == world.account().outgoing.entered


async def is_closed(stream: anyio.abc.ByteStream) -> bool:
    """Wait until the server has closed a connection, whatever it says before that."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await stream.receive()
    return True


# slow clients


async def test_heads_that_never_end_are_cut_however_busily_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slowloris: a byte now and then for each of fifty. The time for a head is bounded, not that for a byte."""
    monkeypatch.setattr(settings_module, "HEAD_S", 2.0)
    async with attacked() as attack:
        closed = 0

        async def dribble() -> None:
            nonlocal closed
            async with await anyio.connect_tcp("127.0.0.1", attack.port) as stream:
                await stream.send(b"POST /accounts HTTP/1.1\r\nhost: localhost\r\nx: ")
                async with anyio.create_task_group() as sending:

                    async def send() -> None:
                        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                            while True:
                                await stream.send(b"y")
                                await anyio.sleep(0.05)

                    sending.start_soon(send)
                    await is_closed(stream)
                    closed += 1
                    sending.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(dribble)
            await attack.settles()
        assert closed == 50


async def test_bodies_that_never_come_keep_nobody_out() -> None:
    """A hundred, on a server for twenty connections and two requests: they have to make room for who works."""
    access = AccessRules(max_connections=20, max_requests=2)
    head = b"POST /accounts/alice/settlements HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    async with attacked(replace(LOCAL, access=access, drain_s=0.3)) as attack:
        for _ in range(100):
            stream = await anyio.connect_tcp("127.0.0.1", attack.port)
            attack.sockets.append(stream)
            await stream.send(head + b"idempotency-key: k\r\ncontent-length: 25\r\n\r\n{")
        for _ in range(10):
            await attack.settles()


def stalled(streams: int) -> bytes:
    """Return what an HTTP/2 client sends that asks and opens no window for the answers."""
    client = h2.connection.H2Connection(config=h2.config.H2Configuration(validate_outbound_headers=False))
    client.local_settings.update({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.initiate_connection()
    for number in range(streams):
        pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/openapi.json")]
        client.send_headers(2 * number + 1, pseudo, end_stream=True)
    return client.data_to_send()


async def test_answers_that_nobody_reads_over_http_2_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 on each of ten connections, on a server for two requests: the connections are cut after a while."""
    monkeypatch.setattr(crowding, "SWEEP_S", 0.05)
    monkeypatch.setattr(crowding, "SEND_S", 0.5)
    async with attacked(replace(HTTP_2, access=AccessRules(max_requests=2))) as attack:
        for _ in range(10):
            stream = await anyio.connect_tcp("127.0.0.1", attack.port)
            attack.sockets.append(stream)
            await stream.send(stalled(32))
        await attack.settles()
        for stream in attack.sockets:
            assert await is_closed(stream)


async def test_clients_that_go_without_reading_leave_nothing_behind() -> None:
    """Over HTTP/2, with 32 answers each that they opened no window for: at the end there is nothing to wait for."""
    config = replace(HTTP_2, access=AccessRules(max_requests=2), drain_s=PATIENCE_S)
    async with attacked(config, ends_within_s=PATIENCE_S / 2) as attack:
        for _ in range(10):
            async with await anyio.connect_tcp("127.0.0.1", attack.port) as stream:
                await stream.send(stalled(32))
                await stream.receive()


async def ask_without_reading(stream: anyio.abc.ByteStream) -> None:
    """Ask for megabytes until the server takes no more."""
    wire = b"POST /accounts/alice/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n"
    with suppress(anyio.BrokenResourceError), anyio.move_on_after(1):
        await stream.send((wire + b'content-length: 4\r\n\r\n"hi"') * 500)


async def test_a_client_that_does_not_read_does_not_keep_the_server_from_ending() -> None:
    """Five, each with thirty megabytes to come. What they are sent is shielded from every deadline but ours."""
    async with attacked(replace(LOCAL, drain_s=0.3), engine=Talkative()) as attack:
        for _ in range(5):
            attack.sockets.append(await anyio.connect_tcp("127.0.0.1", attack.port))
            await ask_without_reading(attack.sockets[-1])


async def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, which is short here."""
    monkeypatch.setattr(crowding, "SWEEP_S", 0.05)
    monkeypatch.setattr(crowding, "SEND_S", 0.5)
    async with attacked(replace(LOCAL, drain_s=0.3), engine=Talkative()) as attack:
        stream = await anyio.connect_tcp("127.0.0.1", attack.port)
        attack.sockets.append(stream)
        await ask_without_reading(stream)
        await anyio.sleep(0.7)  # reading, it would not be cut
        assert await is_closed(stream)


# many


async def hold(attack: Attacked, number: int) -> None:
    """Open so many connections and keep them."""

    async def connect() -> None:
        attack.sockets.append(await anyio.connect_tcp("127.0.0.1", attack.port))

    for first in range(0, number, 100):
        async with anyio.create_task_group() as tasks:
            for _ in range(first, min(first + 100, number)):
                tasks.start_soon(connect)


async def test_connections_beyond_the_limit_make_room_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand silent ones on a server for fifty; whoever works is served, throughout, and the oldest are closed."""
    monkeypatch.setattr(settings_module, "HEAD_S", 10 * PATIENCE_S)
    async with attacked(replace(LOCAL, access=AccessRules(max_connections=50))) as attack:
        for _ in range(4):
            await hold(attack, 250)
            await attack.settles()
        for stream in attack.sockets[:750]:
            assert await is_closed(stream)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("backend", "number"), [("trio", 10_000), ("asyncio", 2_000)])
def test_ten_thousand_connections_are_survived(backend: str, number: int, tmp_path: Path) -> None:
    """Or as many as this process may have: half of them silent, half with half a request; the server is another's."""
    number = min(number, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000)
    engine = write_engine(tmp_path, MINIMAL)
    paid = tmp_path / "paid"
    with (
        ExitStack() as held,
        serving(
            str(engine), "--backend", backend, "--store", f"sqlite:{tmp_path}/s.db", folder=tmp_path, PAID=str(paid)
        ) as server,
    ):
        assert server.create() == 201
        where = urlsplit(server.url)
        for count in range(number):
            attacker = held.enter_context(socket.create_connection((where.hostname, where.port), PATIENCE_S))
            if count % 2:
                with suppress(OSError):
                    attacker.send(b"POST /accounts HTTP/1.1\r\nhost: localhost\r\n")
            if count % 1000 == 999:
                assert server.settle("1", f"key {count}") == 201
        until_paid(lambda: total_of(paid) == number // 1000, "for all of it to be paid")
        assert server.stop() == 0
        assert "ERROR" not in server.log.read_text()
    assert total_of(paid) == number // 1000


def total_of(paid: Path) -> int:
    """Return what the engine's file says was paid."""
    return sum(int(line.split()[1]) for line in paid.read_text().splitlines()) if paid.exists() else 0


async def test_streams_that_are_reset_as_soon_as_they_are_opened_harm_nobody() -> None:
    """Rapid reset over HTTP/2, a thousand times."""
    async with attacked(HTTP_2) as attack:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/accounts")]
        async with await anyio.connect_tcp("127.0.0.1", attack.port) as stream:
            with suppress(anyio.BrokenResourceError):
                for number in range(1000):
                    client.send_headers(2 * number + 1, head)
                    client.reset_stream(2 * number + 1)
                    await stream.send(client.data_to_send())
            await attack.settles()


# what is sent


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"x: y\r\n" * 101, b"431"),
        (b"x: " + b"y" * 100_000 + b"\r\n", b"431"),
        (b"".join(b"x%d: %s\r\n" % (n, b"y" * 1000) for n in range(90)), b"431"),
        (b"x" * 100_000 + b": y\r\n", b"431"),
        (b"x: y\r\n y\r\n" * 20_000, b"4"),
        (b"content-length: 24\r\ncontent-length: 25\r\n" * 25, b"4"),
    ],
    ids=["many", "long", "many and long", "long name", "folded", "contradictory"],
)
async def test_floods_of_headers_are_refused(fields: bytes, status: bytes) -> None:
    """Before a byte of the body is looked at."""
    async with attacked() as attack:
        answer = await attack.refuses(b"POST /accounts HTTP/1.1\r\nhost: localhost\r\n" + fields + b"\r\n")
        assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status)


async def test_floods_of_headers_over_http_2_are_refused() -> None:
    """Too many, too long, or small on the wire and huge when unpacked."""
    async with attacked(HTTP_2) as attack:
        for fields in ([("x", "y")] * 200, [("x", "y" * 70_000)], [("cookie", "y" * 4000)] * 30):
            client = h2.connection.H2Connection()
            client.initiate_connection()
            head = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/accounts")]
            client.send_headers(1, head + fields, end_stream=True)
            async with await anyio.connect_tcp("127.0.0.1", attack.port) as stream:
                await stream.send(client.data_to_send())
                statuses = await statuses_of(client, stream)
            assert statuses in ([], [b"431"])
        await attack.settles()


async def statuses_of(client: h2.connection.H2Connection, stream: anyio.abc.ByteStream) -> list[bytes]:
    """Return the statuses that a client is answered until it is left alone."""
    found: list[bytes] = []
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError), anyio.move_on_after(0.5):
        while not found:
            for event in client.receive_data(await stream.receive()):
                if isinstance(event, h2.events.ResponseReceived):
                    found += [value for name, value in event.headers or [] if name == b":status"]
    return found


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b" " * 20_000, 413),
        (b" " * 5_000_000, 413),
        (b"[" * 8000, 400),
        (b'{"amount":' * 1500, 400),
        (b'{"amount":"%s","scale":0}' % (b"9" * 10_000), 400),
        (b'{"amount":"1","scale":%s}' % (b"9" * 10_000), 400),
    ],
    ids=["large", "huge", "nested arrays", "nested objects", "long amount", "long scale"],
)
async def test_huge_and_nested_bodies_are_refused(body: bytes, status: int) -> None:
    """With one sentence, or the end of the connection in the middle of five megabytes."""
    async with attacked() as attack, connected(attack.port) as client:
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            answer = await client.request(
                "POST", "/accounts/alice/settlements", JSON, ("idempotency-key", "k"), body=body
            )
            assert answer.status == status
            assert len(answer.json()["detail"]) < 200


PATH = "/0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "path",
    [
        b"/accounts",
        b"//accounts",
        b"/./accounts",
        b"/../accounts",
        b"/%2e%2e/accounts",
        b"/..%2faccounts",
        b"/%2faccounts",
        b"/\\accounts",
        b"/accounts%00",
        b"/%00/accounts",
        b"/accounts;x",
        b"/accounts?" + PATH.encode(),
        b"/accounts#" + PATH.encode(),
        PATH.encode() + b"0/accounts",
        PATH.encode()[:-1] + b"/accounts",
        PATH.upper().encode() + b"/accounts",
        b"/x" + PATH.encode() + b"/accounts",
        b"http://localhost/accounts",
        b"*",
        b"/" + b"a" * 15_000,
        b"/" + b"a/" * 7_000,
        b"/" * 15_000 + b"accounts",
        b"/" + b"a" * 100_000,
        b"/" + b"%2e" * 5_000,
    ],
    ids=lambda path: path[:30].decode("ascii", "replace"),
)
async def test_no_trick_with_a_path_gets_around_the_secret_one(path: bytes) -> None:
    """Nothing is created, whatever the path is made of."""
    config = replace(LOCAL, dialect=Dialect(base_path=PATH))
    async with attacked(config) as attack:
        head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n"
        answer = await attack.refuses(head % path + b'{"id":"mallet"}')
        assert PATH.encode() not in answer


# who asks


async def test_a_request_that_is_replayed_is_settled_once_and_a_forged_one_not_at_all() -> None:
    """Fifty copies at once over ten connections; the same key with another amount, or for another account."""
    async with attacked() as attack:
        await attack.settles()
        attack.settled = 0
        statuses: list[int] = []

        async def replay() -> None:
            async with connected(attack.port) as client:
                for amount in ("1", "1", "1000", "1", "1", "1"):
                    answer = await client.settle(amount, "neighbour 1")
                    statuses.append(answer.status)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(replay)
        assert statuses.count(201) == 50
        assert statuses.count(409) == 10
        async with connected(attack.port) as client:
            assert (await client.settle("1", "neighbour 1", "nobody")).status == 404


SITE = ("origin", "http://evil.example")


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ([("content-type", "application/x-www-form-urlencoded"), SITE], (403, 403)),
        ([("content-type", "multipart/form-data; boundary=x"), SITE], (403, 403)),
        ([("content-type", "text/plain"), SITE], (403, 403)),
        ([("content-type", "application/json"), SITE], (403, 403)),
        ([("content-type", "text/plain"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], (403, 403)),
        ([("content-type", "text/plain"), ("origin", "null")], (403, 403)),
        ([("content-type", "text/plain")], (415, 400)),
        ([], (415, 400)),
    ],
)
async def test_a_page_of_another_site_settles_and_decides_nothing(
    headers: list[tuple[str, str]], statuses: tuple[int, int]
) -> None:
    """A form or a script, to the connector's API and to the operator's; even of a browser that hides where it is."""
    async with attacked(replace(LOCAL, admin_port=0)) as attack:
        async with connected(attack.port) as page:
            key = ("idempotency-key", "a key")
            answer = await page.request("POST", "/accounts/alice/settlements", key, *headers, body=GOOD)
            assert answer.status == statuses[0]
        async with connected(attack.admin_port) as page:
            told = {"settlement_id": "x", "account_id": "alice", "reason": "because", "by": "mallet"}
            answer = await page.request("POST", "/suspense/assign", *headers, body=json.dumps(told).encode())
            assert answer.status == statuses[1]


async def test_a_page_of_another_site_reads_nothing_of_the_books() -> None:
    """Neither by a script nor as an image, and its question beforehand (CORS) is refused."""
    async with attacked(replace(LOCAL, admin_port=0)) as attack:
        for method, headers in (
            ("GET", [SITE]),
            ("GET", [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]),
            ("GET", [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]),
            ("OPTIONS", [SITE, ("access-control-request-method", "GET")]),
        ):
            async with connected(attack.admin_port) as page:
                answer = await page.request(method, "/accounts", *headers)
                assert answer.status == 403
                assert b"alice" not in answer.body
                assert not any(name.startswith("access-control") for name in answer.headers)


async def test_a_name_that_was_made_to_point_here_is_refused_on_both_ports() -> None:
    """DNS rebinding: to its browser, such a page is of the same site."""
    async with attacked(replace(LOCAL, admin_port=0)) as attack:
        for port in (attack.port, attack.admin_port):
            head = b"GET /accounts HTTP/1.1\r\nhost: evil.example:%d\r\norigin: http://evil.example:%d\r\n\r\n"
            answer = await attack.refuses(head % (port, port), port)
            assert answer.startswith(b"HTTP/1.1 421")
            # who says neither name nor site is no browser; who hides both may be
            answer = await attack.refuses(b"GET /nothing HTTP/1.0\r\norigin: null\r\n\r\n", port)
            assert answer.startswith(b"HTTP/1.1 403")
            answer = await attack.refuses(b"GET /nothing HTTP/1.0\r\n\r\n", port)
            assert answer.startswith(b"HTTP/1.1 404")


async def test_guessing_tokens_opens_nothing_and_slows_nobody(tmp_path: Path) -> None:
    """Five hundred guesses over five connections, beyond what one address may ask."""
    path = tmp_path / "tokens"
    path.write_text(hash_line("alice", "the token"))
    access = AccessRules(tokens=str(path), requests_per_s=5)
    good = ("authorization", "Bearer the token")
    async with attacked(replace(LOCAL, access=access), headers=(good,)) as attack:
        statuses: set[int] = set()

        async def guess(first: int) -> None:
            async with connected(attack.port) as client:
                for number in range(100):
                    bad = ("authorization", f"Bearer guess {first + number}")
                    answer = await client.request("POST", "/accounts/alice/settlements", bad, body=GOOD)
                    statuses.add(answer.status)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(guess, 100 * number)
            await attack.settles()
        assert statuses == {401, 429}


async def test_a_client_without_a_certificate_is_not_heard_by_the_operators_api(tmp_path: Path) -> None:
    """One with the authority's is."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = str(tmp_path / "server.pem")
    config = replace(
        LOCAL, admin_port=0, admin_certfile=pem, admin_keyfile=pem, admin_ca_certs=str(tmp_path / "ca.pem")
    )
    async with attacked(config) as attack:
        url = attack.server.addresses.admin_url or ""
        assert url.startswith("https://")
        for known in (True, False):
            context = ssl.create_default_context()
            authority.configure_trust(context)
            if known:
                authority.issue_cert("ann").configure_cert(context)
            async with httpx2.AsyncClient(base_url=url, verify=context, trust_env=False) as client:
                if known:
                    assert (await client.get("/accounts")).json()[0]["id"] == "alice"
                else:
                    with pytest.raises(httpx2.TransportError):
                        await client.get("/accounts")


STRANGERS = "where strangers could move money: give "


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("admin", [False, True])
async def test_it_does_not_listen_where_strangers_come_by(host: str, *, admin: bool) -> None:
    """Unless something keeps them out: one sentence that names all that could, before the engine is made."""
    world = World(MinimalEngine())
    changes: dict[str, Any] = {"admin_host": host, "admin_port": 0} if admin else {"host": host}
    with pytest.raises(LocalError) as refused:
        await start_server(
            world.connect, store=world.store, connector=world.connector, config=replace(LOCAL, **changes)
        )
    ways = "--admin-tokens or --admin-client-ca" if admin else "--tokens, --client-ca, or a --base-path of at least 16"
    assert str(refused.value).startswith(f"refusing to listen on {host}:")
    assert STRANGERS + ways in str(refused.value)
    assert "--insecure-listen" in str(refused.value)
    assert world.services == []


async def test_it_listens_anywhere_if_something_keeps_strangers_out(tmp_path: Path) -> None:
    """A token, a certificate or a secret path each do, as does a person's word; a short path does not."""
    (tmp_path / "tokens").write_text(hash_line("alice", "x"))
    tokens = AccessRules(tokens=str(tmp_path / "tokens"))
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem, ca = str(tmp_path / "server.pem"), str(tmp_path / "ca.pem")
    both = {"host": "0.0.0.0", "admin_host": "0.0.0.0", "admin_port": 0}
    enough: list[dict[str, Any]] = [
        {"access": tokens, "host": "0.0.0.0"},
        {"dialect": Dialect(base_path="/0123456789abcdef"), "host": "0.0.0.0"},
        {"certfile": pem, "keyfile": pem, "ca_certs": ca, "host": "0.0.0.0"},
        {"admin_access": tokens, "admin_host": "0.0.0.0", "admin_port": 0},
        {"admin_certfile": pem, "admin_keyfile": pem, "admin_ca_certs": ca, "admin_host": "0.0.0.0", "admin_port": 0},
        {"insecure_listen": True, **both},
    ]
    for changes in enough:
        async with open_engine_server(World(MinimalEngine()), replace(LOCAL, **changes)) as server:
            assert server.port
    world = World(MinimalEngine())
    for changes in (
        {"dialect": Dialect(base_path="/0123456789/abcde"), "host": "0.0.0.0"},
        {"certfile": pem, "keyfile": pem, "host": "0.0.0.0"},
        {"access": tokens, **both},
        {"admin_access": tokens, **both},
    ):
        with pytest.raises(LocalError, match="refusing to listen"):
            await start_server(
                world.connect, store=world.store, connector=world.connector, config=replace(LOCAL, **changes)
            )


async def garbage(client: Connection) -> None:
    """Send what is no HTTP."""
    await client.stream.send(b"\x00" * 10_000)


async def half_a_request(client: Connection) -> None:
    """Send the beginning of one."""
    await client.stream.send(b"GET /accounts HTTP/1.1\r\nhost: localhost\r\n")


@pytest.mark.parametrize("attack_with", [garbage, half_a_request], ids=lambda attack: attack.__name__)
async def test_clients_that_come_and_go_leave_no_connection_behind(attack_with: Callable[[Connection], Any]) -> None:
    """Three hundred, one after the other, on a server for twenty."""
    async with attacked(replace(LOCAL, access=AccessRules(max_connections=20))) as attack:
        for _ in range(300):
            async with connected(attack.port) as client:
                await attack_with(client)
        await attack.settles()

"""Who may ask: what the gate refuses changes nothing and tells nothing, and what it lets in is served as ever."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from settlement_core.cli.options import read_base_path
from settlement_core.cli.tokens import token as token_command
from settlement_core.core.core import open_core
from settlement_core.http.access import Access
from settlement_core.http.app import create_bare_app, make_quart
from settlement_core.http.gate import AccessRules, Gate
from settlement_core.http.health import HEALTH_PATHS, add_health
from settlement_core.http.tokens import TokenFile, hash_line, new_token
from settlement_core.values.errors import LocalError
from tests.cli.processes import MINIMAL, PATIENCE_S, ask, run, serving, write_engine
from tests.cli.processes import until as until_real
from tests.core.stores import FlakyStore, unavailable
from tests.core.worlds import MinimalEngine, World, until
from tests.http.asgi import OCTETS, Answer, Client, Header, books

pytestmark = pytest.mark.anyio

GOOD = "a-token-of-43-characters-made-by-hand-000000"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Return a file that knows `GOOD`, as alice's."""
    path = tmp_path / "tokens"
    path.write_text(f"# connectors\n\n{hash_line('alice', GOOD)}\n")
    return path


def write(path: Path, *lines: str, append: bool = False) -> None:
    """Have a file hold these lines, or these as well."""
    path.write_text((path.read_text() if append else "") + "\n".join(lines))


@asynccontextmanager
async def guarded(world: World, **rules: Any) -> AsyncIterator[Client]:
    """Run one life of the core behind the app and a gate that knows the tests' clients as "engine"."""
    rules.setdefault("allowed_hosts", ("engine",))
    async with world.core() as core:
        app = create_bare_app(core)
        add_health(app, core)
        gate = Gate(AccessRules(**rules), name="the API", tokenless=HEALTH_PATHS)
        yield Client(Access(app, gate), core)  # type: ignore[arg-type]


async def settle(client: Client, *headers: Header, key: str = "a key") -> Answer:
    """Ask for a settlement of 1 with these headers as well."""
    body = b'{"amount":"1","scale":0}'
    fields = (("content-type", "application/json"), ("idempotency-key", key), *headers)
    return await client.request("POST", "/accounts/alice/settlements", *fields, body=body)


def bearer(token: str) -> Header:
    """Return the header that shows a token."""
    return ("authorization", f"Bearer {token}")


def basic(user: str, password: str) -> Header:
    """Return the header that a browser sends, or a client with a URL such as http://user:password@host."""
    return ("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


# tokens


@pytest.mark.parametrize(
    "header",
    [
        None,
        ("authorization", ""),
        ("authorization", "Bearer"),
        ("authorization", GOOD),
        bearer(""),
        bearer("x"),
        bearer(GOOD[:-1]),
        bearer(GOOD + "0"),
        bearer(GOOD.upper()),
        bearer("alice:" + GOOD),
        bearer(hash_line("alice", GOOD).partition(":")[2]),
        bearer(hash_line("alice", GOOD)),
        bearer(f"{GOOD} {GOOD}"),
        bearer("é" * 10_000),
        basic(GOOD, ""),
        basic("alice", "x"),
        ("authorization", "Basic ===="),
        ("authorization", "Basic \xff"),
        ("authorization", "Digest " + GOOD),
        ("x-authorization", "Bearer " + GOOD),
    ],
    ids=lambda header: "nothing" if header is None else header[1][:30] or "empty",
)
async def test_who_shows_no_token_that_is_known_gets_the_same_401_and_nothing_else(
    header: Header | None, tokens: Path
) -> None:
    """The very bytes, whatever was wrong; nothing is recorded, and the engine hears nothing."""
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens)) as client:
        await client.core.create_account("alice")
        kept = books(world.store)
        answer = await settle(client, *([header] if header else []))
        plain = await client.request("GET", "/nowhere", *([header] if header else []))
        assert (answer.status, answer.body) == (plain.status, plain.body)
        assert answer.status == 401
        assert answer.detail() == (
            "this server answers only who shows a token it knows, as in Authorization: Bearer TOKEN; nothing was "
            "recorded"
        )
        challenges = [value for name, value in answer.headers if name == "www-authenticate"]
        assert [challenge.split()[0] for challenge in challenges] == ["Bearer", "Basic"]
        assert books(world.store) == kept
    assert world.engine.calls == []


@pytest.mark.parametrize(
    "header", [bearer(GOOD), ("authorization", f"bearer  {GOOD}"), basic("", GOOD), basic("any body", GOOD)]
)
async def test_who_shows_a_token_settles(header: Header, tokens: Path) -> None:
    """As a bearer (RFC 6750), or as a password (RFC 7617), which browsers and URLs can carry."""
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens)) as client:
        await client.core.create_account("alice")
        assert (await settle(client, header)).status == 201
        await until(lambda: world.account().outgoing.settled == 1)


async def test_a_token_is_replaced_while_the_server_runs(tokens: Path) -> None:
    """Old and new work side by side; a second after the old one's line is gone it is refused."""
    other = new_token()
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens)) as client:
        assert (await client.request("GET", "/x", bearer(other))).status == 401
        write(tokens, hash_line("alice", other), append=True)
        await anyio.sleep(1)
        assert (await client.request("GET", "/x", bearer(other))).status == 404
        assert (await client.request("GET", "/x", bearer(GOOD))).status == 404
        write(tokens, hash_line("alice", other))
        await anyio.sleep(1)
        assert (await client.request("GET", "/x", bearer(GOOD))).status == 401
        assert (await client.request("GET", "/x", bearer(other))).status == 404
        write(tokens)
        await anyio.sleep(1)
        assert (await client.request("GET", "/x", bearer(other))).status == 401


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("oops " + GOOD), Path.unlink], ids=["nonsense", "gone"])
async def test_a_file_that_breaks_later_locks_nobody_out(
    spoil: Callable[[Path], object], tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it held goes on to hold; the log says so once, without what it read."""
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens)) as client:
        spoil(tokens)
        for _ in range(3):
            await anyio.sleep(1)
            assert (await client.request("GET", "/x", bearer(GOOD))).status == 404
            assert (await client.request("GET", "/x", bearer("x"))).status == 401
        complaints = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert len(complaints) == 1
        assert complaints[0].endswith("the tokens it held before go on to hold")
        write(tokens, hash_line("bob", "new"))
        await anyio.sleep(1)
        assert (await client.request("GET", "/x", bearer("new"))).status == 404
    assert GOOD not in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no token, so nobody could ask; make one with settlement-core token"),
        ("# nobody\n", "holds no token, so nobody could ask"),
        (f"{hash_line('a', 'b')}\n{GOOD}\n", "line 2 of "),
        (f"alice:{GOOD}", "is not NAME:SHA256, as settlement-core token makes them"),
        (hash_line("a b", GOOD), "is not NAME:SHA256"),
        (hash_line("a", GOOD).upper(), "is not NAME:SHA256"),
        ("\xff\xfe", "is not NAME:SHA256"),
    ],
)
def test_a_file_of_tokens_that_is_none_is_refused_at_the_start(content: str, sentence: str, tmp_path: Path) -> None:
    """In one sentence, which does not show what may be a token."""
    path = tmp_path / "tokens"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LocalError) as refused:
        TokenFile(str(path))
    assert sentence in str(refused.value)
    assert GOOD not in str(refused.value)
    with pytest.raises(LocalError, match="the tokens cannot be read: .*No such file"):
        TokenFile(str(tmp_path / "missing"))


def test_the_command_makes_a_token_of_which_the_file_keeps_a_hash(tmp_path: Path) -> None:
    """256 random bits, shown once; what was in the file stays, even where its last line has no end."""
    path = tmp_path / "tokens"
    first = CliRunner().invoke(token_command, ["alice", "--file", str(path)]).output.strip()
    path.write_text(path.read_text().rstrip())
    second = CliRunner().invoke(token_command, ["bob", "--file", str(path)]).output.strip()
    known = TokenFile(str(path))
    assert known.find(f"Bearer {first}".encode(), 0) == ("alice", "decide")
    assert known.find(f"Bearer {second}".encode(), 0) == ("bob", "decide")
    assert len(base64.urlsafe_b64decode(first + "=")) == 32
    assert first != second
    assert first not in path.read_text()
    assert hashlib.sha256(first.encode()).hexdigest() in path.read_text()
    third = CliRunner().invoke(token_command, ["rae", "--role", "read", "--file", str(path)]).output.strip()
    assert TokenFile(str(path)).find(f"Bearer {third}".encode(), 0) == ("rae", "read")
    shown = CliRunner().invoke(token_command, ["carol"]).output.split()
    assert shown[3] == hash_line("carol", shown[1])
    assert CliRunner().invoke(token_command, ["no name"]).exit_code == 2
    missing = CliRunner().invoke(token_command, ["dan", "--file", str(tmp_path / "no" / "folder")])
    assert isinstance(missing.exception, LocalError)
    assert str(missing.exception).endswith("it was not made")


# browsers


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:3000", True),
        ("localhost.", True),
        ("engine.localhost:3000", True),
        ("127.0.0.1", True),
        ("127.0.0.1:3000", True),
        ("192.0.2.7:3000", True),
        ("[::1]:3000", True),
        ("[2001:db8::7]", True),
        ("engine", True),
        ("Engine.:3000", True),
        ("evil.example", False),
        ("evil.example:3000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evillocalhost", False),
        ("engine.evil.example", False),
        ("engine@evil.example", False),
        ("[evil.example]", False),
        ("", False),
        ("\xff", False),
        ("a" * 10_000, False),
    ],
)
async def test_a_page_whose_name_was_made_to_point_here_is_refused(host: str, *, ours: bool) -> None:
    """DNS rebinding needs a name of the attacker's; addresses, localhost and our own names are not."""
    world = World(MinimalEngine())
    async with guarded(world) as client:
        await client.core.create_account("alice")
        answer = await settle(client, ("host", host))
        assert answer.status == (201 if ours else 421)
        if not ours:
            assert "--allowed-host" in answer.detail()
            assert ascii(host[:100]) in answer.detail()
    assert (world.account().outgoing.entered == 1) is ours


PAGE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("method", "headers", "welcome"),
    [
        ("POST", {}, True),
        ("POST", {"origin": "http://engine"}, True),
        ("POST", {"origin": "http://engine:8080"}, True),
        ("POST", {"origin": "http://engine:8080", "host": "127.0.0.1:3001"}, True),
        ("POST", {"origin": "http://127.0.0.1:3001", "host": "127.0.0.1:3001"}, True),
        ("POST", {"origin": "https://desk.example", "host": "127.0.0.1", "sec-fetch-site": "same-origin"}, True),
        ("POST", {"origin": "https://ENGINE", "sec-fetch-site": "same-origin"}, True),
        ("GET", {"sec-fetch-site": "none", **PAGE}, True),
        ("GET", {"sec-fetch-site": "cross-site", **PAGE}, True),
        ("POST", {"sec-fetch-site": "cross-site", **PAGE}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, False),
        ("POST", {"sec-fetch-site": "same-site"}, False),
        ("POST", {"sec-fetch-site": "something new"}, False),
        ("POST", {"origin": "http://evil.example"}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"origin": ""}, False),
        ("POST", {"origin": "http://engine.evil.example"}, False),
        ("POST", {"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:3001"}, False),
        ("POST", {"origin": "http://192.0.2.7", "host": "127.0.0.1"}, False),
        ("POST", {"origin": "http://localhost:8080", "host": "localhost:3001"}, False),
        ("POST", {"origin": "null", "sec-fetch-site": "cross-site"}, False),
        ("POST", {"origin": "http://engine", "sec-fetch-site": "cross-site"}, False),
        ("POST", {"origin": "http://engine", "sec-fetch-site": "same-site"}, False),
        ("OPTIONS", {"origin": "http://evil.example", "access-control-request-method": "POST"}, False),
        ("DELETE", {"origin": "http://evil.example"}, False),
    ],
)
async def test_pages_of_other_sites_ask_in_vain(method: str, headers: dict[str, str], *, welcome: bool) -> None:
    """By Fetch Metadata, or by Origin where a browser is old; following a link shows a page to a person only."""
    world = World(MinimalEngine())
    async with guarded(world) as client:
        answer = await client.request(method, "/", *headers.items())
        assert (answer.status != 403) is welcome
        if not welcome:
            assert answer.detail().startswith("a web page of another site may not ask this server: its ")
            compared = headers["sec-fetch-site" if "sec-fetch-site" in headers else "origin"]
            assert ascii(compared) in answer.detail()
            assert not [name for name, _ in answer.headers if name.startswith("access-control")]


# how much


async def test_a_client_that_asks_too_often_is_429_until_its_bucket_fills() -> None:
    """Two a second on average, four at once, by the second; nothing of what was refused is recorded."""
    world = World(MinimalEngine())
    async with guarded(world, requests_per_s=2) as client:
        await client.core.create_account("alice")
        statuses = [(await settle(client, key=f"{n}")).status for n in range(6)]
        assert statuses == [201, 201, 201, 201, 429, 429]
        answer = await settle(client, key="x")
        assert answer.header("retry-after") == "1"
        assert answer.detail()
        await anyio.sleep(0.5)
        assert [(await settle(client, key=f"more {n}")).status for n in range(2)] == [201, 429]
        await anyio.sleep(3600)
        assert [(await settle(client, key=f"later {n}")).status for n in range(5)] == [201] * 4 + [429]
    assert world.account().outgoing.entered == 9


async def test_each_token_has_its_own_bucket_and_guessing_uses_up_only_the_guesser_s(tokens: Path) -> None:
    """One address, three clients: two tokens, and one who guesses."""
    write(tokens, hash_line("bob", "bob's"), append=True)
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens), requests_per_s=1) as client:
        guesses = [(await client.request("GET", "/x", bearer(f"guess {n}"))).status for n in range(5)]
        assert guesses == [401, 401, 429, 429, 429]
        for token in (GOOD, "bob's"):
            assert [(await client.request("GET", "/x", bearer(token))).status for _ in range(3)] == [404, 404, 429]


class Gated(MinimalEngine):
    """Answers messages once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.waiting = 0

    async def handle_message(self, account_id: str, message: object) -> object:
        """Wait for the gate."""
        self.waiting += 1
        await self.gate.wait()
        return message


async def test_more_requests_than_we_can_work_on_are_told_to_come_again() -> None:
    """The third is 503 at once; those that send slowly do not count, and afterwards all is as before."""
    world = World(Gated())
    async with guarded(world, max_requests=2) as client, anyio.create_task_group() as tasks:
        await client.core.create_account("alice")
        answers: list[Answer | None] = []

        async def ask(*parts: bytes | float) -> None:
            answers.append(await client.send("POST", "/accounts/alice/messages", [OCTETS], parts))

        for _ in range(5):
            tasks.start_soon(ask, b'"', 3.0, b'slow"')
        for _ in range(2):
            tasks.start_soon(ask, b'"quick"')
        await until(lambda: world.engine.waiting == 2)
        busy = await settle(client)
        assert (busy.status, busy.header("retry-after")) == (503, "1")
        world.engine.gate.set()
        await until(lambda: len(answers) == 2)
        assert (await settle(client)).status == 201
        await until(lambda: len(answers) == 7)
        assert {answer.status for answer in answers if answer} == {201}
        assert (await settle(client)).status == 201
    assert world.account().outgoing.entered == 1


async def test_a_client_that_hangs_up_counts_no_longer() -> None:
    """However many do, in whatever part of their request."""
    world = World(MinimalEngine())
    async with guarded(world, max_requests=1) as client:
        await client.core.create_account("alice")
        for parts in ([b""], [b"{"], [b'{"amount":"1","scale":0}']):
            await client.send("POST", "/accounts/alice/settlements", [OCTETS], parts, hangs_up=True)
        assert (await settle(client)).status == 201


async def test_a_head_of_too_many_headers_is_431() -> None:
    """100 are let in, 101 are not."""
    world = World(MinimalEngine())
    async with guarded(world) as client:
        await client.core.create_account("alice")
        few = [("x", "y")] * (100 - 3)
        assert (await settle(client, *few)).status == 201
        answer = await settle(client, *few, ("x", "y"))
        assert (answer.status, answer.detail()) == (431, "a request has at most 100 headers; nothing was recorded")


async def test_a_refused_body_is_read_to_its_end_first(tokens: Path) -> None:
    """An answer that overtakes its request may never arrive: 401 comes after the last byte."""
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens)) as client:
        began = anyio.current_time()
        answer = await client.send("POST", "/accounts", [OCTETS], [b"x", 2.0, b"y"])
        assert answer is not None
        assert (answer.status, anyio.current_time() - began) == (401, 2.0)


async def test_websockets_pass_the_same_gate(tokens: Path) -> None:
    """Refused before they open, as a browser's page of another site is."""
    world = World(MinimalEngine())
    async with world.core() as core:
        gate = Gate(AccessRules(tokens=str(tokens)), name="the API")
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")], "client": None}
        await Access(create_bare_app(core), gate)(scope, receive, send)  # type: ignore[arg-type]
        assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_refusals_are_counted_in_the_log_at_most_once_a_minute(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a flood of requests is no flood of lines; of the request, only where it came from."""
    world = World(MinimalEngine())
    async with guarded(world, tokens=str(tokens)) as client:
        for _ in range(100):
            await client.request("GET", "/secret-path?x=secret", bearer("secret"))
        await anyio.sleep(60)
        await client.request("GET", "/secret-path", bearer("secret"))
    lines = [r.getMessage() for r in caplog.records if r.name == "settlement_core.http"]
    assert lines == [
        "the API: 1 refused, the last with 401, from 127.0.0.1",
        "the API: 100 refused, the last with 401, from 127.0.0.1",
    ]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("rules", [{"requests_per_s": 0}, {"requests_per_s": float("inf")}, {"max_requests": 0}])
def test_rules_that_let_nobody_in_are_refused(rules: dict[str, Any]) -> None:
    """Before anything starts."""
    with pytest.raises(LocalError, match="a rate is above 0|at least one"):
        AccessRules(**rules)


# the command line

SECRET_PATH = "/secretpath0123456789"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_server_with_all_of_it_serves_who_may_and_never_tells_a_secret(backend: str, tmp_path: Path) -> None:
    """Tokens for both ports, a secret path from the environment; the log, at its most talkative, holds none of them."""
    tokens = tmp_path / "tokens"
    connector, operator = (
        CliRunner().invoke(token_command, [name, "--file", str(tokens)]).output.strip() for name in ("connector", "ann")
    )
    engine = write_engine(tmp_path, MINIMAL)
    settings = [str(engine), "--store", f"sqlite:{tmp_path}/s.db", "--log-level", "debug", "--backend", backend]
    guards = ["--tokens", str(tokens), "--admin-tokens", str(tokens), "--host", "0.0.0.0"]
    secrets = {"SETTLEMENT_BASE_PATH": SECRET_PATH, "PAID": str(tmp_path / "paid")}
    shown = {"authorization": f"Bearer {connector}", "content-type": "application/json"}
    with serving(*settings, *guards, folder=tmp_path, **secrets) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert ask(url, "POST", f"{SECRET_PATH}/accounts", b'{"id":"alice"}')[0] == 401
        assert ask(url, "POST", "/accounts", b'{"id":"alice"}', **shown)[0] == 404
        assert ask(url, "POST", f"{SECRET_PATH}/accounts", b'{"id":"alice"}', **shown)[0] == 201
        assert ask(url, "POST", f"{SECRET_PATH}/accounts/alice/settlements", b"x", **shown)[0] == 400
        assert ask(url, "PUT", f"{SECRET_PATH}/nothing", b"x", **shown)[0] == 404
        key = {"idempotency-key": "a key"}
        target = f"{SECRET_PATH}/accounts/alice/settlements"
        assert ask(url, "POST", target, b'{"amount":"1","scale":0}', **shown, **key)[0] == 201
        where = ("accounts", "--admin-url", server.admin_url)
        refused = run(*where, code=2)
        assert "shows a token it knows" in refused.stderr
        assert "SETTLEMENT_ADMIN_TOKEN" in refused.stderr
        assert "alice" in run(*where, SETTLEMENT_ADMIN_TOKEN=operator).stdout
        (tmp_path / "token").write_text(operator + "\n")
        assert "alice" in run(*where, SETTLEMENT_ADMIN_TOKEN_FILE=str(tmp_path / "token")).stdout
        until_real((tmp_path / "paid").exists)
        assert server.stop() == 0
        told = server.log.read_text() + server.printed
    for secret in (SECRET_PATH.strip("/"), connector, operator):
        assert secret not in told


def test_what_is_wrong_with_settings_of_access_is_exit_code_2_and_one_sentence(tmp_path: Path) -> None:
    """Before anything listens."""
    engine = str(write_engine(tmp_path, MINIMAL))
    (tmp_path / "path").write_text("/\n")
    for arguments, sentence in (
        (["--host", "0.0.0.0"], "refusing to listen on 0.0.0.0:"),
        (["--base-path-file", str(tmp_path / "path")], "holds no base path"),
        (["--admin-client-ca", str(tmp_path / "path")], "--admin-client-ca needs --admin-certfile and --admin-keyfile"),
    ):
        settings = [engine, "--store", "memory:", "--port", "0", "--admin-port", "0", *arguments]
        refused = run("serve", *settings, code=2, cwd=tmp_path)
        assert sentence in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_secret_path_is_read_from_a_file(tmp_path: Path) -> None:
    """Without what editors add; said twice it is refused, for one of the two would be the wrong one."""
    file = tmp_path / "path"
    file.write_text(SECRET_PATH + "\n")
    assert read_base_path({"base_path": None, "base_path_file": str(file)}) == SECRET_PATH
    assert read_base_path({"base_path": "/x", "base_path_file": None}) == "/x"
    assert read_base_path({"base_path": None, "base_path_file": None}) == ""
    with pytest.raises(LocalError, match="the base path is said twice"):
        read_base_path({"base_path": "/x", "base_path_file": str(file)})


@pytest.mark.parametrize("address", ["file", "abstract"])
def test_a_service_manager_is_told_when_it_listens_and_when_it_begins_to_stop(address: str, tmp_path: Path) -> None:
    """By the datagrams that sd_notify(3) describes."""
    path = str(tmp_path / "notify") if address == "file" else f"@settlement-{tmp_path}"[:100]
    engine = str(write_engine(tmp_path, MINIMAL))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(path if address == "file" else "\0" + path[1:])
        line.settimeout(PATIENCE_S)
        with serving(engine, "--store", "memory:", folder=tmp_path, NOTIFY_SOCKET=path, PAID="x") as server:
            assert line.recv(100) == b"READY=1"
            assert server.create() == 201
            assert server.stop() == 0
            assert line.recv(100) == b"STOPPING=1"


# health


async def health(client: Client) -> tuple[int, int]:
    """Return the statuses of /live and /ready, having checked that they say nothing else."""
    answers = [await client.request("GET", path) for path in ("/live", "/ready")]
    for answer in answers:
        told = answer.json()
        assert told.pop("clock", "ok") == "ok"
        assert told == {"status": "ok" if answer.status == 200 else "not ready"}
        assert answer.header("cache-control") == "no-store"
    return answers[0].status, answers[1].status


async def test_health_needs_no_token_and_tells_the_truth(tokens: Path) -> None:
    """Ready once recovered, not while the store is away, again when it is back, and never while we stop."""
    store, world = FlakyStore(), World(MinimalEngine())
    async with open_core(world.connect, store=store, connector=world.connector, chance=lambda: 0.0) as core:
        app = make_quart()
        add_health(app, core)
        gate = Gate(AccessRules(tokens=str(tokens), allowed_hosts=("engine",)), name="x", tokenless=HEALTH_PATHS)
        client = Client(Access(app, gate), core)  # type: ignore[arg-type]
        store.failures = unavailable(10_000)
        assert await health(client) == (200, 503)
        assert not core.statistics().recovered
        store.failures = []
        await until(lambda: core.statistics().recovered)
        assert await health(client) == (200, 200)
        await anyio.sleep(1)
        store.failures = unavailable(10_000)
        began = anyio.current_time()
        assert await health(client) == (200, 503)
        assert anyio.current_time() - began == pytest.approx(2.0)
        store.failures = []
        await until(lambda: core.statistics().journal.pending == 0)
        await anyio.sleep(1)
        assert await health(client) == (200, 200)
        assert (await client.request("GET", "/ready/x")).status == 401
        assert (await client.request("POST", "/accounts")).status == 401
        core.refuse_new_work()
        assert await health(client) == (200, 503)


async def test_a_server_that_stops_while_its_store_is_asked_is_not_ready() -> None:
    """The store answers well, but later than the stop began: the answer is of the later moment."""
    store, world = FlakyStore(), World(MinimalEngine())
    async with open_core(world.connect, store=store, connector=world.connector, chance=lambda: 0.0) as core:
        app = make_quart()
        add_health(app, core)
        client = Client(app, core)
        await until(lambda: core.statistics().recovered)
        store.failures = unavailable(10_000)
        statuses: list[tuple[int, int]] = []

        async def ask() -> None:
            statuses.append(await health(client))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(0.5)
            core.refuse_new_work()
            store.failures = []
        assert statuses == [(200, 503)]


async def test_asking_for_health_costs_the_store_one_query_a_second() -> None:
    """Strangers may ask: a thousand at once while the store is away put one query into the journal, not a thousand."""
    store, world = FlakyStore(), World(MinimalEngine())
    async with open_core(world.connect, store=store, connector=world.connector, chance=lambda: 0.0) as core:
        app = make_quart()
        add_health(app, core)
        client = Client(app, core)
        await until(lambda: core.statistics().recovered)
        store.failures = unavailable(10_000)
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await client.request("GET", "/ready")).status)

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(ask)
        assert set(statuses) == {503}
        assert anyio.current_time() - began == pytest.approx(2.0)
        assert core.statistics().journal.pending <= 1
        store.failures = []

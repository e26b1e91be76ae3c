"""Whoever of us asks over HTTP has the same bounds, trusts the same authorities, and says what was wrong."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from settlement_core.abc import Acknowledged, Unanswered
from settlement_core.cli.client import Credentials
from settlement_core.cli.source import open_source
from settlement_core.cli.target import Target
from settlement_core.connector import open_connector
from settlement_core.engines.ethereum.rpc import NodeUnavailable, open_rpc
from settlement_core.observers._posting import open_receiver
from settlement_core.values.errors import ConnectorError, LocalError, SettlementError
from tests.connector.raw import Play, RawRequest, always, http, open_raw_server
from tests.outbound.stage import Authority, open_proxy

pytestmark = pytest.mark.anyio

Ask = Callable[..., Awaitable[str]]

BOMB = gzip.compress(b"0" * (60 * 2**20))
"""60 MiB in 60 KB."""

MUCH = 20 * 2**20


async def credit(url: str, *, ca_file: Path | None = None) -> str:
    """Credit once; return why that was not answered."""
    async with open_connector(url, timeout_s=5, ca_file=ca_file) as connector:
        outcome = await connector.credit("alice", Decimal(1), "key")
    assert isinstance(outcome, Acknowledged | Unanswered)
    return outcome.reason if isinstance(outcome, Unanswered) else ""


async def send_message(url: str, *, ca_file: Path | None = None) -> str:
    """Send a message once; return why that was not answered."""
    async with open_connector(url, timeout_s=5, ca_file=ca_file) as connector:
        try:
            await connector.send_message("alice", b"{}")
        except ConnectorError as problem:
            return str(problem)
    return ""


async def post_webhook(url: str, *, ca_file: Path | None = None, proxy: str | None = None) -> str:
    """Post a webhook once; return why it was not taken."""
    facts: dict[str, Any] = {"timeout_s": 5, "connections": 1, "transport": None}
    async with open_receiver(url, ca_file=ca_file, proxy=proxy, **facts) as receiver:
        return await receiver.post(b"{}", signature="x") or ""


async def call_node(url: str, *, ca_file: Path | None = None, proxy: str | None = None) -> str:
    """Call a node once; return why that was not answered."""
    ca = None if ca_file is None else str(ca_file)
    async with open_rpc(url, timeout_s=5, ca_file=ca, proxy=proxy) as rpc:
        try:
            await rpc.call("eth_chainId")
        except NodeUnavailable as problem:
            return str(problem)
    return ""


async def ask_server(url: str, *, ca_file: Path | None = None) -> str:
    """Ask a server's operator API once, as the command line does; return why that was not answered."""
    trusted = Credentials(authorities=None if ca_file is None else str(ca_file))
    target = Target(admin_url=url, ask_server=True, store=None, credentials=trusted)

    def ask() -> str:
        try:
            with open_source(target) as source:
                source.accounts("")
        except SettlementError as problem:
            return str(problem)
        return ""

    return await anyio.to_thread.run_sync(ask)


EVERYBODY: dict[str, Ask] = {
    "credits": credit,
    "messages": send_message,
    "webhooks": post_webhook,
    "node": call_node,
    "command line": ask_server,
}
IN_A_TASK = {name: ask for name, ask in EVERYBODY.items() if ask is not ask_server}
everybody = pytest.mark.parametrize("ask", EVERYBODY.values(), ids=EVERYBODY)
in_a_task = pytest.mark.parametrize("ask", IN_A_TASK.values(), ids=IN_A_TASK)

GOOD = http(200, b'{"jsonrpc":"2.0","id":0,"result":"0x1"}', "content-type: application/json")
LIST = http(200, b"[]", "content-type: application/json")


def good(ask: Ask) -> Play:
    """Return what answers a request well."""
    return always(LIST if ask is ask_server else GOOD)


@everybody
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP, identity"])
async def test_a_small_answer_never_unfolds_into_a_large_one(ask: Ask, encoding: str) -> None:
    """60 KB of gzip hold 60 MiB: they are not unpacked, and none was asked for."""
    async with open_raw_server(always(http(200, BOMB, f"content-encoding: {encoding}"))) as server:
        tracemalloc.start()
        try:
            await ask(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MUCH
    assert {request.header("accept-encoding")[0] for request in server.requests} == {"identity"}


@in_a_task
async def test_an_answer_that_never_ends_is_left_at_a_bound(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes without end is read no further than a bound, and no longer than the call may take."""
    monkeypatch.setattr("settlement_core.engines.ethereum.rpc.MAX_ANSWER", 2**20)
    sent = 0

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        nonlocal sent
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send(b"0" * 2**16)
            sent += 2**16

    async with open_raw_server(play) as server:
        with anyio.fail_after(30):
            await ask(server.url)
    assert sent < MUCH


async def test_the_command_line_leaves_an_endless_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so in one sentence."""
    monkeypatch.setattr("settlement_core.outbound.blocking.MAX_ANSWER", 2**20)
    async with open_raw_server(always(http(200, b"0" * 2**22))) as server:
        assert (await ask_server(server.url)).endswith("its answer is longer than 1048576 bytes")


@everybody
async def test_redirects_cookies_and_proxies_of_the_environment_are_not_obeyed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was configured decides who is asked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with open_raw_server(good(ask)) as elsewhere:
        moved = http(307, b"", f"location: {elsewhere.url}/", "set-cookie: a=b")
        async with open_raw_server(always(moved)) as server:
            await ask(server.url)
        assert len(server.requests) >= 1
        assert elsewhere.requests == []
        assert await ask(elsewhere.url) == ""


# certificates


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Return an authority that nobody has named yet."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return Authority(tmp_path)


@everybody
async def test_a_private_authority_is_trusted_once_the_environment_names_it(
    ask: Ask, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that, the sentence says what is wrong with the certificate, and how to name its authority."""
    async with open_raw_server(good(ask), tls=authority.server()) as server:
        reason = await ask(server.url)
        assert "the certificate is refused: unable to get local issuer certificate; name its authority by " in reason
        assert reason.endswith(" or SSL_CERT_FILE")
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert await ask(server.url) == ""


@everybody
async def test_a_private_authority_is_trusted_by_its_setting(ask: Ask, authority: Authority) -> None:
    """Where each server has an authority of its own."""
    async with open_raw_server(good(ask), tls=authority.server()) as server:
        assert await ask(server.url, ca_file=authority.file) == ""


@everybody
@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ({"expired": True}, "certificate has expired"),
        ({"name": "elsewhere.example"}, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
    ids=["expired", "another name"],
)
async def test_what_is_wrong_with_a_certificate_is_said(
    ask: Ask, server: dict[str, Any], reason: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another authority would not help, so none is asked for."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with open_raw_server(good(ask), tls=authority.server(**server)) as raw:
        assert (await ask(raw.url)).endswith(f"the certificate is refused: {reason}")
        assert raw.requests == []


@everybody
async def test_a_file_of_authorities_that_cannot_be_used_is_named(
    ask: Ask, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not with the first call."""
    missing = authority.file.with_name("missing.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(missing))
    sentence = f"cannot read the CA file '{missing}' for the "
    if ask is ask_server:
        assert sentence in await ask("https://127.0.0.1:1")
    else:
        with pytest.raises(LocalError, match=sentence):
            await ask("https://127.0.0.1:1")


# proxies


@pytest.mark.parametrize("ask", [post_webhook, call_node])
async def test_a_proxy_that_is_named_is_gone_through(ask: Ask, authority: Authority) -> None:
    """By a tunnel to a server with TLS, whose certificate is checked as ever; its user and password are shown to it."""
    async with open_raw_server(good(ask), tls=authority.server()) as server, open_proxy(user="me:hunter2") as proxy:
        through = partial(ask, server.url, proxy=proxy.url("me:hunter2@"))
        assert await through(ca_file=authority.file) == ""
        assert "unable to get local issuer" in await through()
        assert proxy.lines == [f"CONNECT {server.url.removeprefix('https://')} HTTP/1.1"] * 2
    assert len(server.requests) == 1
    assert server.requests[0].header("proxy-authorization") == []


@pytest.mark.parametrize("ask", [post_webhook, call_node])
async def test_a_proxy_that_refuses_is_named_without_its_password(ask: Ask, authority: Authority) -> None:
    """The reason says that it was the proxy."""
    async with open_raw_server(good(ask), tls=authority.server()) as server, open_proxy(user="me:hunter2") as proxy:
        reason = await ask(server.url, proxy=proxy.url("me:another-password@"), ca_file=authority.file)
    assert "407 Proxy Authentication Required" in reason
    assert "another" not in reason
    assert server.requests == []


async def test_without_tls_a_proxy_is_asked_for_the_whole_url() -> None:
    """It answers in the server's place."""
    async with open_proxy() as proxy:
        assert await post_webhook("http://receiver.example/hook?a=b", proxy=proxy.url()) == ""
    assert proxy.lines == ["POST http://receiver.example/hook?a=b HTTP/1.1"]


@pytest.mark.parametrize("ask", [post_webhook, call_node])
async def test_a_proxys_url_is_checked_like_any(ask: Ask) -> None:
    """With a sentence that repeats no password."""
    for url in ("socks5://me:hunter2@127.0.0.1:1", "127.0.0.1:3128", "http://me:hunter2@:1"):
        with pytest.raises(LocalError, match=r"cannot use the (webhook proxy|proxy to the node): ") as refused:
            await ask("https://127.0.0.1:1", proxy=url)
        assert "hunter2" not in str(refused.value)


# secrets


async def test_a_nodes_user_and_password_are_sent_and_not_shown() -> None:
    """They are in the URL, as providers have it."""
    async with open_raw_server(always(http(401, b'{"error":"no bTpo me hunter2"}'))) as server:
        url = server.url.replace("http://", "http://me:hunter%32@")
        reason = await call_node(url)
    assert json.loads(server.requests[0].body)["method"] == "eth_chainId"
    assert server.requests[0].header("authorization") == ["Basic bWU6aHVudGVyMg=="]
    assert "hunter2" not in reason

"""TLS: HTTP/2 by ALPN (RFC 38 recommends both), and clients that must show a certificate."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest
import trustme
from anyio.streams.tls import TLSAttribute

from settlement_core.server import ServerConfig, start_server
from settlement_core.values.errors import LocalError
from tests.core.worlds import MinimalEngine, World
from tests.http.sockets import LOCAL, PATIENCE_S, open_engine_server
from tests.http.test_server import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops, in real time."""
    return str(request.param)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return whom both sides trust."""
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the server's certificate and key, and the authority."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    trustme.CA().issue_cert("else.where").private_key_pem.write_to_path(folder / "other.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "nonsense.pem").write_text("no certificate")
    return folder


def tls_config(files: Path) -> ServerConfig:
    """Return settings for TLS without client certificates."""
    return replace(LOCAL, certfile=str(files / "server.pem"), keyfile=str(files / "server.key"))


def trusting(authority: trustme.CA, *, alpn: list[str] | None = None) -> ssl.SSLContext:
    """Return what a client needs."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


async def _settle(client: httpx2.AsyncClient, key: str) -> httpx2.Response:
    body = json.dumps({"amount": "5", "scale": 0})
    headers = {"content-type": "application/json", "idempotency-key": key}
    return await client.post("/accounts/alice/settlements", content=body, headers=headers)


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
async def test_a_settlement_over_tls_is_paid_once_in_either_version(
    files: Path, authority: trustme.CA, *, http2: bool, version: str
) -> None:
    """The client that offers h2 gets it; ten requests of one key on one connection are one settlement."""
    world = World(MinimalEngine())
    async with open_engine_server(world, tls_config(files)) as server:
        assert server.addresses.url == f"https://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(
            base_url=server.addresses.url, http2=http2, verify=trusting(authority), trust_env=False
        ) as client:
            created = await client.post("/accounts", json={"id": "alice"})
            assert (created.status_code, created.http_version) == (201, version)
            answers: list[httpx2.Response] = []

            async def settle() -> None:
                answers.append(await _settle(client, "one key"))

            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(settle)
            assert {(answer.status_code, answer.http_version) for answer in answers} == {(201, version)}
            assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
            await until(lambda: world.account().outgoing.settled == 5)
    assert world.engine.paid == [5]


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (None, None)])
async def test_alpn_chooses_http_2_if_the_client_knows_it(
    files: Path, authority: trustme.CA, offered: list[str] | None, chosen: str | None
) -> None:
    """And TLS is at least 1.2."""
    world = World(MinimalEngine())
    async with open_engine_server(world, tls_config(files)) as server:
        context = trusting(authority, alpn=offered)
        stream = await anyio.connect_tcp("127.0.0.1", server.port, ssl_context=context, tls_standard_compatible=False)
        async with stream:
            assert stream.extra(TLSAttribute.alpn_protocol) == chosen
            assert stream.extra(TLSAttribute.tls_version) in {"TLSv1.2", "TLSv1.3"}


async def test_a_large_body_over_http_2_is_413_and_the_connection_lives(files: Path, authority: trustme.CA) -> None:
    """One stream refused; the next one settles."""
    world = World(MinimalEngine())
    async with (
        open_engine_server(world, tls_config(files)) as server,
        httpx2.AsyncClient(
            base_url=server.addresses.url, http2=True, verify=trusting(authority), trust_env=False
        ) as client,
    ):
        await client.post("/accounts", json={"id": "alice"})
        headers = {"content-type": "application/json", "idempotency-key": "big"}
        answer = await client.post("/accounts/alice/settlements", content=b" " * 40_000, headers=headers)
        assert answer.status_code == 413
        assert (await _settle(client, "good")).status_code == 201
        await until(lambda: world.account().outgoing.settled == 5)


async def test_a_client_must_show_a_certificate_of_the_authority_if_told_so(files: Path, authority: trustme.CA) -> None:
    """One with it settles; one without, and one with a stranger's, are not even heard."""
    world = World(MinimalEngine())
    config = replace(tls_config(files), ca_certs=str(files / "ca.pem"))
    known, unknown = trusting(authority), trusting(authority)
    authority.issue_cert("connector").configure_cert(known)
    trustme.CA().issue_cert("connector").configure_cert(unknown)
    async with open_engine_server(world, config) as server:
        for context, welcome in ((known, True), (unknown, False), (trusting(authority), False)):
            async with httpx2.AsyncClient(base_url=server.addresses.url, verify=context, trust_env=False) as client:
                if welcome:
                    assert (await client.post("/accounts", json={"id": "alice"})).status_code == 201
                    assert (await _settle(client, "a")).status_code == 201
                else:
                    with pytest.raises(httpx2.TransportError):
                        await _settle(client, "b")
        await until(lambda: world.account().outgoing.settled == 5)
    assert world.account().outgoing.entered == 5


async def test_plain_http_on_the_tls_port_gets_nowhere(files: Path) -> None:
    """And does not disturb others."""
    world = World(MinimalEngine())
    async with open_engine_server(world, tls_config(files)) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
            with pytest.raises(httpx2.TransportError):
                await client.post("/accounts", json={"id": "alice"})


@contextmanager
def _refused(sentence: str) -> Iterator[None]:
    with pytest.raises(LocalError) as caught:
        yield
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("certfile", "keyfile", "ca_certs", "sentence"),
    [
        ("server.pem", None, None, "TLS needs a certificate and its key: give both --certfile and --keyfile"),
        (None, "server.key", None, "TLS needs a certificate and its key: give both --certfile and --keyfile"),
        (None, None, "ca.pem", "clients can only show a certificate over TLS: --client-ca needs --certfile"),
        ("server.pem", "other.key", None, "cannot serve TLS with "),
        ("nonsense.pem", "server.key", None, "cannot serve TLS with "),
        ("server.pem", "server.key", "nonsense.pem", "cannot serve TLS with "),
        ("missing.pem", "server.key", None, "cannot serve TLS with "),
    ],
)
async def test_half_a_tls_setting_is_refused_instead_of_serving_plain_http(
    files: Path, certfile: str | None, keyfile: str | None, ca_certs: str | None, sentence: str
) -> None:
    """Before anything listens or the engine is made."""
    names = {"certfile": certfile, "keyfile": keyfile, "ca_certs": ca_certs}
    chosen = {name: None if file is None else str(files / file) for name, file in names.items()}
    world = World(MinimalEngine())
    config = replace(LOCAL, **chosen)  # type: ignore[arg-type]
    with anyio.fail_after(PATIENCE_S), _refused(sentence):
        await start_server(world.connect, store=world.store, connector=world.connector, config=config)
    assert world.services == []

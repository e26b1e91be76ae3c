"""Opening a connector checks what it is given, proves who we are, and keeps secrets."""

from __future__ import annotations

import re
import ssl
from decimal import Decimal
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from settlement_core.abc import Acknowledged, Refused, Unanswered
from settlement_core.connector import open_connector
from settlement_core.values.errors import ConnectorError, LocalError
from tests.connector.raw import always, http, open_raw_server

pytestmark = pytest.mark.anyio

TOKEN = "s3cr3t-T0ken_~+/="

BAD_URLS = {
    "127.0.0.1:7771": "it must begin with http:// or https://",
    "localhost": "it must begin with http:// or https://",
    "ftp://localhost": "it must begin with http:// or https://",
    "": "it must begin with http:// or https://",
    "http://": "it names no host",
    "http:///accounts": "it names no host",
    "http://:7771": "it names no host",
    "http://localhost:port": "its host or port is malformed",
    "http://localhost:99999": "its host or port is malformed",
    "http://[::1": "its host or port is malformed",
    "http://user:hunter2@localhost": "it carries a user name or password",
    "http://user@localhost": "it carries a user name or password",
    "http://localhost?token=hunter2": "a base URL has neither query nor fragment",
    "http://localhost/?": "a base URL has neither query nor fragment",
    "http://localhost/#hunter2": "a base URL has neither query nor fragment",
    "http://localhost/a b": "it holds spaces, backslashes or characters outside ASCII",
    "http://localhost/a\nb": "it holds spaces, backslashes or characters outside ASCII",
    "http://localhost\\@evil": "it holds spaces, backslashes or characters outside ASCII",
    "http://h\u00f6st": "it holds spaces, backslashes or characters outside ASCII",
    "http://[v1.x]": "Invalid IPv6 address",
    "http://1.2.3.999": "Invalid IPv4 address",
    "http://localhost/a/../b": "its path holds dot segments",
}


@pytest.mark.parametrize("url", BAD_URLS)
async def test_a_bad_url_is_refused_at_once_with_one_sentence(url: str) -> None:
    """It says what is wrong, and repeats no password."""
    with pytest.raises(LocalError, match=re.escape(BAD_URLS[url])) as caught:
        async with open_connector(url):
            raise AssertionError
    assert str(caught.value).startswith("cannot use the connector URL: ")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h", "HTTP://H:1/", "https://[::1]:443/se/", "http://10.0.0.1/a/b~c_d.e-f"])
async def test_usual_urls_are_taken(url: str) -> None:
    """Names, addresses, ports and paths."""
    async with open_connector(url):
        pass


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"timeout_s": -1}, {"timeout_s": float("nan")}, {"max_connections": 0}]
)
async def test_limits_must_leave_something(options: dict[str, int]) -> None:
    """A connector that could never answer is refused."""
    with pytest.raises(LocalError, match="a connector needs timeout_s > 0 and max_connections >= 1"):
        async with open_connector("http://localhost", **options):  # type: ignore[arg-type]
            raise AssertionError


async def test_a_bearer_token_is_sent_with_everything() -> None:
    """The connector can tell that it is us."""
    async with (
        open_raw_server(always(http(201, b"ok"))) as server,
        open_connector(server.url, bearer_token=TOKEN) as connector,
    ):
        await connector.credit("alice", Decimal(1), "key-1")
        await connector.send_message("alice", b"hello")
    assert [request.header("authorization") for request in server.requests] == [[f"Bearer {TOKEN}"]] * 2


async def test_no_secret_is_ever_shown() -> None:
    """Neither token nor secret base path appears in repr or reasons, even if the connector echoes them."""
    echo = f"Cannot POST /hidden/accounts/alice with Authorization: Bearer {TOKEN}".encode()
    async with (
        open_raw_server(always(http(403, echo))) as server,
        open_connector(f"{server.url}/hidden", bearer_token=TOKEN) as connector,
    ):
        outcome = await connector.credit("alice", Decimal(1), "key-1")
        with pytest.raises(ConnectorError) as caught:
            await connector.send_message("alice", b"hello")
        told = [repr(connector), str(caught.value), repr(outcome)]
    assert isinstance(outcome, Refused)
    assert outcome.reason == "403 Forbidden: Cannot POST /[secret]/accounts/alice with Authorization: Bearer [secret]"
    for text in told:
        assert TOKEN not in text
        assert "hidden" not in text
    assert told[0] == f"<HttpConnector {server.url}, timeout 30 s>"


@pytest.mark.parametrize("token", ["", "two words", "line\r\nbreak", "schl\u00fcssel", "tab\there"])
async def test_a_token_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    """It is refused at once, not with every request."""
    with pytest.raises(LocalError, match=r"^cannot use the bearer token: it must be visible ASCII") as caught:
        async with open_connector("http://localhost", bearer_token=token):
            raise AssertionError
    assert not token or token not in str(caught.value)


# TLS


class Authority:
    """A certificate authority with a server and a client it vouches for, as files."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        client = self.ca.issue_cert("engine@example.com")
        self.client_pem = folder / "client.pem"
        client.private_key_and_cert_chain_pem.write_to_path(str(self.client_pem))
        self.client_cert = folder / "client.crt"
        client.cert_chain_pems[0].write_to_path(str(self.client_cert))
        self.client_key = folder / "client.key"
        client.private_key_pem.write_to_path(str(self.client_key))

    def server_context(self) -> ssl.SSLContext:
        """Return a server at 127.0.0.1 that lets in only clients this authority vouches for."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("127.0.0.1").configure_cert(context)
        self.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return one authority for all tests; making keys takes a while."""
    return Authority(tmp_path_factory.mktemp("tls"))


async def test_a_client_certificate_proves_who_we_are(authority: Authority) -> None:
    """In one file or in two, as the connector demands one."""
    async with open_raw_server(always(http(201, b"ok")), tls=authority.server_context()) as server:
        for certificate in (authority.client_pem, (authority.client_cert, authority.client_key)):
            async with open_connector(
                server.url, client_certificate=certificate, ca_file=authority.ca_file
            ) as connector:
                assert await connector.credit("alice", Decimal(1), "key-1") == Acknowledged()
                assert await connector.send_message("alice", b"hello") == b"ok"


async def test_without_the_certificate_the_credit_is_unanswered(authority: Authority) -> None:
    """A connector that turns us away at the door did not see the credit; configuration can repair that."""
    async with (
        open_raw_server(always(http(201)), tls=authority.server_context()) as server,
        open_connector(server.url, ca_file=authority.ca_file, timeout_s=5) as connector,
    ):
        assert isinstance(await connector.credit("alice", Decimal(1), "key-1"), Unanswered)
        assert server.requests == []


async def test_a_stranger_gets_no_credit(authority: Authority) -> None:
    """A server that only the wrong authority vouches for never sees the request."""
    async with (
        open_raw_server(always(http(201)), tls=authority.server_context()) as server,
        open_connector(server.url, client_certificate=authority.client_pem) as connector,
    ):
        outcome = await connector.credit("alice", Decimal(1), "key-1")
        assert isinstance(outcome, Unanswered)
        assert outcome.reason.startswith("no answer: the certificate is refused: ")
        assert outcome.reason.endswith("; name its authority by --connector-ca or SSL_CERT_FILE")
        assert server.requests == []


async def test_a_key_with_a_password_is_refused_instead_of_asking_the_terminal(
    authority: Authority, tmp_path: Path
) -> None:
    """An engine started by a machine has nobody to type it."""
    key = serialization.load_pem_private_key(authority.client_key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    with pytest.raises(LocalError, match="cannot use the client certificate"):
        async with open_connector("https://localhost", client_certificate=(authority.client_cert, locked)):
            raise AssertionError


async def test_files_that_cannot_be_used_are_refused_at_once(authority: Authority, tmp_path: Path) -> None:
    """Missing, wrong or useless: each is told by name when the connector is opened."""
    missing, wrong = tmp_path / "missing.pem", tmp_path / "wrong.pem"
    wrong.write_text("this is no certificate")
    url = "https://localhost"
    for path in (missing, wrong, authority.client_cert):
        with pytest.raises(LocalError, match=f"cannot use the client certificate .*{path.name}"):
            async with open_connector(url, client_certificate=path):
                raise AssertionError
    for path in (missing, wrong):
        with pytest.raises(LocalError, match=f"cannot read the CA file .*{path.name}' for the connector URL"):
            async with open_connector(url, ca_file=path):
                raise AssertionError
    with pytest.raises(LocalError, match="needs an https:// connector URL"):
        async with open_connector("http://localhost", client_certificate=authority.client_pem):
            raise AssertionError
    with pytest.raises(LocalError, match="needs an https:// connector URL"):
        async with open_connector("http://localhost", ca_file=authority.ca_file):
            raise AssertionError

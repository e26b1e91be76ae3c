"""SIGHUP has certificates read again, and never ends a server."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import pytest
import trustme

from tests.cli.processes import serving, until

ENGINE = """
class Engine:
    async def settle(self, account_id, amount):
        return amount


def connect(services):
    return Engine()
"""


def issue(folder: Path) -> str:
    """Put a new certificate into the files; return it."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert((folder / "server.pem").read_text()))


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_new_certificate_is_served_after_sighup(tmp_path: Path, backend: str) -> None:
    """To new connections, with no restart; a file that cannot be used is told, and the old certificate stays."""
    (tmp_path / "engine.py").write_text(ENGINE)
    first = issue(tmp_path)
    arguments = [f"{tmp_path / 'engine.py'}:connect", "--store", f"sqlite:{tmp_path / 'books.db'}"]
    arguments += ["--backend", backend, "--certfile", str(tmp_path / "server.pem")]
    with serving(*arguments, "--keyfile", str(tmp_path / "server.key"), folder=tmp_path) as server:
        port = int(server.url.rpartition(":")[2])

        def served() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)

        assert served() == first
        second = issue(tmp_path)
        assert served() == first
        server.signal(signal.SIGHUP)
        until(lambda: served() == second, "for the new certificate")
        (tmp_path / "server.pem").write_text("no certificate")
        server.signal(signal.SIGHUP)
        until(lambda: "the old certificate stays" in server.log.read_text(), "for the complaint")
        assert served() == second
        assert server.stop() == 0


def test_sighup_ends_no_server_without_certificates(tmp_path: Path) -> None:
    """A terminal that closes, or a habit of operators."""
    (tmp_path / "engine.py").write_text(ENGINE)
    arguments = [f"{tmp_path / 'engine.py'}:connect", "--store", f"sqlite:{tmp_path / 'books.db'}"]
    with serving(*arguments, folder=tmp_path) as server:
        for _ in range(3):
            server.signal(signal.SIGHUP)
        until(lambda: "SIGHUP" in server.log.read_text(), "for the signal")
        assert server.create("alice") == 201
        assert server.stop() == 0

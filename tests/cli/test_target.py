"""Whose books a command is about: what the command line says, then the environment, as in a container."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import trustme

import settlement_core
from settlement_core.cli import main
from settlement_core.store_urls import open_store
from settlement_core.values.commands import OpenAccount
from tests.cli.processes import MINIMAL, Server, run, serving, write_engine

GUIDE = Path(__file__).parents[2] / "examples" / "operations"


def store_with(folder: Path, account_id: str) -> str:
    """Make a store of one account that no server has open; return its URL."""
    url = f"sqlite:{folder / account_id}.db"
    with closing(open_store(url)) as store:
        store.apply([OpenAccount(account_id=account_id, at=1.0)])
    return url


def served(folder: Path, *arguments: str) -> tuple[str, ...]:
    """Return the arguments of a server of account `carol`."""
    return (str(write_engine(folder, MINIMAL)), "--store", f"sqlite:{folder / 's.db'}", *arguments)


def names(*arguments: str, **variables: str) -> list[str]:
    """Return the accounts that the command line sees."""
    shown = run("accounts", "--json", *arguments, code=0, cwd=None, **variables)
    return [account["id"] for account in json.loads(shown.stdout)]


def test_the_command_line_goes_before_the_environment(tmp_path: Path) -> None:
    """A named server is asked although the environment names a store, and a named store read although one serves."""
    other = store_with(tmp_path, "dave")
    with serving(*served(tmp_path), folder=tmp_path, PAID="x") as server:
        server.create("carol")
        url = server.admin_url
        assert names("--admin-url", url, SETTLEMENT_STORE=f"sqlite:{tmp_path / 's.db'}") == ["carol"]
        assert names("--admin-url", url, SETTLEMENT_STORE=other) == ["carol"]
        assert names("--store", other, SETTLEMENT_ADMIN_URL=url) == ["dave"]
        assert names(SETTLEMENT_STORE=other, SETTLEMENT_ADMIN_URL=url) == ["carol"], "a server answers"
        refused = run("accounts", "--store", other, "--admin-url", url, code=2)
        assert "say one of --store and --admin-url" in refused.stderr
        assert server.stop() == 0
    assert names(SETTLEMENT_STORE=other, SETTLEMENT_ADMIN_URL=url) == ["dave"], "no server answers"
    refused = run("accounts", "--admin-url", url, code=2, SETTLEMENT_STORE=other)
    assert refused.stderr.startswith(f"Error: no server answers at {url}: ")
    refused = run("accounts", code=2, SETTLEMENT_STORE=other, SETTLEMENT_ADMIN_URL="http://[::1")
    assert refused.stderr.startswith("Error: cannot use the admin URL: its host or port is malformed")


def test_the_commands_of_the_container_guide_work_in_its_environment(tmp_path: Path) -> None:
    """The image's variables are set, for `serve` and for what `docker exec` runs beside it."""
    image = dict(re.findall(r"(SETTLEMENT_\w+)=(\S+)", GUIDE.joinpath("Dockerfile").read_text()))
    assert set(image) == {"SETTLEMENT_STORE", "SETTLEMENT_LOG_FORMAT", "SETTLEMENT_HOST"}
    (guided,) = re.findall(r"`docker exec … settlement-core (\w+)`", GUIDE.joinpath("README.md").read_text())
    image |= {"SETTLEMENT_STORE": f"sqlite:{tmp_path / 's.db'}", "SETTLEMENT_INSECURE_LISTEN": "yes", "PAID": "x"}
    server = Server([str(write_engine(tmp_path, MINIMAL)), "--port", "0", "--admin-port", "0"], tmp_path, image)
    server.start()
    try:
        # as if its admin port were named by the environment, too
        port = {"SETTLEMENT_ADMIN_PORT": server.admin_url.rpartition(":")[2]}
        assert "the books are empty, and nothing waits for you" in run(guided, code=0, cwd=None, **image, **port).stdout
        assert names(**image, **port, SETTLEMENT_ADMIN_HOST="0.0.0.0") == []
    finally:
        server.kill()


def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    """By option, by our variable, by the usual one; without it the refusal names the option, and no store is opened."""
    certificate, authority = tmp_path / "server.pem", tmp_path / "authority.pem"
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(authority))
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    tls = ("--admin-certfile", str(certificate), "--admin-keyfile", str(certificate))
    with serving(*served(tmp_path, *tls), folder=tmp_path, PAID="x") as server:
        server_url = server.admin_url
        assert server_url.startswith("https://")
        assert names("--admin-url", server_url, "--admin-ca", str(authority)) == []
        for variable in ("SETTLEMENT_ADMIN_CA", "SSL_CERT_FILE"):
            assert names("--admin-url", server_url, **{variable: str(authority)}) == []
        here = {
            "SETTLEMENT_STORE": store_with(tmp_path, "dave"),
            "SETTLEMENT_ADMIN_CERTFILE": str(certificate),
            "SETTLEMENT_ADMIN_PORT": server_url.rpartition(":")[2],
        }
        assert names(**here, SETTLEMENT_ADMIN_CA=str(authority)) == [], "found from what serve was told"
        for where in (["--admin-url", server_url], []):
            refused = run("accounts", *where, code=2, cwd=None, **here)
            assert "the certificate is refused: " in refused.stderr
            assert "name its authority by --admin-ca or SSL_CERT_FILE" in refused.stderr


def test_every_variable_is_in_the_help() -> None:
    """Of every command together; but for those by which processes of one server know each other."""
    package = Path(settlement_core.__file__).parent
    used = {
        name for path in package.rglob("*.py") for name in re.findall(r"\"(SETTLEMENT_[A-Z0-9_]+)\"", path.read_text())
    }
    told = "".join(run(name, "--help").stdout for name in main.list_commands(None))  # type: ignore[arg-type]
    hidden = {"SETTLEMENT_WORKER_PLACE"}
    assert used - hidden - set(re.findall(r"SETTLEMENT_[A-Z0-9_]+", told)) == set()

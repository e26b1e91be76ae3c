"""`settlement-core serve` as a process: what it prints, how it ends, and what it takes from its environment."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.cli.processes import (
    MINIMAL,
    PATIENCE_S,
    Connector,
    Server,
    ask,
    open_connector,
    run,
    serving,
    until,
    write_engine,
)

LINE = re.compile(
    r"settlement engine (?P<target>\S+) on (?P<url>http://127\.0\.0\.1:\d+), "
    r"admin (?P<admin>http://127\.0\.0\.1:\d+), store (?P<store>[^\s,]+)(, which was created now)?\n"
)
TEXT_LOG = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) +\S")


@pytest.fixture(scope="module")
def connector() -> Iterator[Connector]:
    """Return a connector."""
    with open_connector() as connector:
        yield connector


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Return the minimal engine's file."""
    return write_engine(tmp_path, MINIMAL)


def start(engine: Path, connector: Connector, *arguments: str, **variables: str) -> AbstractContextManager[Server]:
    """Return a server with a store of its own."""
    folder = engine.parent
    variables.setdefault("PAID", str(folder / "paid"))
    settings = [str(engine), "--store", f"sqlite:{folder / 'store.db'}", "--connector-url", connector.url, *arguments]
    return serving(*settings, folder=folder, **variables)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_it_prints_one_line_logs_an_event_a_line_and_ends_with_0(
    backend: str, engine: Path, connector: Connector
) -> None:
    """A payment under way at SIGTERM is recorded first; nothing else is ever printed."""
    with start(engine, connector, "--backend", backend, "--log-level", "debug") as server:
        found = LINE.fullmatch(server.out.read_text())
        assert found is not None
        assert (found["target"], found["store"]) == (str(engine), f"sqlite:{engine.parent / 'store.db'}")
        assert server.create() == 201
        assert server.settle("17", "a key") == 201
        until(lambda: "attempt" in server.log.read_text())
        assert server.stop() == 0
        assert LINE.fullmatch(server.out.read_text())
    lines = server.log.read_text().splitlines()
    assert all(TEXT_LOG.match(line) for line in lines), lines
    said = "\n".join(lines)
    for event in ("settling with Engine", "is to settle 17 (key a key)", "SIGTERM: shutting down", "settled 17 of 17"):
        assert said.count(event) == 1
    assert lines[-1].endswith("stopped, 0 effects cut short")
    assert "CTRL + C" not in said, "hypercorn's own words"
    assert (engine.parent / "paid").read_text() == "alice 17\n"


def test_every_line_of_a_json_log_is_json_with_the_event_s_facts(engine: Path, connector: Connector) -> None:
    """For machines: type, level, time, and the facts by name; amounts as text."""
    with start(engine, connector, "--log-format", "json", "--log-level", "debug") as server:
        server.create()
        server.settle("13", "a key")
        until(lambda: "SettlementInDoubt" in server.log.read_text())
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "text"} <= line.keys() for line in lines)
    (doubt,) = [line for line in lines if line.get("event") == "SettlementInDoubt"]
    assert (doubt["level"], doubt["account_id"], doubt["amount"]) == ("error", "alice", "13")
    assert doubt["reason"] == "settle did not answer but raised ConnectionError: no answer from the ledger"
    assert {"CoreStarted", "SettlementRequested", "AttemptClaimed", "CoreStopped"} <= {
        line.get("event") for line in lines
    }


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_second_signal_cuts_what_is_under_way(backend: str, engine: Path, connector: Connector) -> None:
    """The payment would hang for ever, the shutdown for longer than is waited here; the next start puts it in doubt."""
    with start(engine, connector, "--backend", backend, "--shutdown", f"{2 * PATIENCE_S:g}") as server:
        server.create()
        server.settle("19", "a key")
        until(lambda: b'"settling"' in ask(server.admin_url, "GET", "/statistics")[1])
        server.signal(signal.SIGINT)
        until(lambda: "SIGINT: shutting down" in server.log.read_text())
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "SIGTERM again: stopping at once" in server.log.read_text()
        assert "Traceback" not in server.log.read_text()
        server.start()
        until(lambda: "19 is in doubt" in server.log.read_text())
        assert server.stop() == 0
    assert not (engine.parent / "paid").exists()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_an_engine_that_dies_is_exit_code_1_with_its_true_cause(
    backend: str, engine: Path, connector: Connector
) -> None:
    """Exactly one error line, though requests are open, and where in the engine's file it was raised."""
    with start(engine, connector, "--backend", backend, "--log-level", "error") as server:
        server.create()
        server.tell({"die": True})
        assert server.wait() == 1
    said = server.log.read_text()
    assert said.count("Error: ConnectionError: the ledger went away\n") == 1
    line = 1 + MINIMAL.splitlines().index('        raise ConnectionError("the ledger went away")')
    assert f'engine.py", line {line}, in listen' in said


def test_a_local_error_of_a_running_engine_is_exit_code_1_with_its_traceback(
    engine: Path, connector: Connector
) -> None:
    """Before it listens the same error is a setting to mend, exit code 2; then service managers must start it again."""
    source = MINIMAL.replace('raise ConnectionError("the ledger', 'raise LocalError("the ledger')
    imported = source.replace(
        "import anyio\n", "import anyio\nfrom settlement_core.values.errors import LocalError\n", 1
    )
    engine.write_text(imported)
    with start(engine, connector, "--log-level", "error") as server:
        server.create()
        server.tell({"die": True})
        assert server.wait() == 1
    said = server.log.read_text()
    assert "Error: the ledger went away\n" in said
    assert "in listen" in said
    engine.write_text(imported.replace("    died = anyio.Event()\n", '    raise LocalError("no such network")\n'))
    refused = run("serve", str(engine), "--port", "0", "--admin-port", "-1", "--store", "memory:", code=2, PAID="x")
    assert refused.stderr.endswith("Error: no such network\n")


def test_settings_come_from_the_environment_and_the_token_is_never_told(engine: Path, connector: Connector) -> None:
    """Every option has a variable; the token from its file is sent to the connector and appears nowhere else."""
    folder = engine.parent
    secret = "correct-horse-battery-staple"
    (folder / "token").write_text(secret + "\n")
    variables = {
        "SETTLEMENT_TARGET": str(engine),
        "SETTLEMENT_STORE": f"sqlite:{folder / 'other.db'}",
        "SETTLEMENT_CONNECTOR_URL": connector.url,
        "SETTLEMENT_CONNECTOR_TOKEN_FILE": str(folder / "token"),
        "SETTLEMENT_BASE_PATH": "/hidden",
        "SETTLEMENT_LOG_FORMAT": "json",
        "SETTLEMENT_LOG_LEVEL": "debug",
        "SETTLEMENT_CREATE_UNKNOWN_ACCOUNTS": "1",
        "PAID": str(folder / "paid"),
    }
    with serving(folder=folder, **variables) as server:
        assert server.settle("5", "a") == 404
        headers = {"content-type": "application/octet-stream"}
        status, _ = ask(server.url, "POST", "/hidden/accounts/bob/messages", b'{"credit":"3","id":"x"}', **headers)
        assert status == 201
        until(lambda: connector.total("bob") == 3)
        assert server.stop() == 0
        assert f"Bearer {secret}" in connector.authorizations
        assert secret not in server.out.read_text() + server.log.read_text()
    for line in server.log.read_text().splitlines():
        json.loads(line)
    assert (folder / "other.db").exists()


def test_the_token_may_be_a_variable_but_never_an_argument(engine: Path, connector: Connector) -> None:
    """Others can see arguments. A wrong setting beside it does not print it either."""
    secret = "correct-horse"
    refused = run("serve", str(engine), "--connector-token", secret, code=2)
    assert "No such option" in refused.stderr
    with start(engine, connector, "--log-level", "debug", SETTLEMENT_CONNECTOR_TOKEN=secret) as server:
        server.create("carol")
        server.tell({"credit": "3", "id": "y"}, "carol")
        until(lambda: connector.total("carol") == 3)
        assert f"Bearer {secret}" in connector.authorizations
        assert server.stop() == 0
        assert secret not in server.out.read_text() + server.log.read_text()
    refused = run("serve", str(engine), "--connector-url", "x://y", code=2, SETTLEMENT_CONNECTOR_TOKEN=secret)
    assert secret not in refused.stdout + refused.stderr


def test_the_store_is_printed_by_its_whole_path_and_told_as_new_once(tmp_path: Path, engine: Path) -> None:
    """A mistyped path shows at the first start: there was no store. `~` is the home directory, as in a shell."""
    home = {"HOME": str(tmp_path), "PAID": "x"}
    where = f"store sqlite:{tmp_path / 'books' / 's.db'}"
    (tmp_path / "books").mkdir()
    for said in (f"{where}, which was created now\n", f"{where}\n"):
        with serving(str(engine), "--store", "sqlite:~/books/s.db", folder=tmp_path, **home) as server:
            assert server.printed.endswith(said)
            assert server.stop() == 0
    assert run("audit", "--store", "sqlite:~/books/s.db", code=0, cwd=None, **home).returncode == 0

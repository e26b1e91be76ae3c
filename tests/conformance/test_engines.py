"""Real engines examined by the command: ours, on both loops, and the original, in memory and on Redis.

What is found in the original is asserted to the last check, and listed in the README of the tests.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from settlement_core.engines.simulated import LedgerSettings, open_ledger
from tests.cli.processes import clean_environment, run, until
from tests.interop.original import node_command
from tests.redis.servers import RedisServer, reserve_port

pytestmark = pytest.mark.slow

ENGINE = Path(__file__).parent / "loopback.py"
PAYS_ITSELF = ("--pays-itself", "--message", '{"any":"JSON"}')
RESTART = [sys.executable, str(Path(__file__).parent / "restart.py")]


@dataclass(frozen=True, slots=True)
class Process:
    """An engine as a process, by its URL, and the port where it looks for its connector."""

    url: str
    folder: Path
    listen: str

    def examine(self, *arguments: str, code: int) -> dict[str, Any]:
        """Examine it by the command; return its report."""
        done = run("conformance", self.url, "--listen", self.listen, "--yes", "--json", *arguments, code=None)
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == code, verdicts(report, "broken")
        return report

    @property
    def restart_command(self) -> str:
        """Return a shell command that kills it and starts it again."""
        return shlex.join([*RESTART, str(self.folder)])


@contextmanager
def engine_process(
    folder: Path, command: list[str], environment: Mapping[str, str], *, scheme: str = "http"
) -> Iterator[Process]:
    """Run an engine for the block; PORT and CONNECTOR in its command are replaced. It is killed afterwards."""
    (port, claim), (listen, other_claim) = reserve_port(), reserve_port()
    with claim, other_claim:
        words = {"PORT": str(port), "CONNECTOR": f"http://127.0.0.1:{listen}"}
        told = {
            "command": [words.get(word, word) for word in command],
            "environment": clean_environment(**environment),
        }
        (folder / "start.json").write_text(json.dumps(told))
        process = Process(f"{scheme}://127.0.0.1:{port}", folder, f"127.0.0.1:{listen}")
        try:
            subprocess.run([*RESTART, str(folder)], check=True)
            until(lambda: _listens(port), f"for it to listen: {folder / 'log'}")
            yield process
        finally:
            subprocess.run([*RESTART, str(folder), "kill"], check=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def verdicts(report: dict[str, Any], *kinds: str) -> dict[str, str]:
    """Return the checks that ended so, and what was seen."""
    return {found["check"]: found["seen"] for found in report["findings"] if found["verdict"] in kinds}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_our_server_keeps_every_promise(backend: str, tmp_path: Path) -> None:
    """Every check held, also through two SIGKILLs, but for those that nobody can make from outside."""
    command = [sys.executable, "-m", "settlement_core", "serve", str(ENGINE), "--backend", backend, "--port", "PORT"]
    command += ["--admin-port", "-1", "--store", f"sqlite:{tmp_path / 'store.db'}", "--connector-url", "CONNECTOR"]
    # HTTP/2 without TLS is off unless it is asked for
    command += ["--h2c"]
    with engine_process(tmp_path, command, {}) as engine:
        report = engine.examine(*PAYS_ITSELF, "--restart-command", engine.restart_command, code=0)
    assert verdicts(report, "broken", "advice") == {}
    assert set(verdicts(report, "not observed")) == {
        "credits.pace",
        "idempotency.kept",
        "messages.outgoing",
        "settlements.failed",
    }
    assert report["ok"]


def test_a_shipped_engine_keeps_every_promise_that_shows(tmp_path: Path) -> None:
    """The simulated one, over TLS: its messages to peers are seen, and HTTP/2 is agreed on by ALPN."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with open_ledger(tmp_path / "ledger.db", create=LedgerSettings()) as ledger:
        ledger.open_address("us")
    command = [sys.executable, "-m", "settlement_core", "serve", "simulated", "-o", f"ledger={tmp_path / 'ledger.db'}"]
    command += ["-o", "address=us", "--port", "PORT", "--admin-port", "-1", "--store", "memory:"]
    command += ["--certfile", str(tmp_path / "cert.pem"), "--keyfile", str(tmp_path / "key.pem")]
    with engine_process(tmp_path, [*command, "--connector-url", "CONNECTOR"], {}, scheme="https") as engine:
        trust = ["--ca", str(tmp_path / "ca.pem")]
        report = engine.examine(*trust, "--message", '{"type":"paymentDetails"}', code=0)
    assert verdicts(report, "broken", "advice") == {}
    held = verdicts(report, "held")
    assert held["transport.http2"] == "answered 201 by HTTP/2"
    assert held["messages.outgoing"].endswith("were sent, as application/octet-stream")
    assert verdicts(report, "not observed")["transport.cut-off"] == "only tried over http"


ALSO = {
    "accounts.bad-ids": "took 'a/b', 'a b', 'ä', 'a?b', 'a%2Fb', '/..', '\\n'",
    "idempotency.any-key": "'a:b' was answered 400 Idempotency key missing or includes unsafe characters",
    "messages.other-type": "answered 500 Internal Server Error",
    "quantities.junk": "took an amount given twice (201)",
}
"""Advice for the original on any store, word by word; two more are known by their name only."""

OFTEN = {"settlements.slashes", "transport.http2"}


def test_the_original_in_memory_breaks_two_promises(tmp_path: Path) -> None:
    """It merges a credit that was answered 500 into the next, under another key, and credits twice what is
    acknowledged without a quantity; and its accounts forget their keys when they are deleted.
    """  # noqa: D205
    command, environment = node_command("mirror.js", "PORT", "CONNECTOR")
    with engine_process(tmp_path, command, environment) as engine:
        report = engine.examine(*PAYS_ITSELF, "--patience", "3", code=1)
    assert set(verdicts(report, "broken")) == {"credits.after-errors", "credits.plain-answer"}
    assert "under another key, in a credit of 0.000000006" in verdicts(report, "broken")["credits.after-errors"]
    assert "it was credited again" in verdicts(report, "broken")["credits.plain-answer"]
    advice = verdicts(report, "advice")
    assert {name: seen for name, seen in advice.items() if name not in OFTEN} == ALSO | {
        "accounts.recreate": "the key of a settlement asked for before the deletion was forgotten: it settles again"
    }
    assert set(advice) >= OFTEN
    assert not report["ok"]


def test_the_original_on_redis_breaks_four_promises(tmp_path: Path) -> None:
    """Beside those, its accounts cannot be deleted (A6), and a restart merges what was not acknowledged (A5)."""
    with RedisServer(tmp_path) as redis:
        command, environment = node_command("mirror.js", "PORT", "CONNECTOR", redis.url())
        with engine_process(tmp_path, command, environment) as engine:
            restart = ["--restart-command", engine.restart_command]
            report = engine.examine(*PAYS_ITSELF, "--patience", "3", *restart, code=1)
    assert set(verdicts(report, "broken")) == {
        "accounts.delete",
        "credits.after-a-restart",
        "credits.after-errors",
        "credits.plain-answer",
    }
    advice = verdicts(report, "advice")
    assert {name: seen for name, seen in advice.items() if name not in OFTEN} == ALSO
    assert set(advice) >= OFTEN
    held = verdicts(report, "held")
    assert {"idempotency.replays", "idempotency.parallel", "idempotency.other-amount", "idempotency.restart"} <= set(
        held
    )

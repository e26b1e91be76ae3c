"""Help: every command says what it does, quickly."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.processes import run

WORDS = {
    "serve": [
        "Serve a settlement engine to a connector",
        "TARGET",
        "SETTLEMENT_CONNECTOR_URL",
        "SETTLEMENT_CONNECTOR_MEMORY",
        "exit code",
        "/metrics",
        "--webhook-url",
        "--otel",
    ],
    "token": ["show it once", "--file", "hash only"],
    "demo": ["while they are killed", "--settlements", "--kills", "--seed", "Nothing is left behind"],
    "accounts": ["entered = queued + open + settled + in doubt", "--admin-url", "--store", "--json"],
    "attempts": ["--state", "in_doubt", "oldest first"],
    "resolve": ["ATTEMPT_ID", "--settled", "--all", "--nothing", "--release", "--reason", "moves real money"],
    "release": ["--all-held", "--account", "--reason", "under its own key"],
    "suspense": ["--assign", "--not-ours", "--not-ours-below", "--decided", "whose owner the engine cannot tell"],
    "pause": ["ACCOUNT", "--reason", "--by", "under way goes on to its end"],
    "resume": ["ACCOUNT", "--reason", "beginning with what has waited"],
    "settle": ["ACCOUNT", "nothing twice"],
    "engine": ["balance, fees, what is under way", "exit code is 1"],
    "workers": ["who shares a store", "--admin-url", "--store", "--json"],
    "migrate": ["FROM TO", "Stop everything that serves FROM first", "exit code is 1"],
    "conformance": [
        "against RFC 38",
        "--listen",
        "--restart-command",
        "--pays-itself",
        "test ledger",
        "exit code is 0",
    ],
    "audit": ["no money was lost or doubled", "Exit code:"],
}


def test_the_first_page_names_every_command_and_where_to_start() -> None:
    """At once: no command is imported for it, and nothing that commands need."""
    command = [sys.executable, "-X", "importtime", "-m", "settlement_core", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "settlement_core.cli" in imported
    assert not imported & {"anyio", "trio", "quart", "hypercorn", "httpx2", "rich", "sqlite3", "settlement_core.core"}
    said = told.stdout
    assert "settlement-core demo" in said
    for name in WORDS:
        assert f"\n  {name} " in said


@pytest.mark.parametrize("command", WORDS)
def test_a_command_s_help_says_what_it_does(command: str) -> None:
    """With its options, and the variables that stand for them."""
    said = " ".join(run(command, "--help").stdout.split())
    for word in WORDS[command]:
        assert word in said


@pytest.mark.parametrize("arguments", [("nosuch",), ("serve", "--nosuch"), ("audit", "extra")])
def test_what_is_not_known_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    """With one error line."""
    refused = run(*arguments, code=2)
    assert len([line for line in refused.stderr.splitlines() if line.startswith("Error: ")]) == 1


def test_it_tells_its_version() -> None:
    """That of the installed package."""
    from importlib.metadata import version

    assert version("settlement-core") in run("--version").stdout

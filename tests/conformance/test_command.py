"""`settlement-core conformance` as a command: what it prints, how it ends, and what it refuses."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from settlement_core.conformance import CHECKS
from tests.cli.processes import run
from tests.conformance.planted import Reply, planted_engine
from tests.conformance.test_suite import at, honest


@pytest.fixture
def listen() -> str:
    """Return an address that is free."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of an honest engine."""
    with planted_engine("http://127.0.0.1:1", honest, frozenset()) as (url, _engine):
        yield url


def test_it_prints_a_line_for_each_check_and_ends_with_0_if_nothing_is_broken(url: str, listen: str) -> None:
    """Name, level, section, verdict, promise, and what was seen; and the sum at the end."""
    done = run("conformance", url, "--listen", listen, "--yes", "--only", "accounts.create", "--only", "transport")
    first, *rows, last = done.stdout.splitlines()
    names = ["accounts.create", *(check.name for check in CHECKS if check.group == "transport")]
    assert " ".join(first.split()) == "check level section of RFC 38 verdict promise, and what was seen"
    assert [row.split()[0] for row in rows] == names
    assert " ".join(rows[0].split()).startswith(
        "accounts.create defined Setup an account held POST /accounts opens an account with 201: answered 201"
    )
    assert last == "5 checks: 4 held, 0 broken, 1 advice, 0 not observed; it was made to settle 0.000000002 in all"
    assert done.stderr == ""


def test_it_ends_with_1_if_something_is_broken(listen: str) -> None:
    """And says so, as a table or as JSON."""
    with planted_engine("http://127.0.0.1:1", at("/accounts", Reply(500)), frozenset()) as (url, _engine):
        arguments = ("conformance", url, "--listen", listen, "--yes", "--only", "accounts.create")
        assert "broken" in run(*arguments, code=1).stdout
        report = json.loads(run(*arguments, "--json", code=1).stdout)
    assert report == {
        "ok": False,
        "url": url,
        "settled": "0",
        "counts": {"held": 0, "broken": 1, "advice": 0, "not observed": 0},
        "findings": [
            {
                "check": "accounts.create",
                "level": "defined",
                "section": "Setup an account",
                "promise": "POST /accounts opens an account with 201",
                "verdict": "broken",
                "seen": "answered 500",
            }
        ],
    }


def test_it_asks_before_money_moves(url: str, listen: str) -> None:
    """Where nobody can be asked, --yes must say it; nothing was sent."""
    refused = run("conformance", url, "--listen", listen, code=2)
    assert "say --yes" in refused.stderr


def test_nobody_there_is_exit_code_2(listen: str) -> None:
    """In one sentence."""
    refused = run("conformance", f"http://{listen}", "--listen", "127.0.0.1:0", "--yes", code=2)
    assert refused.stderr.startswith(f"Error: cannot reach an engine at http://{listen}: ")
    assert refused.stderr.endswith("; nothing was examined\n")


def test_a_port_that_is_taken_is_exit_code_2(url: str) -> None:
    """It says which, and what it is for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = run("conformance", url, "--listen", address, "--yes", code=2)
    assert refused.stderr == (
        f"Error: cannot listen on {address}, where the engine is to find its connector: Address already in use\n"
    )


def test_a_restart_command_that_fails_ends_the_examination(url: str, listen: str) -> None:
    """It says how it ended; verdicts about a restart that never was would be wrong."""
    arguments = ("conformance", url, "--listen", listen, "--yes", "--only", "idempotency.restart")
    refused = run(*arguments, "--restart-command", "exit 3", code=2)
    expected = "Error: cannot restart the engine by 'exit 3': its exit code is 3; the examination ends here\n"
    assert refused.stderr == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://127.0.0.1:1", "--yes", "--only", "nosuch"), "there is no check 'nosuch'; the groups are accounts,"),
        (("127.0.0.1:3000", "--yes"), "begins neither with http:// nor with https://"),
        (("http://127.0.0.1:1", "--yes", "--listen", "7771"), "'7771' is not HOST:PORT"),
        (("http://127.0.0.1:1", "--yes", "--listen", "h:99999"), "'h:99999' is not HOST:PORT"),
        ((), "Missing argument 'URL'"),
    ],
)
def test_bad_usage_is_exit_code_2(arguments: tuple[str, ...], said: str) -> None:
    """In one sentence."""
    assert said in " ".join(run("conformance", *arguments, code=2).stderr.split())


def test_it_lists_its_checks() -> None:
    """Without any engine."""
    said = run("conformance", "--list").stdout
    for check in CHECKS:
        assert check.name in said
        assert check.promise in said


def test_its_help_teaches() -> None:
    """What is sent, what the levels and verdicts mean, and what shows more."""
    said = " ".join(run("conformance", "--help").stdout.split())
    words = ["test ledger", "--restart-command", "--pays-itself", "--listen", '"broken"', '"advice"', '"not observed"']
    for word in [*words, "exit code is 0 if nothing is broken", "for one of 1 whole unit", "are deleted"]:
        assert word in said

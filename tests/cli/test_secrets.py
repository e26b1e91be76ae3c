"""Secrets in settings: read from files, warned about on command lines, and never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from settlement_core.cli.secrets import without_secrets
from settlement_core.cli.serve import serve
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.commands import OpenAccount
from tests.cli.processes import run

WARNING = "Warning: every user of this machine can see the secret in "


def lines_of(*arguments: str, **variables: Any) -> list[str]:
    """Run a command that fails; return its lines on standard error, having looked that no secret is among them."""
    said = run(*arguments, code=2, **variables)
    assert "hunter" not in said.stdout + said.stderr
    return [line for line in said.stderr.splitlines() if line.startswith(("Warning", "Error"))]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["accounts", "--store", "redis://:hunter@127.0.0.1:1/0"], "--store"),
        (["accounts", "--store", "redis://127.0.0.1:1/0?password=hunter"], "--store"),
        (["accounts", "--admin-url", "http://x:hunter@127.0.0.1:1"], "--admin-url"),
        (["migrate", "redis://:hunter@127.0.0.1:1", "sqlite:new.db"], "FROM"),
        (["serve", "nosuch", "--store", "redis://joe:hunter@127.0.0.1:1/0"], "--store"),
        (["serve", "nosuch", "--connector-url", "http://x:hunter@127.0.0.1:1"], "--connector-url"),
        (["serve", "nosuch", "--webhook-url", "http://x:hunter@127.0.0.1:1"], "--webhook-url"),
        (["serve", "nosuch", "-o", "node=http://x:hunter@127.0.0.1:1"], "--engine-options"),
        (["serve", "nosuch", "--base-path", "/hunter0123456789abcdef"], "--base-path"),
    ],
)
def test_a_secret_on_the_command_line_is_warned_about_and_not_shown(arguments: list[str], name: str) -> None:
    """The list of processes shows it to every user of the machine; the warning names the option, and a file instead."""
    warning, error = lines_of(*arguments)
    assert warning.startswith(WARNING + name + " ")
    assert "file" in warning
    assert error.startswith("Error: ")


def test_a_secret_in_the_environment_or_a_file_is_not_warned_about(tmp_path: Path) -> None:
    """Other users see neither."""
    file = tmp_path / "store"
    file.write_text("redis://:hunter@127.0.0.1:1/0\n")
    (error,) = lines_of("accounts", SETTLEMENT_STORE="redis://:hunter@127.0.0.1:1/0")
    assert "127.0.0.1:1" in error
    assert "no server answers" in error
    assert lines_of("accounts", "--store", f"@{file}")[0].split(": ", 1)[1] in error
    assert lines_of("accounts", SETTLEMENT_STORE=f"@{file}") == [error]
    (moved,) = lines_of("migrate", f"@{file}", "sqlite:new.db")
    assert "127.0.0.1:1" in moved


def test_a_store_is_opened_by_the_url_in_a_file(tmp_path: Path) -> None:
    """With or without a line break at its end."""
    store = open_sqlite_store(tmp_path / "s.db")
    store.apply([OpenAccount(account_id="alice", at=0.0)])
    store.close()
    file = tmp_path / "store"
    file.write_text(f"sqlite:{tmp_path / 's.db'}\n")
    said = run("accounts", "--store", f"@{file}")
    assert "alice" in said.stdout
    assert said.stderr == ""


def test_an_option_of_an_engine_may_stand_in_a_file(tmp_path: Path) -> None:
    """As a node's URL with a provider's key does."""
    file = tmp_path / "node"
    file.write_text("https://node.example/v3/hunter\n")
    context = serve.make_context("serve", ["ethereum", "-o", f"node=@{file}", "-o", "chain_id=1"])
    assert context.params["engine_options"] == {"node": "https://node.example/v3/hunter", "chain_id": "1"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read: No such file or directory"), (b" \n", "is empty"), (b"\xff\xfe", "is not UTF-8")],
)
def test_a_file_that_holds_no_setting_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """Nothing is opened in place of what was meant."""
    file = tmp_path / "store"
    if content is not None:
        file.write_bytes(content)
    (error,) = lines_of("accounts", "--store", f"@{file}")
    assert error.endswith(f"{file} {sentence}")
    with pytest.raises(click.BadParameter, match=f"node: {file} {sentence}"):
        serve.make_context("serve", ["ethereum", "-o", f"node=@{file}"])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:1/0?namespace=a", "redis://h:1/0?namespace=a"),
        ("redis://h/0?namespace=a&password=pw&partitions=4", "redis://h/0?namespace=a&&partitions=4"),
        ("redis+sentinel://u:p/w@a:1,b:2/main", "redis+sentinel://a:1,b:2/main"),
        ("unix:///run/a@b.sock?db=1", "unix:///run/a@b.sock?db=1"),
        ("sqlite:/var/lib/a@b.db", "sqlite:/var/lib/a@b.db"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """And with all that tells one store from another."""
    assert without_secrets(url) == shown

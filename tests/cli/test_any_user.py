"""Commands under a user id without a passwd entry, as container platforms choose them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from settlement_core.store_urls import open_store
from settlement_core.values.commands import OpenAccount, Suspend
from tests.cli.processes import PATIENCE_S, D, run

UNNAMED = 1000770000

BECOME = """
import codecs, importlib, os, pkgutil, sys
from settlement_core import cli
for module in pkgutil.walk_packages(cli.__path__, "settlement_core.cli."):
    importlib.import_module(module.name)
for name in ("stores.sqlite", "stores.memory"):
    importlib.import_module(f"settlement_core.{name}")
number, sys.argv[:] = int(sys.argv[1]), ["settlement-core", *sys.argv[2:]]
codecs.lookup("ascii")
os.setgroups([])
os.setgid(0)
os.setuid(number)
cli.main()
"""
"""Imports the command line before it becomes the user, who may not read the folder of this Python."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of the unnamed user's, below parents that every user may enter."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        os.chown(path, UNNAMED, 0)
        yield path
    finally:
        shutil.rmtree(path)


def run_unnamed(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a command under the unnamed user id, with nothing in its environment that names a user."""
    done = subprocess.run(
        [sys.executable, "-c", BECOME, str(UNNAMED), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_decisions_work_without_a_passwd_entry(folder: Path) -> None:
    """Each is recorded as made by the user id; commands that decide nothing need no name at all."""
    path = folder / "s.db"
    store = open_store(f"sqlite:{path}")
    store.apply(
        [
            OpenAccount(account_id="alice", at=1.0),
            Suspend(settlement_id="tx", amount=D(7), details={}, at=1.0),
        ]
    )
    store.close()
    for file in folder.iterdir():
        os.chown(file, UNNAMED, 0)
    where = ("--store", f"sqlite:{path}")
    assert json.loads(run_unnamed(folder, "suspense", "--json", *where))[0]["settlement_id"] == "tx"
    run_unnamed(folder, "pause", "alice", "--reason", "strange", *where)
    (account,) = json.loads(run_unnamed(folder, "accounts", "--json", *where))
    assert account["paused"]
    assert account["pausing"]["by"] == f"uid {UNNAMED}"
    run_unnamed(folder, "resume", "alice", "--reason", "looked at", *where)
    run_unnamed(folder, "suspense", "--assign", "tx", "alice", "--reason", "asked", *where)
    (item,) = json.loads(run_unnamed(folder, "suspense", "--decided", "--json", *where))
    assert (item["account_id"], item["assigned_by"]) == ("alice", f"uid {UNNAMED}")


def test_a_decision_needs_a_reason_that_says_something(tmp_path: Path) -> None:
    """An empty one is refused on a store as on a server, before anything is opened."""
    refused = run("pause", "alice", "--reason", " ", "--store", f"sqlite:{tmp_path / 'none.db'}", code=2)
    assert "a decision needs a reason" in refused.stderr

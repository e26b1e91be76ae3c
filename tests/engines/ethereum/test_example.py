"""The example does what its README says, from its one command."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from types import ModuleType

import pytest

from tests.engines.ethereum.anvil import INSTALLED

D = Decimal

EXAMPLE = INSTALLED / "settle.py"

VERDICT = "All books agree to the wei: both connectors, both engines and the chain."


@pytest.mark.slow
def test_two_peers_settle_by_one_command() -> None:
    """Exit code 0, the table, and the verdict in its last line; the README shows the same."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=110, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == VERDICT
    shown = (INSTALLED / "README.md").read_text()
    for line in lines:
        # but what gas costs depends on the blocks
        if not any(word in line for word in ("after", "gas")):
            assert line in shown


@pytest.fixture(scope="module")
def settle() -> ModuleType:
    """Load the example."""
    spec = importlib.util.spec_from_file_location("settle_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["settle_example"] = module
    spec.loader.exec_module(module)
    return module


def test_the_verdict_sees_a_single_wei(settle: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """In whichever book it is missing, and a server that did not end well: the exit code is 1, and no verdict."""
    good = settle.Row(
        name="alice",
        asked=D(3),
        settled=D(3),
        arrived=D(3),
        credited=D(1),
        balance_before=D(100),
        balance_after=D("97.5"),
        gas=D("0.5"),
    )
    assert settle.tell([good, good], [0, 0]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == VERDICT
    names = ("asked", "settled", "arrived", "credited", "balance_before", "balance_after", "gas")
    for name in names:
        wrong = replace(good, **{name: getattr(good, name) + D("1e-18")})
        assert settle.tell([good, wrong], [0, 0]) == 1, name
    assert settle.tell([good, good], [0, 1]) == 1
    assert VERDICT not in capsys.readouterr().out

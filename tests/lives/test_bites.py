"""The machine finds what it is there for: each core that is broken on purpose is caught, within a bounded search."""

from __future__ import annotations

import importlib
import sys
from decimal import Decimal

import pytest

from settlement_core.testing.lives import __main__ as lives_main
from settlement_core.testing.lives import machine, script, system
from settlement_core.testing.lives.__main__ import main
from settlement_core.testing.lives.machine import live_many
from settlement_core.testing.lives.script import Life, Owe, Setting
from settlement_core.testing.lives.system import System, Violated
from tests.lives.mutants import MUTANTS

SYSTEMS = 150
"""Drawn at most; most of the broken cores are caught within the first few."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_core_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is the same every time, and ends at the first life that does harm."""
    MUTANTS[name](monkeypatch)
    with pytest.raises(Violated):
        live_many(backend="trio", examples=SYSTEMS, shrink=False)


def test_a_failure_shrinks_to_a_script_that_can_be_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The soak ends with 1, the lives as Python, their story, how to see it again, and all that again made small."""
    MUTANTS["never_noted"](monkeypatch)
    assert main(["--examples", "20", "--backend", "trio", "--seed", "3"]) == 1
    drawn, told = capsys.readouterr().out.split("making it small, for five minutes at most")
    assert "which is not durable" in drawn
    assert "system.live(Life(" in drawn
    assert "which is not durable" in told
    assert "The story, in seconds of simulated time:" in told
    assert "to see it again: python -m settlement_core.testing.lives --seed 3 --backend trio --examples 10" in drawn
    lines = [line for line in told.splitlines() if line.startswith("system")]
    assert len(lines) <= 3, "little is left but what does the harm"
    assert lines[-1].startswith("system.live(Life(owes=(Owe('")
    names = {**vars(script), **vars(system), "Decimal": Decimal}
    with pytest.raises(Violated, match="which is not durable"):
        exec("\n".join(lines), names)
    monkeypatch.undo()
    exec("\n".join(lines), names)


def test_what_goes_in_circles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A life that takes far more steps than any should is a failure of its own, with the script that leads there."""
    monkeypatch.setattr(system, "MANY_STEPS", 150)
    with pytest.raises(Violated, match="after 150 steps, .* no end is in sight") as found:
        System(Setting(), backend="trio").live(Life(owes=(Owe("A", "silk", Decimal(5)),)))
    assert found.value.script.endswith("system.live(Life(owes=(Owe('A', 'silk', Decimal('5')),)))")


def test_a_soak_tells_what_it_did(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives, years and faults by kind, and 0 if there was no harm."""
    monkeypatch.setattr(lives_main, "PROGRESS_EVERY", 10)
    assert main(["--examples", "20", "--lives-each", "2"]) == 0
    told = capsys.readouterr().out
    assert "seed 0 on trio: 10 systems" in told
    assert "seed 0 on asyncio: 20 systems" in told
    assert "simulated years" in told
    assert main(["--minutes", "0"]) == 0
    assert capsys.readouterr().out.startswith("0 lives, 0.00 simulated years")


def test_without_hypothesis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives are drawn by it; a life written down runs without it."""
    assert live_many is machine.live_many
    monkeypatch.delitem(sys.modules, "settlement_core.testing.lives.machine")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"pip install settlement-core\[testing\]"):
        importlib.import_module("settlement_core.testing.lives.machine")

"""What became of mutants: a table for each module, and every survivor with its explanation or without."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Mutant", "explanations", "mutants_of", "report"]

ENOUGH = 95.0
"""Percent of the mutants that tests must kill."""

_SURVIVED = {0, 33}
"""Exit codes of the tests of a mutant nobody noticed, and of one that no test runs."""

_TIMED_OUT = {36, -24}
"""Exit codes of mutants that did not end."""

_KNOWN = {*_SURVIVED, 1, *_TIMED_OUT}
"""Whatever else a process ended with says nothing about the mutant: 1 is a test that failed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small change, and what its tests said: their exit code, None if they have not been run."""

    name: str
    module: str
    exit_code: int | None

    @property
    def tested(self) -> bool:
        """Tell whether anything is known of it."""
        return self.exit_code in _KNOWN

    @property
    def killed(self) -> bool:
        """Tell whether a test failed, or never ended."""
        return self.tested and self.exit_code not in _SURVIVED

    @property
    def function(self) -> str:
        """Return the function it is in, as in `core/lane Lane.close`."""
        function = self.name.rpartition(".")[2].rpartition("__mutmut_")[0]
        return f"{self.module} {function.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


def mutants_of(folder: Path, modules: Sequence[str]) -> list[Mutant]:
    """Return all mutants of these modules, or of all."""
    root = folder / "mutants" / "settlement_core"
    found = []
    for path in sorted(root.rglob("*.py.meta")):
        module = str(path.relative_to(root)).removesuffix(".py.meta")
        if not modules or module.startswith(tuple(name.strip("/") for name in modules)):
            codes = json.loads(path.read_text())["exit_code_by_key"]
            found += [Mutant(name, module, code) for name, code in codes.items()]
    return found


def explanations() -> dict[str, str]:
    """Return why a survivor is none to worry about, by its function and change."""
    groups = tomllib.loads(Path(__file__).with_name("survivors.toml").read_text(encoding="utf-8"))["explained"]
    return {mutant: group["why"] for group in groups for mutant in group["mutants"]}


def change_of(folder: Path, mutant: Mutant) -> str:
    """Return what was changed, as in `core/lane Lane.close: settled == amount -> settled != amount`."""
    mutmut = Path(sys.executable).with_name("mutmut")
    shown = subprocess.run([mutmut, "show", mutant.name], cwd=folder, capture_output=True, text=True, check=True)
    lines = [line for line in shown.stdout.splitlines() if not line.startswith(("---", "+++", "#", "@@"))]
    old, new = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return f"{mutant.function}: {old} -> {new}"


def report(folder: Path, mutants: Sequence[Mutant], explained: Mapping[str, str]) -> bool:
    """Print the table and the survivors nobody explained; return whether enough were killed and all are explained."""
    console = Console()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    open_questions = []
    for mutant in mutants:
        kind = _kind(mutant)
        counts[mutant.module][kind] += 1
        if kind in {"survived", "no test"}:
            change = change_of(folder, mutant)
            if change in explained:
                counts[mutant.module]["explained"] += 1
            else:
                open_questions.append(f"{change}  ({mutant.name.rpartition('_')[2]}, {kind})")
    console.print(_table(counts))
    for question in open_questions:
        console.print(question, markup=False, highlight=False, soft_wrap=True)
    total = sum(counts.values(), Counter[str]())
    return _percent(total) >= ENOUGH and not open_questions


def _kind(mutant: Mutant) -> str:
    if not mutant.tested:
        return "not yet"
    if mutant.exit_code == 33:
        return "no test"
    if mutant.exit_code == 0:
        return "survived"
    return "timed out" if mutant.exit_code in _TIMED_OUT else "killed"


def _percent(counts: Mapping[str, int]) -> float:
    caught = counts["killed"] + counts["timed out"]
    tested = caught + counts["survived"] + counts["no test"]
    return 100.0 * caught / tested if tested else 0.0


def _table(counts: Mapping[str, Counter[str]]) -> Table:
    columns = ["killed", "timed out", "survived", "no test", "explained", "not yet"]
    table = Table(title="mutants")
    # the name is what tells the rows apart, however narrow the terminal is
    table.add_column("module", no_wrap=True, min_width=max(map(len, counts), default=0))
    for column in (*columns, "% killed"):
        table.add_column(column)
    for module, kinds in counts.items():
        table.add_row(module, *(str(kinds[column] or "") for column in columns), f"{_percent(kinds):.1f}")
    total = sum(counts.values(), Counter[str]())
    table.add_section()
    table.add_row("all", *(str(total[column]) for column in columns), f"{_percent(total):.1f}")
    return table

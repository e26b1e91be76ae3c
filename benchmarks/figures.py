"""What was measured, as rows that say under which workload and at which durability; printed, kept and read as JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

__all__ = ["Row", "about", "print_table", "read_rows", "table", "write_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Whatever was measured of one subject under one workload.

    Attributes:
        question: the measurement, which is also its command: `accept`, `settle` …
        workload: what was asked of every subject alike.
        subject: who was measured.
        durability: what survives a power cut: `fsync always`, `fsync everysec`, `none`.
        figures: medians, by what they are.
        ratios: the first figure, divided by that of another subject under the same workload; by the other's name.
    """

    question: str
    workload: str
    subject: str
    durability: str
    figures: dict[str, float]
    ratios: dict[str, float] = field(default_factory=dict)


def print_table(rows: Iterable[Row]) -> None:
    """Print rows, one table for each workload."""
    for (question, workload), group in groupby(rows, key=lambda row: (row.question, row.workload)):
        print(f"\n{question}: {workload}")
        lines = table(list(group))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for first, *others in lines:
            cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
            print("  ", first.ljust(widths[0]), *cells, sep="  ")


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of a table, its head first; what a row does not have is left empty."""
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    ratios = list(dict.fromkeys(name for row in rows for name in row.ratios))
    head = ["", *figures, *(f"/ {name}" for name in ratios), "durability"]
    return [
        head,
        *(
            [
                row.subject,
                *(_figure(row.figures.get(name)) for name in figures),
                *(_ratio(row.ratios.get(name)) for name in ratios),
                row.durability,
            ]
            for row in rows
        ),
    ]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def write_json(path: Path, rows: Iterable[Row]) -> None:
    """Keep rows, with what there is to know about the machine and the day."""
    content = {"about": about(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_rows(path: Path) -> tuple[dict[str, str], list[Row]]:
    """Return what `write_json` kept."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content["about"], [Row(**row) for row in content["rows"]]


def about() -> dict[str, str]:
    """Return the day, the machine, and the versions of what was measured and of what it was measured with."""
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.system()}",
        "Python": platform.python_version(),
        "Node.js": _first_line("node", "--version"),
        "Redis": _first_line("redis-server", "--version").partition("v=")[2].partition(" ")[0],
    }
    return found | {name: version(name) for name in ("trio", "hypercorn", "uvicorn", "granian")}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _first_line(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        return ""
    return subprocess.run([program, *arguments], capture_output=True, check=True, text=True).stdout.strip()

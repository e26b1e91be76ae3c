"""The results as a picture and as tables: `results.svg`, and what stands between two marks in the README."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import FLOOR
from benchmarks.figures import Row, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PICTURE", "README", "RESULTS", "draw", "write_tables"]

HERE = Path(__file__).parent
PICTURE = HERE / "results.svg"
README = HERE / "README.md"
RESULTS = HERE / "results.json"
"""What both were made from."""

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

COLOURS = {"redis": "#D55E00", "sqlite": "#0072B2", "memory": "#8C8C8C"}
"""Of stores; they can be told apart by everybody, and in print."""

CLOSED, OPEN = "closed loop, 64 connections, 100 accounts", "open loop, 1,000 requests/s, 100 accounts"


def draw(rows: Sequence[Row], picture: Path = PICTURE) -> None:
    """Draw what matters most of the results."""
    import matplotlib as mpl  # slow to import, and only needed here
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    # the same results give the same file
    mpl.rcParams["svg.hashsalt"] = "settlement"
    mpl.rcParams["font.size"] = 10
    figure = Figure(figsize=(12, 11), layout="constrained")
    (accept, late), (original, embedded) = figure.subplots(2, 2)
    _draw_accept(accept, _of(rows, "accept", CLOSED))
    _draw_late(late, _of(rows, "accept", OPEN))
    _draw_beside_original(original, rows)
    _draw_embedded(embedded, [row for row in rows if row.question == "embedded" and row.ratios])
    for axes in (accept, late, original, embedded):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#DDDDDD")
        axes.tick_params(axis="y", length=0)
    durable = {"redis": "Redis, fsync always", "sqlite": "SQLite, fsync always", "memory": "memory, nothing durable"}
    legend = [Patch(color=colour, label=durable[store]) for store, colour in COLOURS.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(picture, metadata={"Date": None}, facecolor="white")


def _of(rows: Sequence[Row], question: str, workload: str) -> list[Row]:
    found = [row for row in rows if (row.question, row.workload) == (question, workload)]
    return [row for row in found if not row.subject.endswith(FLOOR)]


def _bars(axes: Axes, bars: Sequence[tuple[str, str, float, str]]) -> None:
    """Draw a bar for each group, name, value and store, the first on top, with its value at its end."""
    places: list[float] = []
    for number, (group, *_) in enumerate(bars):
        apart = 1.0 if number and group == bars[number - 1][0] else 1.6
        places.append(places[-1] + apart if places else 0.0)
    values = [value for _, _, value, _ in bars]
    drawn = axes.barh(places, values, color=[COLOURS[store] for *_, store in bars], height=0.8)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    axes.bar_label(drawn, [_short(value) for value in values], fontsize=9, padding=3, bbox=box)
    axes.set_yticks(places, [name for _, name, *_ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.02)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _title(axes: Axes, title: str, more: str) -> None:
    axes.set_title(title, loc="left", weight="bold")
    axes.set_xlabel(more, loc="left")


def _accepted(rows: Sequence[Row], what: str) -> list[tuple[str, str, float, str]]:
    bars = []
    for row in rows:
        server, store = row.subject.split(", ")
        bars.append((server, row.subject, row.figures[what], store))
    return bars


def _draw_accept(axes: Axes, rows: Sequence[Row]) -> None:
    _bars(axes, _accepted(rows, "requests/s"))
    _title(axes, "Requests accepted a second", "64 connections in a closed loop, 100 accounts")


def _draw_late(axes: Axes, rows: Sequence[Row]) -> None:
    _bars(axes, _accepted(rows, "p99 ms"))
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _title(axes, "p99 at 1,000 requests a second, ms", "from when each was due; logarithmic")


def _draw_beside_original(axes: Axes, rows: Sequence[Row]) -> None:
    bars = []
    for row in rows:
        server, _, store = row.subject.partition(", ")
        asked = row.question in {"settle", "credit"} and row.ratios
        if asked and server in {"hypercorn-trio", "uvicorn"}:
            question = f"{row.question}, {row.workload.rpartition(', ')[2]}"
            bars.append((question, f"{question}: {server}", row.ratios["original, redis"], store))
    _bars(axes, bars)
    axes.axvline(1, color="black", linewidth=1)
    _title(axes, "Times the original on Redis", "settlements, and payments credited, a second")


def _draw_embedded(axes: Axes, rows: Sequence[Row]) -> None:
    bars = []
    for row in rows:
        _, store, _, accounts = row.workload.split(", ")
        bars.append((row.workload, f"{accounts}, {row.subject.removeprefix('core, ')}", row.ratios["bare loop"], store))
    _bars(axes, bars)
    axes.axvline(1, color="black", linewidth=1)
    _title(axes, "Without HTTP, times a bare loop", "settlements a second; the loop supervises nothing")


def write_tables(about: dict[str, str], rows: Sequence[Row], readme: Path = README) -> None:
    """Put the results where the last ones are."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{readme} does not say where results begin and end")
    readme.write_text(before + BEGIN + "\n" + "\n".join(_told(about, rows)) + "\n" + END + after, encoding="utf-8")


def _told(about: dict[str, str], rows: Sequence[Row]) -> list[str]:
    versions = ", ".join(f"{name} {value}" for name, value in about.items() if name not in {"date", "machine"})
    lines = [f"{about['date']}; {about['machine']}; {versions}.", ""]
    for question, asked in groupby(rows, key=lambda row: row.question):
        lines += [f"### {question}", ""]
        for workload, group in groupby(asked, key=lambda row: row.workload):
            (_, *heads), *cells = table(list(group))
            lines += [f"| {workload} | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
            lines += [f"| {' | '.join(row)} |" for row in cells]
            lines.append("")
    return lines

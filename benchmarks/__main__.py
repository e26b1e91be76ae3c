"""Run measurements and print few numbers: `python -m benchmarks [QUESTION]`, by default the canonical workload."""

from __future__ import annotations

import inspect
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.accept import measure_accept
from benchmarks.chart import draw, write_tables
from benchmarks.check import COMMITTED, check, short_forms
from benchmarks.contenders import SERVERS, STORES
from benchmarks.credit import measure_credit
from benchmarks.embedded import BACKENDS, EMBEDDED_STORES, measure_embedded
from benchmarks.figures import Row, print_table, read_rows, write_json
from benchmarks.growth import measure_growth
from benchmarks.history import measure_history
from benchmarks.memory import measure_memory
from benchmarks.recover import measure_recover
from benchmarks.servers import require_node
from benchmarks.settle import measure_settle
from benchmarks.shutdown import measure_shutdown
from benchmarks.turns import say
from benchmarks.workers import measure_workers

F = TypeVar("F", bound=Callable[..., Any])

Measure = Callable[[Path], Iterator[Row]]

QUESTIONS: dict[str, Measure] = {
    "accept": measure_accept,
    "settle": measure_settle,
    "embedded": measure_embedded,
    "credit": measure_credit,
    "recover": measure_recover,
    "memory": measure_memory,
    "growth": measure_growth,
    "history": measure_history,
    "workers": measure_workers,
    "shutdown": measure_shutdown,
}
"""All that is measured, at its default size."""


def run(measure: Measure) -> list[Row]:
    """Measure in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="settlement-bench-") as folder:
        return list(measure(Path(folder)))


def _canonical(folder: Path) -> Iterator[Row]:
    """100 accounts on fsynced SQLite: over HTTP beside the original, and without beside the bare loop."""
    (folder / "accept").mkdir()
    yield from measure_accept(
        folder / "accept", servers=["hypercorn-trio", "uvicorn"], stores=["sqlite"], accounts=[100], rates=[1000]
    )
    yield from measure_embedded(folder, stores=["sqlite"], backends=["trio"], accounts=[100])


def _words(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    return value.split(",") if value else []


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    return [int(number) for number in value.split(",") if number]


def _list(name: str, default: Any, told: str) -> Callable[[F], F]:
    parse = _words if isinstance(default[0], str) else _numbers
    shown = ",".join(map(str, default))
    return click.option(name, default=shown, show_default=True, callback=parse, metavar="A,B", help=told)


_SECONDS = click.option("--seconds", default=2, show_default=True, help="Under load in each round.")
_ROUNDS = click.option("--rounds", default=3, show_default=True, help="Each has its turn once in each; medians count.")
_JSON = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Keep the results in this file.")


@click.group(invoke_without_command=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Measure settlement_core, beside the original framework and the floor of the same server where there is one."""
    # told to end, it ends what it has started, as after Ctrl-C
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if ctx.invoked_subcommand is None:
        require_node()
        print_table(run(_canonical))
    elif ctx.invoked_subcommand not in {"embedded", "chart"}:
        require_node()


@main.command("all")
@click.option("--rounds", default=3, show_default=True, help="As many as each question needs, but no more than these.")
@_JSON
def everything(*, rounds: int, json_file: Path | None) -> None:
    """Answer every question, in half an hour and more."""
    rows: list[Row] = []
    began = time.monotonic()
    for question, measure in QUESTIONS.items():
        say(f"== {question}, after {(time.monotonic() - began) / 60:.1f} minutes")
        known = inspect.signature(measure).parameters.get("rounds")
        fewer = {"rounds": min(rounds, known.default)} if known else {}
        rows += run(partial(measure, **fewer))
        if json_file is not None:
            write_json(json_file, rows)
    say(f"== all after {(time.monotonic() - began) / 60:.1f} minutes")
    print_table(rows)


def _show(measure: Measure, json_file: Path | None) -> None:
    rows = run(measure)
    print_table(rows)
    if json_file is not None:
        write_json(json_file, rows)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def chart(*, file: Path) -> None:
    """Draw results.svg, and write the tables of the README, from what `all --json FILE` has kept."""
    about, rows = read_rows(file)
    draw(rows)
    write_tables(about, rows)


@main.command("check")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Measure thrice, and commit this file.")
@click.pass_context
def check_ratios(ctx: click.Context, *, json_file: Path | None) -> None:
    """Whether a ratio has fallen below half of the committed one, in each of three tries."""
    if json_file is not None:
        write_json(json_file, [row for measure in short_forms(rounds=3).values() for row in run(measure)])
        return
    measures = {name: partial(run, measure) for name, measure in short_forms(rounds=1).items()}
    regressions = check(measures, read_rows(COMMITTED)[1])
    for regression in regressions:
        print(regression)
    ctx.exit(1 if regressions else 0)


@main.command()
@_list("--servers", SERVERS, "Each beside its floor, and all beside the original.")
@_list("--stores", STORES, "Under each server.")
@_list("--accounts", (1, 100), "Among how many accounts, in turn.")
@_list("--rates", (1000, 2000), 'Requests per second of the open loops; "" for none.')
@_SECONDS
@_ROUNDS
@_JSON
def accept(*, json_file: Path | None, **asked: Any) -> None:
    """Settlement requests over HTTP, made durable and answered; closed loop, then open loop."""
    _show(lambda folder: measure_accept(folder, **asked), json_file)


@main.command()
@_list("--stores", EMBEDDED_STORES, "Where the books are.")
@_list("--backends", BACKENDS, "Loops.")
@_list("--accounts", (1, 100, 10_000), "Among how many accounts, in turn.")
@_SECONDS
@_ROUNDS
@_JSON
def embedded(*, json_file: Path | None, **asked: Any) -> None:
    """Settle without HTTP, beside a bare loop that gives the store the same commands."""
    _show(lambda folder: measure_embedded(folder, **asked), json_file)


def _add(question: str, measure: Measure) -> None:
    """Add the command of a question that is asked in one way only."""

    @main.command(question, help=sys.modules[measure.__module__].__doc__)
    @_JSON
    def ask(*, json_file: Path | None) -> None:
        _show(measure, json_file)


for _question, _measure in QUESTIONS.items():
    if _question not in main.commands:
        _add(_question, _measure)


if __name__ == "__main__":
    main()

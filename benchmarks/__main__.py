"""Run measurements and print few numbers: `python -m benchmarks [QUESTION]`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.accept import measure_accept
from benchmarks.accounts import measure_memory, measure_start
from benchmarks.contenders import SERVERS, STORES
from benchmarks.figures import Row, print_table, write_json
from benchmarks.servers import require_node
from benchmarks.settle import BACKENDS, EMBEDDED_STORES, measure_embedded

F = TypeVar("F", bound=Callable[..., Any])


def _words(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    return value.split(",") if value else []


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    return [int(number) for number in value.split(",") if number]


def _list(name: str, default: Any, *, help: str) -> Callable[[F], F]:  # noqa: A002 - click's word
    parse = _words if isinstance(default[0], str) else _numbers
    return click.option(
        name, default=",".join(map(str, default)), show_default=True, callback=parse, metavar="A,B", help=help
    )


_ROUNDS = click.option("--rounds", default=3, show_default=True, help="Each has its turn once in each; medians count.")
_JSON = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Keep the results in this file.")


@click.group()
def main() -> None:
    """Measure settlement_core, beside the original framework and the floor of the same server where there is one."""


def _show(measure: Callable[[Path], Iterator[Row]], json_file: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="settlement-bench-") as folder:
        rows = list(measure(Path(folder)))
    print_table(rows)
    if json_file is not None:
        write_json(json_file, rows)


@main.command()
@_list("--servers", SERVERS, help="Each beside its floor, and all beside the original.")
@_list("--stores", STORES, help="Under each server.")
@_list("--accounts", (1, 100), help="Among how many accounts, in turn.")
@_list("--rates", (1000, 2000), help='Requests per second of the open loops; "" for none.')
@click.option("--seconds", default=3, show_default=True, help="How long each is under load in each round.")
@_ROUNDS
@_JSON
def accept(*, json_file: Path | None, **asked: Any) -> None:
    """Settlement requests over HTTP, made durable and answered; closed loop, then open loop."""
    require_node()
    _show(lambda folder: measure_accept(folder, **asked), json_file)


@main.command()
@_list("--stores", EMBEDDED_STORES, help="Where the books are.")
@_list("--backends", BACKENDS, help="Loops.")
@_list("--accounts", (1, 100, 10_000), help="Among how many accounts, in turn.")
@click.option("--seconds", default=2, show_default=True, help="How long each is under load in each round.")
@_ROUNDS
@_JSON
def embedded(*, json_file: Path | None, **asked: Any) -> None:
    """Settle without HTTP, beside a bare loop that gives the store the same commands."""
    _show(lambda folder: measure_embedded(folder, **asked), json_file)


@main.command()
@click.option("--at-rest", default=100_000, show_default=True, help="Accounts at rest, and owing at a start.")
@click.option("--active", default=10_000, show_default=True, help="Accounts with a settlement under way.")
def accounts(*, at_rest: int, active: int) -> None:
    """What accounts cost, on fsynced SQLite, without HTTP, on both loops."""
    with tempfile.TemporaryDirectory(prefix="settlement-bench-") as folder:
        for backend in BACKENDS:
            print(backend, measure_memory(backend, Path(folder), at_rest=at_rest, active=active))
            print(backend, measure_start(backend, Path(folder), owing=at_rest))


if __name__ == "__main__":
    main()

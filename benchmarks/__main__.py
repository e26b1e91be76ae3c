"""Run measurements and print few numbers: `python -m benchmarks [accept | accounts]`, by default all of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from benchmarks.accept import NODE, ORIGINAL, measure_accept
from benchmarks.accounts import measure_memory, measure_start
from benchmarks.servers import redis_server, require_node

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a file.")


@click.group(invoke_without_command=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Measure settlement_core, beside the original framework and the floor of the same server where there is one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(accept)
        ctx.invoke(accounts)


@main.command()
@click.option("--seconds", default=5, show_default=True, help="How long each server is under load in each round.")
@click.option("--rounds", default=5, show_default=True, help="Each server has its turn once in each; medians count.")
@click.option("--accounts", "counts", default="1,100", show_default=True, help="Among how many accounts, in turn.")
@_JSON
def accept(*, seconds: int, rounds: int, counts: str, as_json: bool) -> None:
    """Settlement requests per second over HTTP from 64 connections, on one Redis with appendfsync always.

    Every request has a key of its own and is settled at once by an engine that does nothing. Needs Node.js, for the
    original and for the load.
    """
    require_node(NODE)
    measured = {}
    with tempfile.TemporaryDirectory(prefix="settlement-bench-") as folder, redis_server(Path(folder)) as url:
        for count in map(int, counts.split(",")):
            measured[count] = measure_accept(url, accounts=count, seconds=seconds, rounds=rounds)
    if as_json:
        click.echo(json.dumps(measured))
        return
    for count, figures in measured.items():
        click.echo(f"{count:,} account{'s' * (count > 1)}: requests per second, times the original, p50 and p99 in ms")
        original = figures[ORIGINAL]["per_second"]
        for name, figure in figures.items():
            rates = f"{figure['per_second']:9,.0f} {figure['per_second'] / original:6.2f}"
            click.echo(f"    {rates} {figure['p50_ms']:7.1f} {figure['p99_ms']:7.1f}  {name}")


@main.command()
@click.option("--at-rest", default=100_000, show_default=True, help="Accounts at rest, and owing at a start.")
@click.option("--active", default=10_000, show_default=True, help="Accounts with a settlement under way.")
def accounts(*, at_rest: int, active: int) -> None:
    """What accounts cost, on fsynced SQLite, without HTTP, on both loops."""
    with tempfile.TemporaryDirectory(prefix="settlement-bench-") as folder:
        for backend in ("trio", "asyncio"):
            show(
                f"{backend}: {at_rest:,} accounts at rest, then {active:,} at work",
                measure_memory(backend, Path(folder), at_rest=at_rest, active=active),
            )
            for owing in (1_000, at_rest):
                show(
                    f"{backend}: start with {owing:,} accounts that owe",
                    measure_start(backend, Path(folder), owing=owing),
                )


def show(title: str, figures: dict[str, float]) -> None:
    """Print figures under a title."""
    click.echo(title)
    for name, figure in figures.items():
        click.echo(f"    {figure:12,.3f}  {name}")


if __name__ == "__main__":
    main()

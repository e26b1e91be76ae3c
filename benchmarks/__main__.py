"""Run every measurement in turn and print few numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.accounts import measure_memory, measure_start


@click.command()
@click.option("--accounts", default=100_000, show_default=True, help="Accounts at rest, and owing at a start.")
@click.option("--active", default=10_000, show_default=True, help="Accounts with a settlement under way.")
def main(accounts: int, active: int) -> None:
    """Measure what accounts cost, on fsynced SQLite, without HTTP, on both loops."""
    with tempfile.TemporaryDirectory(prefix="settlement-bench-") as folder:
        for backend in ("trio", "asyncio"):
            show(
                f"{backend}: {accounts:,} accounts at rest, then {active:,} at work",
                measure_memory(backend, Path(folder), at_rest=accounts, active=active),
            )
            for owing in (1_000, accounts):
                show(
                    f"{backend}: start with {owing:,} accounts that owe",
                    measure_start(backend, Path(folder), owing=owing),
                )


def show(title: str, figures: dict[str, float]) -> None:
    """Print figures under a title."""
    print(title)
    for name, figure in figures.items():
        print(f"    {figure:12,.3f}  {name}")


if __name__ == "__main__":
    main()

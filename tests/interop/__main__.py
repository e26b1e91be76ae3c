"""The long form: `python -m tests.interop --settlements 5000 --seed 7`."""

from __future__ import annotations

import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import anyio
import click

from settlement_core.values.amounts import subtract
from tests.interop.run import Direction, Outcome, play
from tests.interop.strikes import Strike


@click.command()
@click.option("--settlements", default=2000, show_default=True, type=click.IntRange(1), help="From both sides.")
@click.option("--kills", default=10, show_default=True, type=click.IntRange(0), help="SIGKILLs of our server.")
@click.option("--seed", default=0, show_default=True, help="The same seed asks for the same and disturbs the same.")
@click.option(
    "--strike",
    "strikes",
    multiple=True,
    type=click.Choice([strike.value for strike in Strike]),
    help="What is done to the original; may be repeated.  [default: everything, one after the other]",
)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep books and logs in this folder.")
def main(*, settlements: int, kills: int, seed: int, strikes: tuple[str, ...], keep: Path | None) -> None:
    """Our server and the original settle with each other, and their books are laid side by side.

    The exit code is 0 if they agree to the digit without a strike, and with one differ by exactly what explains it.
    """
    failed = False
    for strike in [Strike(name) for name in strikes] or list(Strike):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="settlement-interop-") as temporary:
            folder = keep / strike if keep is not None else Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            outcome = _run(folder, strike, settlements, kills, seed)
        explained = not outcome.problems and outcome.is_explained
        failed |= not explained
        _print(outcome, time.monotonic() - began)
        click.echo(f"  {'explained to the digit' if explained else f'NOT EXPLAINED (repeat with --seed {seed})'}")
    sys.exit(1 if failed else 0)


def _run(folder: Path, strike: Strike, settlements: int, kills: int, seed: int) -> Outcome:
    async def run() -> Outcome:
        return await play(folder, strike, settlements=settlements, kills=kills, seed=seed)

    return anyio.run(run, backend="trio")


def _print(outcome: Outcome, took_s: float) -> None:
    click.echo(
        f"{outcome.strike}: {outcome.settlements} settlements, {outcome.kills} kills of our server, "
        f"{outcome.transfers} transfers, {took_s:.0f} s"
    )
    _print_direction("we paid the original", outcome.from_us)
    _print_direction("the original paid us", outcome.to_us)
    for what in ("repeated", "parked", "lost"):
        amount: Decimal = getattr(outcome, what)
        if amount:
            click.echo(f"  {what} by the original: {amount:f}")
    for problem in outcome.problems:
        click.echo(f"  PROBLEM: {problem}")


def _print_direction(what: str, books: Direction) -> None:
    unpaid, surplus = subtract(books.requested, books.paid), subtract(books.credited, books.paid)
    told = f"{what}: requested {books.requested:f}, paid {books.paid:f}, credited {books.credited:f}"
    click.echo(f"  {told}; unpaid {unpaid:f}, credited beyond {surplus:f}")


if __name__ == "__main__":
    main()

"""`settlement-core demo`: what this package promises, shown on real processes."""

from __future__ import annotations

import json
import sys

import anyio
import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from settlement_core.cli.printing import add_row, say
from settlement_core.cli.printing import console as console_of
from settlement_core.demo.run import DemoPlan, Progress, run_demo
from settlement_core.demo.verdict import Verdict

__all__ = ["demo"]


@click.command()
@click.option(
    "--settlements", default=1000, show_default=True, type=click.IntRange(1), help="Requests, from both sides."
)
@click.option("--kills", default=8, show_default=True, type=click.IntRange(0), help="SIGKILLs at random moments.")
@click.option("--seed", default=0, show_default=True, help="The same seed asks for the same amounts.")
@click.option(
    "--backend",
    type=click.Choice(["trio", "asyncio"]),
    default="trio",
    show_default=True,
    help="The loop of the demonstration itself; the engines run on one each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def demo(*, settlements: int, kills: int, seed: int, backend: str, as_json: bool) -> None:
    """Two settlement engines settle with each other over a simulated ledger while they are killed.

    Alice's and Bob's engines are real processes that serve RFC 38 over HTTP and keep their books in SQLite; both
    have a connector that asks them to settle. The ledger loses requests and replies, reorganises and repeats
    itself, and the engines are ended by SIGKILL in the middle of paying. At the end every party's books are laid
    side by side: exit code 0 only if they agree to the last digit. Nothing is left behind.
    """
    plan = DemoPlan(settlements=settlements, kills=kills, seed=seed)
    console = console_of(120, stderr=as_json)
    progress = Progress(plan)
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        progress.changed = lambda: live.update(_picture(progress), refresh=console.is_terminal)
        verdict = anyio.run(run_demo, plan, progress, backend=backend)
    if as_json:
        say(json.dumps(verdict.to_json()))
    else:
        _print(console, verdict)
    sys.exit(0 if verdict.ok else 1)


def _picture(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("now", progress.stage)
    table.add_row("accepted", f"{progress.accepted} of {progress.plan.settlements} settlement requests")
    table.add_row("killed", f"{progress.kills} of {progress.plan.kills} times")
    table.add_row("requested", f"{progress.requested:f} units")
    table.add_row("credited", f"{progress.credited:f} units")
    return table


def _print(console: Console, verdict: Verdict) -> None:
    table = Table(title=f"{verdict.settlements} settlements, {verdict.kills} kills (seed {verdict.seed})")
    table.add_column("account", no_wrap=True)
    for name in ("requested", "settled", "in doubt", "credited", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in verdict.rows:
        figures = [row.requested, row.settled, row.in_doubt, row.credited, row.difference]
        add_row(table, str(row.relation), *(f"{figure:f}" for figure in figures))
    console.print(table)
    for problem in verdict.problems:
        say(f"PROBLEM: {problem}")
    if verdict.ok:
        say(
            f"All books agree to the last digit: both connectors, both engines and the ledger's {verdict.transfers} "
            "transfers. Nothing was lost, nothing was paid or credited twice."
        )
    else:
        say(f"{len(verdict.problems)} problems: the books do not agree (repeat with --seed {verdict.seed})")

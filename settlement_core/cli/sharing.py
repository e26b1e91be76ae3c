"""`settlement-core workers`: who shares a store, and whether anybody looks after all of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from settlement_core.cli.books import on_books
from settlement_core.cli.printing import add_row, count, make_table, print_table, say
from settlement_core.cli.source import Source

__all__ = ["workers"]


@click.command()
@on_books
def workers(source: Source, *, as_json: bool) -> None:
    """Show who shares a store: each worker looks after some of its partitions, into which accounts are divided.

    A worker that is not heard of until its lease runs out loses them to the others; meanwhile nothing is lost, but
    what is owed there waits. The last line says whether every partition has somebody who looks after it.
    """
    told = source.workers()
    if as_json:
        say(json.dumps(told))
        return
    if not told["shared"]:
        say("this store is one process's: no workers share it")
        return
    table = make_table("worker", "partitions", "which", "lease")
    for worker in told["workers"]:
        numbers, left_s = worker["partitions"], worker["expires_in_s"]
        lease = f"runs out in {left_s:.1f} s" if left_s > 0 else "has run out"
        add_row(table, worker["id"], str(len(numbers)), ranges(numbers), lease)
    print_table(table, _verdict(told))


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as text, those that follow one another as a range: "0-20, 22"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _verdict(told: dict[str, Any]) -> str:
    everything = set(range(told["partitions"]))
    held = {number for worker in told["workers"] if worker["expires_in_s"] > 0 for number in worker["partitions"]}
    late = {number for worker in told["workers"] for number in worker["partitions"]} - held
    living = sum(worker["expires_in_s"] > 0 for worker in told["workers"])
    if held == everything:
        return f"all {count(len(everything), 'partition')} are held, by {count(living, 'worker')}"
    said = []
    if nobodys := everything - held - late:
        said.append(f"{_named(nobodys, everything)} nobody's")
    if late:
        said.append(f"{_named(late, everything)} held by workers not heard of any more")
    if living:
        return f"{' and '.join(said)}: look again in a few seconds, by when the others should have taken them"
    return f"{' and '.join(said)}: what is owed there waits until somebody serves this store"


def _named(numbers: set[int], everything: set[int]) -> str:
    if numbers == everything:
        return f"all {len(everything)} partitions are"
    return f"partition {ranges(numbers)} is" if len(numbers) == 1 else f"partitions {ranges(numbers)} are"

"""`python -m tests.mutation [MODULE …]`: make mutants, test them, and show which nobody noticed.

A MODULE is a path under settlement_core, such as core/outgoing or stores; without any, all of parts.py is tested, which
takes hours. Results are kept in --folder: the next run there tests only what has changed, or was not tested yet.
Exits 1 if fewer than 95 % are killed, or if a survivor is not explained in survivors.toml.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.mutation.parts import parts_of
from tests.mutation.results import explanations, mutants_of, report
from tests.mutation.tree import copy_tree

FORKING = Path(__file__).with_name("forking.py")


@click.command(help=__doc__)
@click.argument("modules", nargs=-1)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(tempfile.gettempdir()) / "settlement-core-mutants",
    show_default=True,
)
@click.option("--jobs", default=2, show_default=True, help="Mutants tested at once.")
@click.option("--within-s", default=1e6, help="Seconds of tests for each mutant; of those it survives, ask again.")
@click.option("--survivors", is_flag=True, help="Test only those again that nobody noticed the last time.")
@click.option("--no-run", is_flag=True, help="Only show what is known from earlier runs.")
def main(modules: tuple[str, ...], folder: Path, jobs: int, within_s: float, *, survivors: bool, no_run: bool) -> None:
    """Make mutants, test them, and show which nobody noticed."""
    good = True
    for part, named in parts_of(modules):
        place = folder / part.name
        if not no_run:
            place.mkdir(parents=True, exist_ok=True)
            copy_tree(place, part)
            # the whole machine may be in use by others; and not the checkout's modules but the copy's are to be found
            command = ["nice", "-n", "19", sys.executable, "-P", str(FORKING)]
            options = ["--jobs", str(jobs), "--within-s", str(within_s), *["--survivors"] * survivors]
            subprocess.run([*command, *options, *named], cwd=place, check=True)
        good &= report(place, mutants_of(place, named), explanations())
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

"""Draws lives for as long as it is told; tells how many, how long they would have taken, and what went wrong in them.

`python -m settlement_core.testing.lives --examples 1000 --seed 7`; ends with 1, and the story, at the first life that
does harm, as drawn, and made as small as it gets. The same seed draws the same lives.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import count

from settlement_core.testing.lives.diary import Tally
from settlement_core.testing.lives.machine import TOGETHER, live_many
from settlement_core.testing.lives.system import Violated

YEAR_S = 365.25 * 86_400
PROGRESS_EVERY = 50
"""Systems between two lines of progress."""


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m settlement_core.testing.lives", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000, help="systems to draw, each of several lives (1000)")
    parser.add_argument("--minutes", type=float, help="instead of a number of systems, draw for so long")
    parser.add_argument("--seed", type=int, default=0, help=f"of the first {TOGETHER} systems; then it adds 1 (0)")
    parser.add_argument("--lives-each", type=int, default=8, help="lives of a system at most, before its last (8)")
    parser.add_argument("--backend", choices=["trio", "asyncio", "both"], default="both", help="loop to live on (both)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run; return the exit code."""
    asked = _arguments(words)
    # the core says much about what is broken on purpose
    logging.disable(logging.CRITICAL)
    try:
        return _soak(asked)
    finally:
        logging.disable(logging.NOTSET)


def _soak(asked: argparse.Namespace) -> int:
    backends = ["trio", "asyncio"] if asked.backend == "both" else [asked.backend]
    tally, began, done = Tally(), time.monotonic(), 0
    for number in count():
        seed, backend = asked.seed + number // len(backends), backends[number % len(backends)]
        if asked.minutes is None:
            more = min(TOGETHER, asked.examples - done)
        else:
            more = TOGETHER if time.monotonic() - began < asked.minutes * 60 else 0
        if more <= 0:
            break
        draw = partial(live_many, backend=backend, examples=more, seed_=seed, lives_each=asked.lives_each)
        try:
            draw(tally=tally, shrink=False)
        except Exception as problem:  # noqa: BLE001 - whatever ends a life ends the soak, and is told
            _report(tally, began)
            again = f"--seed {seed} --backend {backend} --examples {more} --lives-each {asked.lives_each}"
            print(f"\n{_told(problem)}")  # noqa: T201
            print(f"\nto see it again: python -m settlement_core.testing.lives {again}")  # noqa: T201
            print("\nmaking it small, for five minutes at most", flush=True)  # noqa: T201
            try:
                draw()
            except Exception as smaller:  # noqa: BLE001 - the same as above
                print(f"\n{_told(smaller)}")  # noqa: T201
            return 1
        done += more
        if done % PROGRESS_EVERY == 0:
            print(f"seed {seed} on {backend}: {done} systems, {tally.lives} lives, no harm", flush=True)  # noqa: T201
    _report(tally, began)
    return 0


def _told(problem: Exception) -> str:
    return str(problem) if isinstance(problem, Violated) else "".join(traceback.format_exception(problem))


def _report(tally: Tally, began: float) -> None:
    years = tally.simulated_s / YEAR_S
    print(f"{tally.lives} lives, {years:.2f} simulated years in {time.monotonic() - began:.0f} s")  # noqa: T201
    for kind, times in sorted(tally.faults.items()):
        print(f"{times:8}  {kind}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

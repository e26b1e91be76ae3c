"""A pytest plugin for mutants: as little time as can be is spent on finding out that something is wrong.

Hypothesis tries the same examples each time, and does not shrink what fails. Whoever waits in virtual time for what a
mutant will never do looks less often after a while: else ten minutes are 60,000 looks. What spins is ended after so
much time of the processor, not of the clock: however busy the machine is, no mutant is killed by that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import anyio
import pytest
from hypothesis import Phase, settings

from tests.core import worlds

TEST_CPU_S = 30
"""Of one test; the longest takes six."""

TIMED_OUT = 36
"""The exit code by which mutmut knows a mutant that did not end."""

os.environ.setdefault("CHECK_EXAMPLES", "15")

settings.register_profile(
    "mutation",
    parent=settings(),
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("mutation")


async def _until(
    condition: Callable[[], bool], *, within_s: float = 600.0, every_s: float = 0.01, closely_s: float = 20.0
) -> None:
    with anyio.fail_after(within_s):
        closely = anyio.current_time() + closely_s
        while not condition():
            await anyio.sleep(every_s if anyio.current_time() < closely else 25 * every_s)


# in place, since the tests have imported the function itself
worlds.until.__code__ = _until.__code__
worlds.until.__kwdefaults__ = _until.__kwdefaults__


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """End the process if a test takes too much of the processor."""
    signal.signal(signal.SIGPROF, lambda *_: os._exit(TIMED_OUT))
    signal.setitimer(signal.ITIMER_PROF, TEST_CPU_S)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)

"""A pytest plugin for mutants: as little time as can be is spent on finding out that something is wrong.

Hypothesis tries the same examples each time, and does not shrink what fails. Whoever waits in virtual time for what a
mutant will never do looks less often after a while: else ten minutes are 60,000 looks.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio
from hypothesis import Phase, settings

from tests.core import worlds

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
    condition: Callable[[], bool], *, within_s: float = 600.0, every_s: float = 0.01, closely_s: float = 3.0
) -> None:
    with anyio.fail_after(within_s):
        began = anyio.current_time()
        while not condition():
            waited_s = anyio.current_time() - began
            times = 1 if waited_s < closely_s else 25 if waited_s < 20 * closely_s else 200
            await anyio.sleep(times * every_s)


# in place, since the tests have imported the function itself
worlds.until.__code__ = _until.__code__
worlds.until.__kwdefaults__ = _until.__kwdefaults__

"""What a process that does nothing but serve asks of the system, and of Python."""

from __future__ import annotations

import gc
import resource
from contextlib import suppress

__all__ = ["COLLECT_EVERY", "collect_garbage_rarely", "raise_file_limit", "room_for"]

ENOUGH_FILES = 65_536


def raise_file_limit() -> None:
    """Let this process have as many files as it may, within reason: the usual 1,024 are for programs that select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # where that is forbidden, `room_for` makes do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for(connections: int) -> int:
    """Return how many connections one API may have: half of the process's files stay for stores and ledgers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft // 4))


COLLECT_EVERY = 10_000
"""Objects more than before after which Python looks for garbage that refers to itself; by default, 700.

Waiting tasks, requests and answers alone are thousands, and are freed as soon as nobody refers to them.
"""


def collect_garbage_rarely() -> None:
    """Leave out what was imported and set up until now when garbage is looked for, and look less often.

    With thousands of requests a second, Python spends a fifth to two fifths of its time on looking otherwise. Nothing
    stays that would have been collected, it only goes later: some megabytes more are in use.
    """
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    # who has set it to nothing, or to more, wants that
    if 0 < young < COLLECT_EVERY:
        gc.set_threshold(COLLECT_EVERY, *older)

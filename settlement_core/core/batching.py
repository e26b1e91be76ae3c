"""How a batch is shared between requests from outside and what the core itself asks of the store.

Neither ever waits for ever: the core has its turn in every `TURNS`th batch at least, requests in each.
"""

from __future__ import annotations

__all__ = ["MANY_REQUESTS", "MAX_BATCH", "Shares"]

MAX_BATCH = 512
"""Commands applied at once: past a few hundred a bigger batch no longer saves, it only delays its first waiter."""

MANY_REQUESTS = 16
"""Requests from outside in one batch from which on they come first, since peers wait for them, and are many.

Then commands of the core are applied with every `TURNS`th batch only: what a store must read before it can decide about
them, and a second commit, delay all that is in the batch. What accounts do waits meanwhile, and then does more at a
time: the busier the server, the more requests are settled by one attempt.
"""

TURNS = 4
"""But with every batch where as many of the core's commands wait for each request: that many accounts are at work."""

BESIDE_REQUESTS = 16
"""Commands of the core that are applied beside requests at least; of many that wait, one in `TURNS`."""

AFTER_REQUESTS = 64
"""Commands of the core applied at once after requests, which are soon followed by others; twice as many each time
that none came meanwhile."""


class Shares:
    """Decides how many commands of either kind the next batch takes, remembering what the latest ones took."""

    def __init__(self) -> None:
        self._without_requests = 0
        self._without_others = 0

    def next(self, offered: int, submitted: int) -> tuple[int, int]:
        """Return how many of the requests offered, and of the commands submitted by the core, are applied now."""
        requests = min(offered, MAX_BATCH)
        if not requests:
            others = min(MAX_BATCH, AFTER_REQUESTS << min(self._without_requests, 10))
            self._without_requests += 1
            self._without_others = 0
        elif requests >= MANY_REQUESTS and self._without_others < TURNS - 1 and submitted < TURNS * requests:
            others = 0
            self._without_requests = 0
            self._without_others += 1
        else:
            others = min(MAX_BATCH, max(BESIDE_REQUESTS, submitted // TURNS))
            self._without_requests = self._without_others = 0
        return requests, min(submitted, others)

"""How often each client may ask: a token bucket per client, kept as one number each."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RateLimit"]

MAX_CLIENTS = 10_000
"""Clients remembered at once; who is forgotten first is who has not asked for longest."""


class RateLimit:
    """Admits every client `per_s` requests a second on average, and twice as many at once."""

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s
        self._burst_s = 2.0
        # when each client's bucket will be full again (the generic cell rate algorithm)
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def admits(self, client: str, now: float) -> bool:
        """Tell whether a client may ask now, and count it if so."""
        full_at = max(self._full_at.get(client, now), now) + self._interval_s
        if full_at - now > max(self._burst_s, self._interval_s):
            return False
        self._full_at[client] = full_at
        self._full_at.move_to_end(client)
        if len(self._full_at) > MAX_CLIENTS:
            self._full_at.popitem(last=False)
        return True

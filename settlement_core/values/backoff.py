"""How long to wait before trying again: pure, with the randomness handed in.

Delays grow exponentially, carry random jitter, and tries are never more than one hour apart (RFC 38, "Retry
behavior").
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CREDIT_BACKOFF", "SETTLE_BACKOFF", "STORE_BACKOFF", "Backoff"]

HOUR_S = 3600.0

DAY_S = 24 * HOUR_S

# Doublings after which any delay has reached its maximum.
_ENOUGH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A policy of delays.

    Attributes:
        first_s: seconds before the first retry, without jitter.
        max_s: seconds no delay exceeds; at most one hour.
        factor: growth from one retry to the next.
        jitter: the part of each delay, 0 to 1, that chance may take off.
    """

    first_s: float
    max_s: float
    factor: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.max_s <= HOUR_S:
            raise ValueError(f"back-off needs 0 < first_s <= max_s <= {HOUR_S:g}, got {self.first_s}, {self.max_s}")
        if self.factor < 1 or not 0 <= self.jitter < 1:
            raise ValueError(f"back-off needs factor >= 1 and 0 <= jitter < 1, got {self.factor}, {self.jitter}")

    def delay_s(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after `failures` (>= 1) failures in a row; `chance` is in [0, 1)."""
        assert failures >= 1
        delay = self.first_s
        for _ in range(min(failures, _ENOUGH) - 1):
            delay = min(delay * self.factor, self.max_s)
        return delay * (1.0 - self.jitter * chance)


# A lost answer should be asked for again well inside the time a forgetful connector remembers the key; the
# maximum leaves room for the request itself, so that two tries never start more than an hour apart.
CREDIT_BACKOFF = Backoff(first_s=0.5, max_s=HOUR_S - 60)

# First retry late enough for the next request to join what was left over.
SETTLE_BACKOFF = Backoff(first_s=5.0, max_s=HOUR_S - 60)

# Requests wait for a broken store only a few seconds, so it is asked often.
STORE_BACKOFF = Backoff(first_s=0.05, max_s=5.0)

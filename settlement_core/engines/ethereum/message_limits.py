"""Bounds on what the messages of one peer cost: a token bucket for each account, and one log line a minute.

Each message of a handshake makes or checks a signature, which takes milliseconds of the loop that all accounts share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["LOG_INTERVAL_S", "MESSAGES", "MESSAGES_PER_S", "MessageLimits"]

MESSAGES = 60
"""Messages that one account may send at once: a handshake has four, and connectors repeat each up to eleven times."""

MESSAGES_PER_S = 1.0
"""Messages a second that it may go on to send."""

LOG_INTERVAL_S = 60.0
"""Seconds between two log lines of one kind about one account."""

_SWEPT_ABOVE = 1_000
"""Entries above which those are removed that no longer limit anything."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


@dataclass(slots=True)
class _Line:
    at: float
    left_out: int = 0


class MessageLimits:
    """The limits of one engine's peers. Nothing of it is durable.

    Args:
        now: a clock in seconds that is never set.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[str, _Bucket] = {}
        self._lines: dict[tuple[str, str], _Line] = {}

    def __repr__(self) -> str:
        return f"<MessageLimits, {len(self._buckets)} accounts below {MESSAGES} messages>"

    def wait_s(self, account_id: str) -> float:
        """Count a message and return 0; where the account has sent too many, the seconds until it may send the next."""
        now = self._now()
        bucket = self._buckets.get(account_id)
        if bucket is None:
            self._sweep(now)
            bucket = self._buckets[account_id] = _Bucket(MESSAGES, now)
        bucket.left, bucket.at = _filled(bucket, now), now
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / MESSAGES_PER_S
        bucket.left -= 1.0
        return 0.0

    def log_note(self, account_id: str, kind: str) -> str | None:
        """Return what to append to a log line of a kind, or None if none is due: it is counted in the next one."""
        now = self._now()
        line = self._lines.get((account_id, kind))
        if line is not None and now - line.at < LOG_INTERVAL_S:
            line.left_out += 1
            return None
        left_out = 0 if line is None else line.left_out
        self._lines[account_id, kind] = _Line(now)
        return f" ({left_out} more such messages since the last line)" if left_out else ""

    def _sweep(self, now: float) -> None:
        if len(self._buckets) > _SWEPT_ABOVE:
            self._buckets = {name: b for name, b in self._buckets.items() if _filled(b, now) < MESSAGES}
        if len(self._lines) > _SWEPT_ABOVE:
            self._lines = {name: x for name, x in self._lines.items() if x.left_out or now - x.at < LOG_INTERVAL_S}


def _filled(bucket: _Bucket, now: float) -> float:
    return min(bucket.left + max(now - bucket.at, 0.0) * MESSAGES_PER_S, MESSAGES)

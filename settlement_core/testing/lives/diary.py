"""What happened, in order, so that a failure reads like a story; and how often, so that a soak can tell."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Diary", "Tally"]

LINES = 300
"""Of a story: what matters is near its end."""


@dataclass(slots=True)
class Tally:
    """Counts of a whole soak."""

    lives: int = 0
    simulated_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class Diary:
    """Everything that happened in one system."""

    def __init__(self, now: Callable[[], float], tally: Tally) -> None:
        self.tally = tally
        self._now = now
        self._lines: deque[str] = deque(maxlen=LINES)

    def tell(self, line: str) -> None:
        """Note one thing."""
        self._lines.append(f"{self._now():10.2f} s  {line}")

    def fault(self, kind: str, line: str) -> None:
        """Note a fault."""
        self.count(kind)
        self.tell(f"! {line}")

    def count(self, kind: str) -> None:
        """Count a fault."""
        self.tally.faults[kind] += 1

    def story(self) -> str:
        """Return the latest lines."""
        return "\n".join(self._lines)

"""The offers of one credit, and until when another one may reach a connector that forgets keys.

Invariant: no offer begins so late that it could arrive once the connector may have forgotten the first one's key.
"""

from __future__ import annotations

from math import inf

from settlement_core.core.credit_answers import Answers, written_time

__all__ = ["Offers"]


class Offers:
    """What is known of the offers of one credit. Times are of the loop's clock, `wall` ones in seconds since 1970.

    Args:
        memory_s: how long the connector remembers a key after its first use; None if for ever.
        call_s: how long after its beginning an offer may still arrive.
    """

    def __init__(self, *, memory_s: float | None, call_s: float) -> None:
        self._memory_s = memory_s
        # a long timeout must leave room for another offer within a short memory
        self._call_s = 0.0 if memory_s is None else min(call_s, memory_s / 2)
        self.answers = Answers()
        """All that is known of, also from earlier runs."""
        self._count = 0
        self._since: float | None = None
        self._earlier_run_from: float | None = None
        self._first: float | None = None

    @property
    def sent(self) -> bool:
        """Tell whether any offer may have left."""
        return self._first is not None

    @property
    def end(self) -> float:
        """When the connector may forget the key: nothing that is offered again may go on beyond."""
        return inf if self._first is None or self._memory_s is None else self._first + self._memory_s

    def is_too_late(self, at: float) -> bool:
        """Tell whether an offer that begins then could arrive after the connector forgot the key."""
        return at >= self.end - self._call_s

    def assume_earlier(self, *, claimed_wall: float, wall: float, at: float) -> None:
        """Assume that an earlier run offered the credit as soon as it was claimed.

        A wall clock that shows less than then tells nothing: the key counts as forgotten.
        """
        self._earlier_run_from = claimed_wall
        self._first = at - (wall - claimed_wall) if wall >= claimed_wall else -inf

    def add(self, answer: str, *, began: float, wall: float, sent: bool) -> bool:
        """Count an offer that began then and was not heard; return whether its answer is another one than before."""
        self._count += 1
        if self._since is None:
            self._since = wall
        if sent and self._first is None:
            self._first = began
        return self.answers.add(answer if sent else f"{answer} (not sent)", wall=wall)

    def why_held(self) -> str:
        """Return why the credit is not offered again."""
        return (
            f"the connector may have forgotten its key, which it remembers for {self._memory_s:g} s; {self.history()}"
        )

    def history(self) -> str:
        """Return how often, since when and with which answers it was offered, or "" if it never was."""
        told = []
        if self._earlier_run_from is not None:
            told.append(f"an earlier run may have offered it from {written_time(self._earlier_run_from)} on")
        if self._since is not None:
            times = "once" if self._count == 1 else f"{self._count} times"
            told.append(f"offered {times} since {written_time(self._since)}")
        answers = str(self.answers)
        return "; ".join([*told, f"answers in order: {answers}"] if answers else told)

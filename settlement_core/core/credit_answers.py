"""What a connector answered to one credit, in order and in few words: an operator decides by it.

"500, then 409" says that the key was refused, "no answer, then 409" that the credit may have been taken. The store
keeps it from the first answer that did not end the credit: a restart, a takeover or a release forgets none of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from settlement_core.values.command import OWN_VALUES
from settlement_core.values.commands import Get, Put

__all__ = ["Answers", "ask_answers", "keep_answers", "read_answers", "written_time"]

FIRST = 3
"""Different answers that are kept from the beginning, where it was offered with an unused key."""

LAST = 4
"""Different answers that are kept from the end."""

LONGEST = 120
"""Characters of one answer."""

_KEY = "answers"


@dataclass(slots=True)
class _Run:
    """The same answer, so many times in a row."""

    words: str
    times: int
    since: float


class Answers:
    """Answers in order; the same one in a row counts once, and of many different ones the middle is left out."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._left_out = 0

    def add(self, words: str, *, wall: float) -> bool:
        """Count an answer; return whether it is one that was not given before, so that the store is to keep it.

        Of answers that alternate, the store has the order only as far as the latest new one; a hold keeps all.
        """
        words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
        if self._runs and self._runs[-1].words == words:
            self._runs[-1].times += 1
            return False
        is_new = all(run.words != words for run in self._runs)
        self._runs.append(_Run(words, 1, wall))
        if len(self._runs) > FIRST + LAST:
            self._left_out += self._runs.pop(FIRST).times
        return is_new

    def __str__(self) -> str:
        """Return them for an operator, or "" if there is none."""
        told = [
            run.words if run.times == 1 else f"{run.words} ({run.times} times from {written_time(run.since)} on)"
            for run in self._runs
        ]
        if self._left_out:
            told.insert(FIRST, f"{self._left_out} more")
        return ", then ".join(told)

    def to_json(self) -> dict[str, Any]:
        """Return what a store keeps."""
        return {"left_out": self._left_out, "runs": [[run.words, run.times, run.since] for run in self._runs]}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Answers:
        """Return what a store has kept."""
        answers = cls()
        answers._left_out = kept["left_out"]
        answers._runs = [_Run(*run) for run in kept["runs"]]
        return answers


def keep_answers(account_id: str, attempt_id: str, answers: Answers | None) -> Put:
    """Return what makes a store keep the answers to an account's open or held credit; None ends that."""
    value = None if answers is None else {"attempt": attempt_id, **answers.to_json()}
    return Put(account_id=OWN_VALUES + account_id, key=_KEY, value=value)


def ask_answers(account_id: str) -> Get:
    """Return what asks a store for them; `read_answers` reads the answer."""
    return Get(account_id=OWN_VALUES + account_id, key=_KEY)


def read_answers(found: object, attempt_id: str) -> Answers | None:
    """Return the answers that a store kept for this attempt, if any."""
    if isinstance(found, dict) and found.get("attempt") == attempt_id:
        return Answers.from_json(found)
    return None


def written_time(wall: float) -> str:
    """Return seconds since 1970 as a person reads them."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall))
    except (OverflowError, ValueError, OSError):
        return f"{wall:.0f} s after 1970"

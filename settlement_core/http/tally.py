"""Warnings that a client can cause, counted: a flood of requests must not become one of lines."""

from __future__ import annotations

import logging
import math

import anyio

__all__ = ["Tally"]

logger = logging.getLogger("settlement_core.http")

TELL_S = 60.0
"""A warning is logged at most so often, with how often it was due since."""


class Tally:
    """One warning; its text has `%d` for the number, and then what is known of the last case."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._count = 0
        self._tell_at = -math.inf

    def note(self, *facts: object) -> None:
        """Count a case, and log it unless one was logged less than `TELL_S` ago."""
        self._count += 1
        now = anyio.current_time()
        if now >= self._tell_at:
            logger.warning(self._text, self._count, *facts)
            self._count, self._tell_at = 0, now + TELL_S

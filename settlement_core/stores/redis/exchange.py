"""What goes to one server at once: the commands for some calls, and what their answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from settlement_core.stores.redis.layout import mark_key
from settlement_core.stores.redis.scripts import Call, Reply
from settlement_core.stores.redis.settings import Guard

__all__ = ["FOREIGN", "Exchange"]

FOREIGN = "FOREIGNSTORE"
"""Begins what a script answers that found another store than its caller's."""


class Exchange:
    """What is sent for some calls, and how what is answered is read."""

    def __init__(self, calls: Sequence[Call], guard: Guard, *, mark: str, asking: bool, one_slot: bool) -> None:
        writing = any(call.writes for call in calls)
        self._guard = guard
        self._asking = asking
        # a server reads a pipeline in parts, and writes to the disk after each: once will do
        self._together = writing and len(calls) > 1 and one_slot
        self.commands: list[tuple[Any, ...]] = []
        if self._together:
            self.commands.append(("MULTI",))
        touching = max((place for place, call in enumerate(calls) if call.writes), default=None)
        for place, call in enumerate(calls):
            if asking:
                self.commands.append(("ASKING",))
            script, keys = call.what, call.keys
            if script.checked:
                touch = "touch" if place == touching and guard.counts_writes else ""
                own, ends = (mark_key(keys[0]),), (mark, guard.ahead_ms, touch)
                self.commands.append(("EVALSHA", script.sha, len(keys) + 1, *keys, *own, *call.arguments, *ends))
            else:
                self.commands.append(("EVALSHA", script.sha, len(keys), *keys, *call.arguments))
        if self._together:
            self.commands.append(("EXEC",))
        self._confirmations = len(guard.confirmation) if writing else 0
        if writing:
            self.commands += guard.confirmation

    def replies(self, answers: list[Any]) -> list[Reply]:
        """Return what the calls were answered; raises `StoreUnavailable` unless that is as durable as wanted."""
        confirmed = len(answers) - self._confirmations
        answers, confirmations = answers[:confirmed], answers[confirmed:]
        if self._asking:
            answers = answers[1::2]
        replies = _carried_out(answers) if self._together else answers
        # which is for good, whatever this server confirms
        foreign = any(isinstance(reply, Exception) and str(reply).startswith(FOREIGN) for reply in replies)
        if self._confirmations and not foreign:
            self._guard.require_confirmed(confirmations)
        return replies


def _carried_out(replies: Sequence[Reply]) -> list[Reply]:
    """Return what the calls of a transaction were answered, given the replies to all of it."""
    *taken, carried_out = replies
    for reply in taken:
        if isinstance(reply, Exception):
            raise reply  # it was not even queued, and so nothing was carried out
    if isinstance(carried_out, Exception):
        raise carried_out
    answers: list[Reply] = carried_out
    return answers

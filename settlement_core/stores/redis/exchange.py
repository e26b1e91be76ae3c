"""What goes to one server at once: the commands for some calls, and what their answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from settlement_core.stores.redis.scripts import Call, Reply, Script
from settlement_core.stores.redis.settings import Durability

__all__ = ["Exchange"]


class Exchange:
    """What is sent for some calls, and how what is answered is read."""

    def __init__(self, calls: Sequence[Call], durability: Durability, *, asking: bool, one_slot: bool) -> None:
        writing = any(call.writes for call in calls)
        self._durability = durability
        self._confirmed = writing and durability.confirmation is not None
        self._asking = asking
        # a server reads a pipeline in parts, and writes to the disk after each: once will do (of other calls than
        # scripts redis-py takes apart the answer, and knows nothing of transactions begun like this)
        scripts = all(isinstance(call.what, Script) for call in calls)
        self._together = writing and scripts and len(calls) > 1 and one_slot
        self.commands: list[tuple[Any, ...]] = []
        if self._together:
            self.commands.append(("MULTI",))
        for call in calls:
            if asking:
                self.commands.append(("ASKING",))
            if isinstance(call.what, Script):
                self.commands.append(("EVALSHA", call.what.sha, len(call.keys), *call.keys, *call.arguments))
            else:
                self.commands.append((call.what, *call.keys, *call.arguments))
        if self._together:
            self.commands.append(("EXEC",))
        if self._confirmed:
            assert durability.confirmation is not None
            self.commands.append(durability.confirmation)

    def replies(self, answers: list[Any], name: str) -> list[Reply]:
        """Return what the calls were answered; raises `StoreUnavailable` unless that is as durable as wanted."""
        if self._confirmed:
            self._durability.require_confirmed(answers.pop(), name)
        if self._together:
            return _carried_out(answers)
        return answers[1::2] if self._asking else answers


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

"""What has to be read of an account before commands on it can be decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from settlement_core.stores.redis.layout import DIRECTION_LETTERS, AccountKeys
from settlement_core.stores.redis.scripts import Call, script
from settlement_core.values import commands as c

__all__ = ["look"]


def look(
    keys: AccountKeys, commands: Sequence[c.Command[Any]], *, at_least: int = 0, attempts: Sequence[str] = ()
) -> Call:
    """Return the call that reads what these commands need to know, and these attempts.

    For a claim it reads `at_least` so many queued entries.
    """
    heads = dict.fromkeys(DIRECTION_LETTERS, 0)
    attempts = list(attempts)
    notes: list[str] = []
    for command in commands:
        if isinstance(command, c.Claim):
            # one more than may be taken, so that the end of what was read is not the end of the queue
            heads[command.direction] = max(heads[command.direction], command.max_entries + 1, at_least)
            attempts.append(command.attempt_id)
        elif isinstance(command, c.Note | c.Close | c.Hold | c.Release | c.Resolve):
            attempts.append(command.attempt_id)
        elif isinstance(command, c.Put | c.Get | c.Tick):
            notes.append(command.key)
    return Call(
        script("look"),
        keys.looked,
        [*heads.values(), len(attempts), *attempts, *notes],
    )

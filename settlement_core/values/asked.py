"""Checks the ids in commands from outside, which stores make into parts of keys."""

from __future__ import annotations

from typing import Any, TypeVar

from settlement_core.values.command import OWN_VALUES, Command
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.queries import Get

__all__ = ["checked"]

C = TypeVar("C", bound=Command[Any])

_ACCOUNTS = ("account_id", "after_account")

_KEYS = {
    "attempt_id": "attempt id",
    "entry_id": "entry id",
    "settlement_id": "settlement id",
}


def checked(command: C) -> C:
    """Return the command if its ids are such as an account, attempt, entry or settlement can have.

    Raises `InvalidIdentifier`. No account at all, as None or "", is an answer of its own in some commands.
    """
    for name in _ACCOUNTS:
        value = getattr(command, name, None)
        # the framework's own values are nobody's account
        if value and not (value == OWN_VALUES and isinstance(command, Get)):
            check_account_id(value)
    for name, what in _KEYS.items():
        if value := getattr(command, name, None):
            check_key(value, what)
    return command

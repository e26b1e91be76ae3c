"""Checks the ids in commands from outside, which stores make into parts of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from settlement_core.values.command import OWN_VALUES, Command
from settlement_core.values.errors import InvalidIdentifier, UnknownAccount, UnknownAttempt, UnknownSuspense
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.queries import Get

__all__ = ["checked"]

C = TypeVar("C", bound=Command[Any])


def checked(command: C) -> C:
    """Return the command if its ids are such as an account, attempt, entry or settlement can have.

    Raises `UnknownAccount`, `UnknownAttempt` or `UnknownSuspense` for an id that none can have, and
    `InvalidIdentifier` for an entry. No account at all, as None or "", is an answer of its own in some commands.
    """
    for name in ("account_id", "after_account"):
        value = getattr(command, name, None)
        # the framework's own values are nobody's account
        if value and not (value == OWN_VALUES and isinstance(command, Get)) and not _is_fine(check_account_id, value):
            raise UnknownAccount(value)
    attempt_id = getattr(command, "attempt_id", None)
    if attempt_id and not _is_fine(check_key, attempt_id, "attempt id"):
        raise UnknownAttempt(getattr(command, "account_id", ""), attempt_id)
    settlement_id = getattr(command, "settlement_id", None)
    if settlement_id and not _is_fine(check_key, settlement_id, "settlement id"):
        raise UnknownSuspense(settlement_id)
    entry_id = getattr(command, "entry_id", None)
    if entry_id:
        check_key(entry_id, "entry id")
    return command


def _is_fine(check: Callable[..., str], *arguments: str) -> bool:
    try:
        check(*arguments)
    except InvalidIdentifier:
        return False
    return True

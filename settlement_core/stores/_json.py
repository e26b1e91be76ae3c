"""JSON values as a store keeps them: written out at once, so that nothing the caller does later changes them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from typing import Any, TypeVar

from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError
from settlement_core.values.json_text import encode_json
from settlement_core.values.records import Pausing, Payment
from settlement_core.values.texts import whole_value

__all__ = ["checked", "freeze", "kept", "pausing_of", "pausing_text", "thaw"]

C = TypeVar("C", bound=c.Command[Any])


def freeze(value: object, what: str) -> str:
    """Return a JSON value as text, or refuse with a `LocalError` that names `what` it was to be kept as."""
    try:
        return encode_json(value)
    except ValueError as problem:
        raise LocalError(f"cannot keep {what}: {problem}; nothing was recorded") from None


def thaw(text: str) -> Any:
    """Return a fresh copy of the JSON value that was frozen.

    Earlier versions also wrote half characters, which no answer could then be made of.
    """
    value = json.loads(text)
    return whole_value(value) if "\\" in text and "\\ud" in text else value


def checked(command: C) -> C:
    """Return the command with copies of its JSON values; refuse it if a name in it holds half a character."""
    refusal = refusal_of_halves(command)
    if refusal is not None:
        raise refusal
    return kept(command)


def refusal_of_halves(command: c.Command[Any]) -> LocalError | None:
    """Return why a command cannot be kept whose names hold half a character; None if they do not."""
    kind: Any = type(command)
    for field_name in _names(kind):
        value = getattr(command, field_name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and whole_value(text) != text:
                return LocalError(f"cannot keep {kind.__name__}: {text!r} holds half a character; nothing was recorded")
    return None


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if (kind, field.name) not in _VALUES)


_VALUES = {(c.Suspend, "details"), (c.Put, "value")}
"""Fields that hold JSON, not a name."""


def kept(command: C) -> C:
    """Return the command with copies of the JSON values it carries, as they will be read back."""
    changed: Any = command
    if isinstance(command, c.Note):
        what = f"the payment of attempt {command.attempt_id!r}"
        payment = Payment(command.payment.amount, thaw(freeze(command.payment.reference, what)))
        changed = replace(command, payment=payment)
    elif isinstance(command, c.Suspend):
        what = f"the details of unattributed settlement {command.settlement_id!r}"
        changed = replace(command, details=thaw(freeze(command.details, what)))
    elif isinstance(command, c.Put):
        changed = replace(command, value=thaw(freeze(command.value, f"the engine's value {command.key!r}")))
    return changed  # type: ignore[no-any-return]


def pausing_text(pausing: Pausing | None) -> str | None:
    """Return the latest word on whether an account is paused, as it is kept."""
    return None if pausing is None else json.dumps([pausing.paused, pausing.reason, pausing.by, pausing.at])


def pausing_of(text: str | None) -> Pausing | None:
    """Return what `pausing_text` wrote."""
    if text is None:
        return None
    paused, reason, by, at = thaw(text)
    return Pausing(paused=paused, reason=reason, by=by, at=at)

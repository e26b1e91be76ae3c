"""What every command is."""

from __future__ import annotations

from typing import Any, Generic, TypeAlias, TypeVar

from settlement_core.values.texts import whole_text

__all__ = ["OWN_VALUES", "Command", "Result", "make_whole"]

OWN_VALUES = "/"
"""Owns the values that are the framework's, not the engine's: no account can have this id."""

R_co = TypeVar("R_co", covariant=True)

Result: TypeAlias = Any
"""What a command of type `Command[R]` is answered with: an R, or a LocalError that says why not."""


class Command(Generic[R_co]):
    """A question or order to a store; `R_co` is the type of its result."""

    __slots__ = ()


def make_whole(command: Command[Any], *names: str) -> None:
    """Have these fields of a command that is being made hold text that every store keeps alike."""
    for name in names:
        object.__setattr__(command, name, whole_text(getattr(command, name)))

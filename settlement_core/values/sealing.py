"""The mark on a store that nobody may serve: its money is kept in another one, or has not all arrived yet.

The mark is an ordinary value of the engine, under an account id that no account can have.
"""

from __future__ import annotations

from settlement_core.values.commands import OWN_VALUES, Get, Put
from settlement_core.values.errors import LocalError

__all__ = ["SEAL", "refuse_sealed", "seal"]

SEAL = Get(account_id=OWN_VALUES, key="sealed")
"""Asks for the mark: a sentence, or None."""


def seal(sentence: str | None) -> Put:
    """Return the command that marks a store, with the sentence that whoever tries to serve it is told; None unmarks."""
    return Put(account_id=OWN_VALUES, key=SEAL.key, value=sentence)


def refuse_sealed(answer: object) -> None:
    """Raise `LocalError` if the answer to `SEAL` says that the store may not be served."""
    if answer is not None:
        raise LocalError(str(answer))

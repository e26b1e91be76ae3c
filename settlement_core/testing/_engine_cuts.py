"""How a life is struck, and what survives: the ledger always, and of the store what it held at that instant."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import anyio

from settlement_core.stores.memory import MemoryStore
from settlement_core.testing._engine_phases import Moment, Watch
from settlement_core.values import commands as c
from settlement_core.values.errors import ConnectorError

__all__ = ["Cut", "Fate", "ForgetfulStore", "UnstoppableError", "Way"]


class Way(StrEnum):
    """How a life is struck."""

    CANCEL = "cancelled"
    CRASH = "crashed"
    SHUT_DOWN = "shut down"
    LOSE = "with the call failing"
    FORGET = "crashed, on a store that fails over and forgets the noted payment,"


@dataclass(frozen=True, slots=True)
class Cut:
    """What happens to a life, and when."""

    way: Way
    moment: Moment

    def __str__(self) -> str:
        return f"{self.way} {self.moment}"


class UnstoppableError(AssertionError):
    """The engine cannot be cancelled: what it left behind in the event loop makes further trials pointless."""


class ForgetfulStore(MemoryStore):
    """Remembers what it was before a payment was last noted."""

    def __init__(self) -> None:
        super().__init__()
        self.before_note: ForgetfulStore | None = None

    def apply(self, commands: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Apply."""
        if any(isinstance(command, c.Note) for command in commands):
            self.before_note = None
            self.before_note = deepcopy(self)
        return super().apply(commands)


class Fate:
    """What happens to one life: run it inside `scope`, end it in order once `stop` is set, go on with `survivor`."""

    def __init__(self, store: ForgetfulStore, cut: Cut | None) -> None:
        self.scope = anyio.CancelScope()
        self.stop = anyio.Event()
        self.survivor = store
        self._store = store
        self._cut = cut

    def strike(self, watch: Watch) -> None:
        """Do what the cut says, at its moment."""
        assert self._cut is not None
        match self._cut.way:
            case Way.LOSE:
                raise ConnectorError("a call that does not get through, on purpose")
            case Way.SHUT_DOWN:
                self.stop.set()
                return
            case Way.CRASH:
                self.survivor = deepcopy(self._store)
            case Way.FORGET:
                self.survivor = deepcopy(self._store.before_note or self._store)
        watch.cancelled = True
        self.scope.cancel()

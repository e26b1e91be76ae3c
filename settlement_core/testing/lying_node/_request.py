"""Values of the lying node: a request while it is answered, lies that were told, and lies that are due."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from settlement_core.testing.connector._wire import JSON, Answer
from settlement_core.testing.lying_node._calls import NodeCall, write
from settlement_core.testing.lying_node._kinds import TRUTH, AnswerLie, Lie, ViewLie

__all__ = ["Request", "Script", "Spell", "Told"]


@dataclass(frozen=True, slots=True)
class Told:
    """One lie that was told: in which request, about which methods, and what was said instead of the truth."""

    request: int
    lie: str
    methods: str
    change: str = ""

    def __str__(self) -> str:
        return f"request {self.request}, {self.methods}: {self.lie}" + (f": {self.change}" if self.change else "")


@dataclass(slots=True)
class Script:
    """A lie that a test wants told at the next opportunities, about one method or any."""

    lie: Lie
    left: int
    method: str | None

    def meets(self, calls: Sequence[NodeCall]) -> bool:
        """Tell whether it is due and one of the calls is of its method."""
        return self.left > 0 and any(self.method in {None, call.method} for call in calls)


@dataclass(slots=True)
class Request:
    """A request while it is answered. `items` are the answers so far, in the order of the calls, `changed` the lies."""

    number: int
    body: bytes
    calls: list[NodeCall]
    batch: bool
    chance: random.Random
    truth: Answer | None = None
    items: list[dict[str, Any]] | None = None
    instead: Any = TRUTH
    lied: bool = False
    changed: set[int] = field(default_factory=set)

    @property
    def methods(self) -> str:
        """Return the methods of the calls as one text."""
        return "+".join(call.method for call in self.calls)

    def answer(self) -> Answer:
        """Return the truth byte by byte, or what is said instead."""
        if not self.lied:
            assert self.truth is not None
            return self.truth
        content: Any = self.instead
        if content is TRUTH:
            assert self.items is not None
            content = self.items if self.batch else self.items[0]
        return Answer(200, write(content), {"content-type": JSON})


@dataclass(slots=True)
class Spell:
    """A lie that is repeated with the same chance each time: for one question, or in the next requests."""

    lie: AnswerLie | ViewLie
    seed: int
    left: int

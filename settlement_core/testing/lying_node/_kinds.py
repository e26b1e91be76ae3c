"""The four kinds of lies, as frozen values with a name and one function or a few facts each."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from settlement_core.testing.connector._wire import Answer
from settlement_core.testing.lying_node._calls import NodeCall
from settlement_core.testing.lying_node._memory import Memory

if TYPE_CHECKING:
    from settlement_core.testing.lying_node._branches import ReplacedBlock

__all__ = ["TRUTH", "AnswerLie", "Ask", "BodyLie", "Lie", "Replaced", "ViewLie", "WireLie"]

TRUTH: Any = object()
"""What a lie returns that cannot be told about this answer."""

Ask: TypeAlias = Callable[[Sequence[NodeCall]], Awaitable[list[Any]]]
"""Asks a node and returns for each call its result, or a `Refusal`."""


Replaced: TypeAlias = "Mapping[int, ReplacedBlock]"
"""By height, blocks that are not on the chain any more."""


@dataclass(frozen=True, slots=True)
class AnswerLie:
    """A lie about the result of one call.

    Attributes:
        name: what is wrong with the answer.
        change: the true result, the call, chance and earlier results, to another result, a `Refusal`, or `TRUTH`.
            It must not change the result in place.
        methods: those it can be told about; None is any.
    """

    name: str
    change: Callable[[Any, NodeCall, random.Random, Memory], Any]
    methods: frozenset[str] | None = None

    def fits(self, call: NodeCall) -> bool:
        """Tell whether it can be told about a call."""
        return self.methods is None or call.method in self.methods


@dataclass(frozen=True, slots=True)
class ViewLie:
    """An answer that would be true of another node, or of this one at another time.

    Attributes:
        name: whose view it is.
        look: the calls, how to ask the nodes, chance and the blocks that were replaced, to a result for each call; None
            if there is no such view. A view may last for a few requests; it gets the same chance in each.
        of_replaced: whether it needs blocks that were replaced; they are recorded only then, which takes more calls.
    """

    name: str
    look: Callable[[Sequence[NodeCall], Sequence[Ask], random.Random, Replaced], Awaitable[list[Any] | None]]
    of_replaced: bool = False


@dataclass(frozen=True, slots=True)
class BodyLie:
    """True results in a body that is not a proper answer to the request.

    Attributes:
        name: what is wrong with the body.
        change: the items of the answer, in the order of the calls, and chance, to what is written as JSON instead;
            `TRUTH` if it cannot be told of this answer.
        batches: whether it is told of batches; else it is told of single calls.
    """

    name: str
    change: Callable[[list[dict[str, Any]], random.Random], Any]
    batches: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLie:
    """What befalls a request on its way.

    Attributes:
        name: what befalls it.
        acts: whether the node gets the request.
        late_s: seconds it waits before the node gets it, at most.
        delay_s: seconds the answer waits, at most.
        answer: makes what is answered of the true body, which is empty if the node got nothing; None is the truth.
    """

    name: str
    acts: bool = True
    late_s: float = 0.0
    delay_s: float = 0.0
    answer: Callable[[bytes, random.Random], Answer] | None = None


Lie: TypeAlias = AnswerLie | ViewLie | BodyLie | WireLie

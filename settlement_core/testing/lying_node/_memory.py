"""Earlier answers of the node: the source of lies that were once true."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from settlement_core.testing.lying_node._calls import NodeCall

__all__ = ["Memory"]

_QUESTIONS = 2_000
"""Questions whose answers are remembered."""

_ANSWERS = 8
"""Different answers remembered of one question."""


class Memory:
    """Results by question, oldest first. Nothing is forgotten before `_QUESTIONS` other questions were asked."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, list[Any]] = OrderedDict()
        self._calls: dict[str, NodeCall] = {}

    def __repr__(self) -> str:
        return f"<Memory of {len(self._results)} questions>"

    def remember(self, call: NodeCall, result: Any) -> None:
        """Remember a true result."""
        question = call.question
        known = self._results.setdefault(question, [])
        self._calls[question] = call
        self._results.move_to_end(question)
        if not known or known[-1] != result:
            known.append(result)
            del known[:-_ANSWERS]
        while len(self._results) > _QUESTIONS:
            forgotten, _ = self._results.popitem(last=False)
            del self._calls[forgotten]

    def older(self, call: NodeCall) -> list[Any]:
        """Return earlier results of the same question."""
        return list(self._results.get(call.question, ()))

    def others(self, call: NodeCall) -> list[Any]:
        """Return the latest results of the same method with other parameters."""
        return [
            results[-1]
            for question, results in self._results.items()
            if self._calls[question].method == call.method and question != call.question
        ]

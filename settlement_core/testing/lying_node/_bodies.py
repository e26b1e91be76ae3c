"""Lies in the form of an answer: batches with missing, doubled or foreign items, and bodies that are not JSON-RPC."""

from __future__ import annotations

import copy
import random
from typing import Any

from settlement_core.testing.lying_node._calls import Refusal
from settlement_core.testing.lying_node._kinds import TRUTH, BodyLie

__all__ = ["BODY_LIES", "reordered"]

Items = list[dict[str, Any]]

_WRONG_IDS: tuple[Any, ...] = (-1, 10**6, "0", None, 1.5, [], True)

_LEVELS = 100


def _missing(items: Items, chance: random.Random) -> Any:
    at = chance.randrange(len(items))
    return [*items[:at], *items[at + 1 :]]


def _doubled(items: Items, chance: random.Random) -> Any:
    return [*items, copy.deepcopy(chance.choice(items))]


def _doubled_differently(items: Items, chance: random.Random) -> Any:
    """Give one call two answers: its own, before or after that of another call."""
    first, second = chance.sample(items, 2)
    foreign = {**second, "id": first["id"]}
    return [foreign, *items] if chance.random() < 0.5 else [*items, foreign]


def reordered(items: Items, chance: random.Random) -> Any:
    """Return the items in another order, which JSON-RPC 2.0 allows ("Batch")."""
    order = chance.sample(items, len(items))
    return order if order != items else [*items[1:], items[0]]


def _swapped(items: Items, chance: random.Random) -> Any:
    at, to = chance.sample(range(len(items)), 2)
    said = list(items)
    said[at], said[to] = {**items[to], "id": items[at]["id"]}, {**items[at], "id": items[to]["id"]}
    return said if said != items else TRUTH


def _wrong_id(items: Items, chance: random.Random) -> Any:
    at = chance.randrange(len(items))
    said = {**items[at], "id": chance.choice(_WRONG_IDS)}
    return said if len(items) == 1 else [*items[:at], said, *items[at + 1 :]]


def _error(items: Items) -> dict[str, Any]:
    refusal = Refusal(-32600, f"batch of {len(items)} requests is not allowed")
    return {"jsonrpc": "2.0", "id": None, "error": refusal.to_json()}


def _errors(items: Items, _: random.Random) -> Any:
    return [{**_error(items), "id": item["id"]} for item in items]


def _without_result(items: Items, _: random.Random) -> Any:
    return {"jsonrpc": "2.0", "id": items[0]["id"]}


def _odd_error(items: Items, chance: random.Random) -> Any:
    odd = chance.choice(["", "busy", 0, [], True, {"code": "x"}, {"message": {"deep": [1]}}, {"message": None}])
    return {"jsonrpc": "2.0", "id": items[0]["id"], "error": odd}


def _deep(_items: Items, _: random.Random) -> Any:
    deep: Any = []
    for _level in range(_LEVELS):
        deep = [deep]
    return deep


BODY_LIES = (
    BodyLie("a batch that lacks an answer", _missing),
    BodyLie("a batch with an answer doubled", _doubled),
    BodyLie("a batch with two answers to one call", _doubled_differently),
    BodyLie("a batch reordered", reordered),
    BodyLie("a batch with two answers swapped", _swapped),
    BodyLie("a batch with a wrong id", _wrong_id),
    BodyLie("a batch answered by one error", lambda items, _: _error(items)),
    BodyLie("a batch answered by errors", _errors),
    BodyLie("a batch answered by its first answer", lambda items, _: items[0]),
    BodyLie("a batch answered by an empty list", lambda _items, _: []),
    BodyLie("an answer with a wrong id", _wrong_id, batches=False),
    BodyLie("an answer without result", _without_result, batches=False),
    BodyLie("an answer with an odd error", _odd_error, batches=False),
    BodyLie("an answer in a list", lambda items, _: items, batches=False),
    BodyLie("an answer nested for nothing", _deep, batches=False),
)
"""Lies about the form of an answer."""

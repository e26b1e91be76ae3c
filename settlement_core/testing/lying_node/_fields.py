"""Lies about a single field of any answer, however deep it lies in it."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from settlement_core.testing.lying_node._calls import DIGITS, ENDLESS, NodeCall
from settlement_core.testing.lying_node._kinds import TRUTH, AnswerLie
from settlement_core.testing.lying_node._memory import Memory

__all__ = ["FIELD_LIES", "changed", "places", "random_hex"]

_QUANTITY = re.compile(r"0x(0|[1-9a-f][0-9a-f]*)")
_HASH_LENGTH = 66
_ADDRESS_LENGTH = 42
_LONGEST_QUANTITY = 34
"""Characters of the longest text that is taken for an integer; what is longer is a hash, or data."""

_OTHER_TYPES: tuple[Any, ...] = (True, False, 0, 1.5, "", "0x", "zz", [], {}, [[]], {"0x0": None}, "0xé")

Change = Callable[[Any, random.Random], Any]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each value within a JSON value, the whole first, with its path."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with another value at a path; with `TRUTH` for the new value, without anything there."""
    if not path:
        return new
    whole = copy.deepcopy(value)
    holder = whole
    for key in path[:-1]:
        holder = holder[key]
    if new is TRUTH:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return whole


def random_hex(chance: random.Random, size: int) -> str:
    """Return so many random bytes as text."""
    return "0x" + chance.randbytes(size).hex()


def _quantity(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_QUANTITY and _QUANTITY.fullmatch(value) is not None


def _hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == _HASH_LENGTH


def _address(value: Any) -> bool:
    return isinstance(value, str) and len(value) == _ADDRESS_LENGTH


def _anything(_: Any) -> bool:
    return True


def _list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _lie(name: str, fits: Callable[[Any], bool], change: Change) -> AnswerLie:
    """Return the lie that changes one place of an answer at which such a value is."""

    def tell(result: Any, _call: NodeCall, chance: random.Random, _memory: Memory) -> Any:
        found = [(path, value) for path, value in places(result) if fits(value)]
        chance.shuffle(found)
        for path, value in found:
            new = change(value, chance)
            if new is not TRUTH and new != value:
                return changed(result, path, new)
        return TRUTH

    return AnswerLie(name, tell)


def _drop(result: Any, _call: NodeCall, chance: random.Random, _memory: Memory) -> Any:
    fields = [path for path, _ in places(result) if path and isinstance(path[-1], str)]
    return changed(result, chance.choice(fields), TRUTH) if fields else TRUTH


def _other_type(value: Any, chance: random.Random) -> Any:
    return chance.choice([other for other in _OTHER_TYPES if type(other) is not type(value) or other != value])


def _endless(_: Any, chance: random.Random) -> Any:
    return chance.choice(["0x" + "f" * DIGITS, "0x1" + "0" * DIGITS, ENDLESS])


def _other_number(value: str, chance: random.Random) -> str:
    number = int(value, 16)
    return hex(chance.choice([number + 1, max(number - 1, 0), number * 2, 0, chance.randrange(2**64), 2**256 - 1]))


def _other_hash(value: str, chance: random.Random) -> str:
    if chance.random() < 0.5:
        return random_hex(chance, 32)
    at = chance.randrange(2, _HASH_LENGTH)
    return value[:at] + chance.choice([digit for digit in "0123456789abcdef" if digit != value[at]]) + value[at + 1 :]


def _shuffled(value: list[Any], chance: random.Random) -> Any:
    order = chance.sample(value, len(value))
    return order if order != value else [*value[1:], value[0]]


def _shortened(value: list[Any], chance: random.Random) -> Any:
    at = chance.randrange(len(value))
    return [*value[:at], *value[at + 1 :]]


def _doubled(value: list[Any], chance: random.Random) -> Any:
    at = chance.randrange(len(value))
    return [*value[: at + 1], *copy.deepcopy(value[at:])]


FIELD_LIES = (
    AnswerLie("a field dropped", _drop),
    _lie("a value is null", lambda value: value is not None, lambda _value, _chance: None),
    _lie("a value of another type", _anything, _other_type),
    _lie("an integer of thousands of digits", _quantity, _endless),
    _lie("a negative integer", _quantity, lambda value, chance: chance.choice(["-" + value, -1, "-0x1"])),
    _lie("another number", _quantity, _other_number),
    _lie("another hash", _hash, _other_hash),
    _lie("another address", _address, lambda _, chance: random_hex(chance, 20)),
    _lie("a list shuffled", _list, _shuffled),
    _lie("a list shortened", _list, _shortened),
    _lie("a list with an item doubled", _list, _doubled),
    _lie("a list emptied", _list, lambda _value, _chance: []),
)
"""Lies about any answer at all."""

"""Read single values of a node's answer. Whatever is not exactly what it should be raises `NodeUnavailable`.

A node's numbers are bounded to 256 bits and its texts to their exact length, so no answer can be anything else later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from settlement_core.engines.ethereum.rpc import NodeUnavailable

__all__ = ["address", "data", "parsed", "quantity", "word"]

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")

_WORD = re.compile(r"0x[0-9a-fA-F]{64}")

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")

_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")

T = TypeVar("T")


def parsed(what: str, parse: Callable[[Any], T], said: Any) -> T:
    """Return what `parse` makes of an answer. Raises `NodeUnavailable`, which names it as `what`."""
    try:
        return parse(said)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise NodeUnavailable(f"the node's {what} cannot be read: {said!r:.100}") from None


def quantity(said: Any) -> int:
    """Return a number of at most 256 bits that is not negative."""
    return int(_matched(_QUANTITY, said), 16)


def word(said: Any) -> str:
    """Return 32 bytes, such as a hash, in lower case."""
    return _matched(_WORD, said)


def address(said: Any) -> str:
    """Return an address in lower case."""
    return _matched(_ADDRESS, said)


def data(said: Any) -> str:
    """Return bytes of any length in lower case."""
    return _matched(_DATA, said)


def _matched(pattern: re.Pattern[str], said: Any) -> str:
    if not isinstance(said, str) or not pattern.fullmatch(said):
        raise ValueError(said)
    return said.lower()

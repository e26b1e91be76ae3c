"""JSON in and out, strict: what is accepted can always be written again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "decode_json", "encode_json", "is_too_deep"]

MAX_DEPTH = 200
"""Arrays and objects within one another: more than anybody means, and far fewer than end the process.

Parsers stop at the interpreter's recursion limit, but that is anybody's to raise, and libraries do.
"""

# a string, to its end or the text's, or a bracket
_PARTS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def is_too_deep(text: str) -> bool:
    """Tell whether JSON nests deeper than `MAX_DEPTH`, in time that grows with its length only."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for part in _PARTS.finditer(text):
        bracket = part[0]
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif bracket in "]}":
            depth -= 1
    return False


def decode_json(text: bytes | str) -> Any:
    """Return the value, or raise ValueError with one sentence (never RecursionError) if it is not JSON."""
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        if is_too_deep(text):
            raise ValueError("it is nested too deeply")
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"it is not JSON: {problem.msg} at character {problem.pos}") from None


def encode_json(value: Any) -> str:
    """Return compact ASCII JSON, or raise ValueError with one sentence if the value cannot be written as JSON."""
    if _is_bottomless(value):
        raise ValueError("it cannot be written as JSON: it is nested too deeply")
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as problem:
        raise ValueError(f"it cannot be written as JSON: {problem}") from None


def _is_bottomless(value: Any) -> bool:
    """Tell whether a value nests deeper than `MAX_DEPTH`, as one that holds itself does."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        # by their ids: one that is in several places, or holds itself, is looked at once on each level
        inside = {id(part): part for whole in level for part in _parts(whole)}
        level = list(inside.values())
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    """Return what is directly within an array or object; nothing is within anything else."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it holds a number too large")
    return number

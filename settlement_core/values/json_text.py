"""JSON in and out, strict: what is accepted can always be written again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NoReturn

from settlement_core.values.texts import whole_value

__all__ = ["MAX_DEPTH", "decode_json", "encode_json", "is_too_deep"]

MAX_DEPTH = 200
"""Arrays and objects within one another: more than anybody means, and far fewer than end the process.

Parsers stop at the interpreter's recursion limit, but that is anybody's to raise, and libraries do.
"""

# what is left of a text to find out how deep it nests: its brackets, and the quotes around strings
_ELSE = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEPS = bytes(1 if byte in b"[{" else 255 for byte in range(256))


def is_too_deep(text: str) -> bool:
    """Tell whether JSON nests deeper than `MAX_DEPTH`, in time that grows with its length only."""
    if "\\" in text:
        # so that each quote that is left begins or ends a string
        text = text.replace("\\\\", "").replace('\\"', "")
    left = text.encode("utf-8", "surrogatepass").translate(None, _ELSE)
    if left.count(b"[") + left.count(b"{") <= MAX_DEPTH:
        return False
    # which string a quote belongs to does not matter here, only how many come before a bracket
    outside = b"".join(left.replace(b'""', b"").split(b'"')[::2])
    # each opening bracket has become 1, each closing one the signed byte -1
    depths = accumulate(memoryview(outside.translate(_STEPS)).cast("b"))
    return max(depths, default=0) > MAX_DEPTH


def decode_json(text: bytes | str) -> Any:
    """Return the value, or raise ValueError with one sentence (never RecursionError) if it is not JSON.

    Half characters come as escapes; see `settlement_core.values.texts`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        if is_too_deep(text):
            raise ValueError("it is nested too deeply")
        value = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"it is not JSON: {problem.msg} at character {problem.pos}") from None
    return whole_value(value) if _may_hold_halves(text) else value


def encode_json(value: Any) -> str:
    """Return compact ASCII JSON, or raise ValueError with one sentence if the value cannot be written as JSON.

    Half characters are written as escapes of escapes, which every reader takes; see `settlement_core.values.texts`.
    """
    if _is_bottomless(value):
        raise ValueError("it cannot be written as JSON: it is nested too deeply")
    try:
        text = _ENCODER.encode(value)
        # escapes of whole characters look alike
        return _ENCODER.encode(whole_value(value)) if "\\ud" in text else text
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


def _may_hold_halves(text: str) -> bool:
    """Tell whether JSON may hold half a character, as it is or as an escape, which may be a part of a whole one."""
    escaped = "\\" in text and ("\\ud" in text or "\\uD" in text)
    return escaped or (not text.isascii() and _HALF.search(text) is not None)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it holds a number too large")
    return number


_HALF = re.compile("[\ud800-\udfff]")

# made once: to make one takes longer than to decode a small text
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))

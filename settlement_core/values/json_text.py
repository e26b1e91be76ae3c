"""JSON in and out, strict: what is accepted can always be written again."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

__all__ = ["decode_json", "encode_json"]


def decode_json(text: bytes | str) -> Any:
    """Return the value, or raise ValueError with one sentence (never RecursionError) if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"it is not JSON: {problem.msg} at character {problem.pos}") from None


def encode_json(value: Any) -> str:
    """Return compact ASCII JSON, or raise ValueError with one sentence if the value cannot be written as JSON."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as problem:
        raise ValueError(f"it cannot be written as JSON: {problem}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it holds a number too large")
    return number

"""JSON values as a store keeps them: written out at once, so that nothing the caller does later changes them."""

from __future__ import annotations

import json
from typing import Any

from settlement_core.values.errors import LocalError
from settlement_core.values.json_text import encode_json

__all__ = ["freeze", "thaw"]


def freeze(value: object, what: str) -> str:
    """Return a JSON value as text, or refuse with a `LocalError` that names `what` it was to be kept as."""
    try:
        return encode_json(value)
    except ValueError as problem:
        raise LocalError(f"cannot keep {what}: {problem}; nothing was recorded") from None


def thaw(text: str) -> Any:
    """Return a fresh copy of the JSON value that was frozen."""
    return json.loads(text)

"""JSON-RPC requests and answers as values: everything between the socket and the lies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["DIGITS", "ENDLESS", "NodeCall", "Refusal", "body_of", "describe_change", "pair", "parse_calls", "write"]

DIGITS = 5_000
"""Digits of an integer that no chain has; Python itself refuses to read more than 4,300."""

ENDLESS = f"<a number of {DIGITS} digits>"
"""Stands for a JSON number of so many digits, which `json` cannot write."""

_EXCERPT = 160
"""Characters of one value that a report shows."""


@dataclass(frozen=True, slots=True)
class NodeCall:
    """One call of a request."""

    method: str
    params: tuple[Any, ...]
    call_id: Any = 1

    @property
    def question(self) -> str:
        """Return method and parameters as text, the same for the same question."""
        return f"{self.method} {json.dumps(self.params, sort_keys=True)}"

    def to_json(self) -> dict[str, Any]:
        """Return the call as it is sent."""
        return {"jsonrpc": "2.0", "id": self.call_id, "method": self.method, "params": list(self.params)}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error object in the place of a result."""

    code: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the error object."""
        return {"code": self.code, "message": self.message}


def parse_calls(content: Any) -> list[NodeCall] | None:
    """Return the calls of a request, or None if it is not JSON-RPC."""
    items = content if isinstance(content, list) else [content]
    if not items or not all(isinstance(item, dict) and isinstance(item.get("method"), str) for item in items):
        return None
    return [NodeCall(item["method"], tuple(item.get("params") or ()), item.get("id")) for item in items]


def pair(calls: Sequence[NodeCall], content: Any) -> list[dict[str, Any]] | None:
    """Return the node's answer to each call, in the order of the calls; None unless each has one."""
    items = content if isinstance(content, list) else [content]
    by_id = {json.dumps(item.get("id")): item for item in items if isinstance(item, dict)}
    found = [by_id.get(json.dumps(call.call_id)) for call in calls]
    known = [item for item in found if item is not None]
    return known if len(known) == len(calls) else None


def body_of(call: NodeCall, result: Any) -> dict[str, Any]:
    """Return the answer to a call that holds a result or a refusal."""
    said = {"error": result.to_json()} if isinstance(result, Refusal) else {"result": result}
    return {"jsonrpc": "2.0", "id": call.call_id, **said}


def write(content: Any) -> bytes:
    """Return JSON, with numbers of thousands of digits where `ENDLESS` stands."""
    return json.dumps(content, separators=(",", ":")).replace(json.dumps(ENDLESS), "9" * DIGITS).encode()


def describe_change(truth: Any, said: Any, where: str = "") -> str:
    """Return the first place at which two values differ, and both values there, shortened."""
    if isinstance(truth, dict) and isinstance(said, dict) and truth.keys() == said.keys():
        for key, value in truth.items():
            if value != said[key]:
                return describe_change(value, said[key], f"{where}.{key}")
    if isinstance(truth, dict) and isinstance(said, dict):
        gone = sorted(truth.keys() - said.keys())
        if gone and not said.keys() - truth.keys():
            return f"{where}.{gone[0]}: dropped"
    if isinstance(truth, list) and isinstance(said, list) and len(truth) == len(said):
        for number, (before, after) in enumerate(zip(truth, said, strict=True)):
            if before != after:
                return describe_change(before, after, f"{where}[{number}]")
    return f"{where or 'all'}: {_excerpt(said)} instead of {_excerpt(truth)}"


def _excerpt(value: Any) -> str:
    text = repr(value) if isinstance(value, Refusal) else json.dumps(value)
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}… ({len(text)} characters)"

"""Requests and answers as values: everything between the socket and the books."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from settlement_core.values.json_text import decode_json

__all__ = ["DROP", "JSON", "OCTETS", "Answer", "Request", "json_answer", "json_object", "media_type", "problem"]

JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over the socket; without a status (`DROP`), the connection is closed unanswered."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Tell whether it is a 2xx."""
        return self.status is not None and 200 <= self.status < 300


DROP = Answer(None)
"""No answer: the connection is closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """An engine's POST to an account. Header names are lower-case; `at` is the loop's clock in seconds."""

    account_id: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def key(self) -> str | None:
        """Return the idempotency key, if there is one."""
        return self.headers.get("idempotency-key") or None


def media_type(request: Request) -> str:
    """Return the content type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_answer(status: int, value: Any, **headers: str) -> Answer:
    """Return an answer holding a JSON value."""
    return Answer(status, json.dumps(value).encode(), {"content-type": JSON, **headers})


def problem(status: int, title: str, detail: str) -> Answer:
    """Return an answer as RFC 7807 describes problems."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/problem+json"})


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object a body holds, or None."""
    try:
        value = decode_json(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

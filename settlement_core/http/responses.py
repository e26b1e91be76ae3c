"""Answers as values: what each outcome looks like on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from settlement_core.http.problems import MethodNotAllowed, status_of
from settlement_core.values.amounts import Quantity
from settlement_core.values.errors import SettlementError

__all__ = ["Response", "created", "deleted", "description", "message_answer", "problem", "problem_of", "settling"]

RETRY_AFTER_S = 1
"""What a 503 asks for; whoever retries brings its own back-off."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


# exactly these content types, without parameters: some clients compare strings
_JSON = (b"content-type", b"application/json")
_OCTETS = (b"content-type", b"application/octet-stream")
_PROBLEM = (b"content-type", b"application/problem+json")


def _with_body(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Response:
    return Response(status, body, (*headers, (b"content-length", b"%d" % len(body))))


def created(account_id: str) -> Response:
    """201 with the id: the Java connector reads it from the body."""
    return _with_body(201, msgspec.json.encode({"id": account_id}), _JSON)


def deleted() -> Response:
    """204, as RFC 38 says."""
    return Response(204)


def settling(quantity: Quantity) -> Response:
    """201 with the whole quantity asked for: that much is committed, whatever the ledger can take at once."""
    return _with_body(201, msgspec.json.encode(quantity.to_json()), _JSON)


def message_answer(answer: bytes) -> Response:
    """201 with raw bytes."""
    return _with_body(201, answer, _OCTETS)


def description(document: dict[str, Any]) -> Response:
    """200 with an OpenAPI document."""
    return _with_body(200, msgspec.json.encode(document), _JSON)


def problem(error: SettlementError) -> Response:
    """Return the answer for an error: one sentence as problem+json (RFC 9457)."""
    return problem_of(status_of(error), str(error), error.allowed if isinstance(error, MethodNotAllowed) else None)


def problem_of(status: int, detail: str, allow: str | None = None) -> Response:
    """Return problem+json; `allow` names the methods that a 405 has to name."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    headers = [_PROBLEM]
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if allow is not None:
        headers.append((b"allow", allow.encode()))
    return _with_body(status, msgspec.json.encode(content), *headers)

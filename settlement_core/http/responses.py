"""Answers as values: what each outcome looks like on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from settlement_core.http.problems import MethodNotAllowed, status_of
from settlement_core.values.amounts import Quantity
from settlement_core.values.errors import SettlementError

__all__ = ["Response", "created", "deleted", "message_answer", "problem", "settling"]

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


def problem(error: SettlementError) -> Response:
    """Return the answer for an error: one sentence as problem+json (RFC 9457)."""
    status = status_of(error)
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": str(error)}
    headers = [_PROBLEM]
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    return _with_body(status, msgspec.json.encode(content), *headers)

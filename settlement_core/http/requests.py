"""What an HTTP request asks for, without any I/O: a request's head becomes a route, its body an intent.

Tolerant where existing connectors deviate from RFC 38 (ids that are missing or null, an `accountId`, doubled and
trailing slashes, charset parameters), strict where money is concerned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from hmac import compare_digest
from typing import Any, NoReturn, TypeAlias
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import msgspec

from settlement_core.http.problems import BadJson, MethodNotAllowed, MissingKey, UnsupportedMediaType
from settlement_core.values.amounts import Quantity
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.json_text import is_too_deep

__all__ = [
    "MAX_MESSAGE",
    "CreateAccount",
    "DeleteAccount",
    "DescribeApi",
    "Dialect",
    "HandleMessage",
    "Headers",
    "Intent",
    "RequestSettlement",
    "Route",
    "find_route",
    "read_intent",
]

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

MAX_JSON = 16 * 1024
"""Bytes of a JSON request: a quantity of 1,000 digits is a tenth of it."""

MAX_MESSAGE = 100 * 1024
"""Bytes of a message: what the original framework takes; connectors carry about a third of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Deviations from RFC 38 that a client may need; all off by default.

    Attributes:
        base_path: a path prefix in front of the RFC's paths; long and random, it is a capability for
            connectors that cannot authenticate.
        rafiki: take `POST …/settlement` too, and a missing Idempotency-Key as a fresh one (2019's Rafiki).
    """

    base_path: str = ""
    rafiki: bool = False


class Kind(Enum):
    """The four endpoints, and the description of them."""

    CREATE = "create"
    DELETE = "delete"
    SETTLE = "settle"
    MESSAGE = "message"
    DESCRIBE = "describe"


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint and the account in its path; `max_body` bounds what is read, in bytes."""

    kind: Kind
    account_id: str
    max_body: int


@dataclass(frozen=True, slots=True)
class CreateAccount:
    """RFC 38, "Setup an account"; None asks for a fresh id."""

    account_id: str | None


@dataclass(frozen=True, slots=True)
class DeleteAccount:
    """RFC 38, "Delete an account"."""

    account_id: str


@dataclass(frozen=True, slots=True)
class RequestSettlement:
    """RFC 38, "Perform outgoing settlement"."""

    account_id: str
    amount: Decimal
    key: str


@dataclass(frozen=True, slots=True)
class HandleMessage:
    """RFC 38, "Handle incoming message"."""

    account_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class DescribeApi:
    """Not RFC 38's: asks for the OpenAPI document."""


Intent: TypeAlias = CreateAccount | DeleteAccount | RequestSettlement | HandleMessage | DescribeApi

_LAST_SEGMENT = {b"settlements": Kind.SETTLE, b"messages": Kind.MESSAGE}


def find_route(method: str, raw_path: bytes, dialect: Dialect) -> Route | None:
    """Return the endpoint a request's head names, or None if it is none of ours.

    Raises `MethodNotAllowed`, and `InvalidIdentifier` for a bad account id.
    """
    segments = _below(dialect.base_path, [part for part in raw_path.split(b"/") if part])
    if segments == [b"openapi.json"]:
        return _only("GET", method, Route(Kind.DESCRIBE, "", MAX_JSON))
    if not segments or segments[0] != b"accounts":
        return None
    match segments[1:]:
        case []:
            return _only("POST", method, Route(Kind.CREATE, "", MAX_JSON))
        case [account_id]:
            return _only("DELETE", method, Route(Kind.DELETE, _account_id(account_id), MAX_JSON))
        case [account_id, last]:
            kind = Kind.SETTLE if dialect.rafiki and last == b"settlement" else _LAST_SEGMENT.get(last)
            if kind is None:
                return None
            limit = MAX_MESSAGE if kind is Kind.MESSAGE else MAX_JSON
            return _only("POST", method, Route(kind, _account_id(account_id), limit))
        case _:
            return None


def read_intent(route: Route, headers: Headers, body: bytes, dialect: Dialect) -> Intent:
    """Return what the request asks for; raises a `LocalError` with one sentence if that is unclear."""
    match route.kind:
        case Kind.CREATE:
            _require_type(headers, b"application/json")
            return CreateAccount(_created_id(_json(body)))
        case Kind.DELETE:
            return DeleteAccount(route.account_id)
        case Kind.SETTLE:
            _require_type(headers, b"application/json")
            return RequestSettlement(route.account_id, _quantity(body).to_amount(), _key(headers, dialect))
        case Kind.MESSAGE:
            _require_type(headers, b"application/octet-stream")
            return HandleMessage(route.account_id, body)
        case Kind.DESCRIBE:
            return DescribeApi()


def _below(base_path: str, segments: list[bytes]) -> list[bytes]:
    """Return the segments below the base path, or none if it does not match; in constant time, it may be a secret."""
    base = [part.encode() for part in base_path.split("/") if part]
    if not base:
        return segments
    given = b"/".join(segments[: len(base)])
    return segments[len(base) :] if compare_digest(given, b"/".join(base)) else []


def _only(allowed: str, method: str, route: Route) -> Route:
    if method != allowed:
        raise MethodNotAllowed(method, allowed)
    return route


def _account_id(segment: bytes) -> str:
    return check_account_id(unquote_to_bytes(segment).decode(errors="replace"))


def _created_id(content: Any) -> str | None:
    if not isinstance(content, dict):
        raise BadJson('expected a JSON object such as {"id":"alice"}')
    # the Java connector sends a null id and takes ours; 2021's Rafiki calls it accountId
    account_id = content.get("id", content.get("accountId"))
    return None if account_id is None or account_id == "" else check_account_id(account_id)


class _Members(msgspec.Struct, forbid_unknown_fields=True):
    amount: str
    scale: int


_MEMBERS = msgspec.json.Decoder(_Members)


def _quantity(body: bytes) -> Quantity:
    # as connectors write it, each member once, by the fast decoder; it says less of what is wrong with anything else
    if body.count(b'"') == 6:
        try:
            members = _MEMBERS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            return Quantity.parse({"amount": members.amount, "scale": members.scale})
    return Quantity.parse(_json(body))


def _json(body: bytes) -> Any:
    try:
        # not from bytes: that would also take UTF-16, and a byte order mark
        text = body.decode()
        if is_too_deep(text):
            raise BadJson("the body is nested too deeply; nothing was recorded")
        return _DECODER.decode(text)
    except UnicodeDecodeError:
        raise BadJson("the body is not JSON: it is not UTF-8; nothing was recorded") from None
    except json.JSONDecodeError as problem:
        raise BadJson(f"the body is not JSON: {problem.msg} at character {problem.pos}; nothing was recorded") from None
    except ValueError:
        raise BadJson("the body holds a number of thousands of digits; nothing was recorded") from None


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; of an amount that is given twice, nobody knows which is meant."""
    content = dict(members)
    if len(content) != len(members):
        raise BadJson("the body is not JSON: an object names the same member twice; nothing was recorded")
    return content


def _refuse(constant: str) -> NoReturn:
    raise BadJson(f"the body is not JSON: it holds {constant}; nothing was recorded")


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse)


def _require_type(headers: Headers, expected: bytes) -> None:
    # insisting on it also keeps a web page from driving an engine on loopback: browsers must ask first
    given = [value for name, value in headers if name == b"content-type"]
    if len(given) != 1 or given[0].split(b";", 1)[0].strip().lower() != expected:
        raise UnsupportedMediaType(expected.decode())


def _key(headers: Headers, dialect: Dialect) -> str:
    keys = [value for name, value in headers if name == b"idempotency-key"]
    if not keys and dialect.rafiki:
        return str(uuid4())
    if len(keys) != 1:
        raise MissingKey(len(keys))
    return check_key(keys[0].decode("latin-1"), "Idempotency-Key")

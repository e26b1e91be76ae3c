"""What we serve, for machines to read: the RFC 38 API as an OpenAPI 3.1 document.

Every bound comes from the constant that enforces it, so document and server cannot drift apart. The operator's API has
a document of its own in `openapi_admin`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeAlias

from settlement_core.http.problems import STATUSES
from settlement_core.http.requests import MAX_JSON, MAX_MESSAGE, Dialect
from settlement_core.http.responses import RETRY_AFTER_S
from settlement_core.values.amounts import MAX_DIGITS, MAX_SCALE
from settlement_core.values.identifiers import MAX_ACCOUNT_ID, MAX_KEY

__all__ = [
    "AT_THE_GATE",
    "Schema",
    "content",
    "describe_engine_api",
    "document",
    "nullable",
    "parameter",
    "problems",
    "record",
    "ref",
]

Schema: TypeAlias = dict[str, Any]
"""A part of a document, as JSON values."""

AT_THE_GATE = (401, 403, 421, 429, 431)
"""Statuses of requests that are not let in: see `gate`. The 503 it may also give is the one of every operation."""

VERSION = "draft 3"
"""Of RFC 38; the document describes that, not this package."""


def describe_engine_api(dialect: Dialect) -> Schema:
    """Return the document of the API that connectors use, as this dialect serves it.

    It holds no base path, which may be a secret: it is served below it, and its URLs are relative.
    """
    settle = _settle(key_required=not dialect.rafiki)
    paths: Schema = {
        "/accounts": {"post": _create()},
        "/accounts/{account_id}": {"parameters": [ref("parameters", "AccountId")], "delete": _delete()},
        "/accounts/{account_id}/settlements": {"parameters": [ref("parameters", "AccountId")], "post": settle},
        "/accounts/{account_id}/messages": {"parameters": [ref("parameters", "AccountId")], "post": _message()},
    }
    if dialect.rafiki:
        alias = settle | {"operationId": "settleAsRafiki", "deprecated": True}
        paths["/accounts/{account_id}/settlement"] = {
            "parameters": [ref("parameters", "AccountId")],
            "post": alias,
        }
    return document(
        title="Settlement Engine HTTP API",
        version=VERSION,
        description=(
            "What a connector asks of a settlement engine: Interledger RFC 38, “Settlement Engine HTTP API”, and "
            "where that is silent, what this engine does. Whatever is answered with a 4xx or 503 changed nothing, and "
            "whatever had no answer may be repeated under the same Idempotency-Key."
        ),
        paths=paths,
        components={
            "schemas": {
                "AccountId": _ACCOUNT_ID,
                "NewAccount": _NEW_ACCOUNT,
                "Account": record(id=ref("schemas", "AccountId")),
                "Quantity": _QUANTITY,
            },
            "parameters": {
                "AccountId": parameter(
                    "account_id", "path", ref("schemas", "AccountId"), "The account, as the connector names it."
                )
            },
        },
    )


_ACCOUNT_ID: Schema = {
    "type": "string",
    "description": "RFC 3986 unreserved characters; a dot segment cannot stand in a URL path.",
    "pattern": "^[A-Za-z0-9._~-]+$",
    "minLength": 1,
    "maxLength": MAX_ACCOUNT_ID,
    "not": {"enum": [".", ".."]},
    "examples": ["alice"],
}

_WISHED_ID: Schema = {
    "description": "The id to open, or null or nothing for a fresh one.",
    "anyOf": [{"$ref": "#/components/schemas/AccountId"}, {"type": "null"}, {"const": ""}],
}

_NEW_ACCOUNT: Schema = {
    "description": "`accountId` is read where `id` is missing.",
    "examples": [{"id": "alice"}],
    "anyOf": [
        {"type": "object", "required": ["id"], "properties": {"id": _WISHED_ID}},
        {"type": "object", "not": {"required": ["id"]}, "properties": {"accountId": _WISHED_ID}},
    ],
}

_QUANTITY: Schema = {
    "type": "object",
    "description": "`amount` times 10^-`scale` standard units (RFC 38, “Units and quantities”); more than nothing.",
    "required": ["amount", "scale"],
    "properties": {
        "amount": {"type": "string", "pattern": "^0*[1-9][0-9]*$", "minLength": 1, "maxLength": MAX_DIGITS},
        "scale": {"type": "integer", "minimum": 0, "maximum": MAX_SCALE},
    },
    "examples": [{"amount": "4682", "scale": 3}],
}

_KEY: Schema = {
    "type": "string",
    "description": f"Seen characters, of which at least one is no blank; at most {MAX_KEY} bytes as UTF-8.",
    "pattern": "^[!-~]([ -~]*[!-~])?$",
    "minLength": 1,
    "maxLength": MAX_KEY,
    "examples": ["5d1f0f4e-31f4-4f5b-b7c2-6f5f8c0f5d1b"],
}


def _create() -> Schema:
    return {
        "operationId": "createAccount",
        "summary": "Set an account up",
        "description": "An account that is open stays as it is; one that was deleted revives.",
        "requestBody": {"required": True, "content": content("application/json", ref("schemas", "NewAccount"))},
        "responses": {
            "201": {
                "description": "The account is open, and will stay so.",
                "content": content("application/json", ref("schemas", "Account")),
                "links": {
                    name: {"operationId": name, "parameters": {"account_id": "$response.body#/id"}}
                    for name in ("settle", "handleMessage", "deleteAccount")
                },
            },
            **problems(400, 408, 413, 415, 500, 503, limit=MAX_JSON),
        },
    }


def _delete() -> Schema:
    return {
        "operationId": "deleteAccount",
        "summary": "Take no more requests for an account",
        "description": "What it owes, or was paid, is still settled and credited.",
        "responses": {
            "204": {"description": "The account is deleted, by this request or an earlier one."},
            **problems(400, 404, 408, 413, 500, 503, limit=MAX_JSON),
        },
    }


def _settle(*, key_required: bool) -> Schema:
    key = parameter(
        "Idempotency-Key",
        "header",
        _KEY,
        "Settles once: the same key again has the same answer.",
        required=key_required,
    )
    return {
        "operationId": "settle",
        "summary": "Settle with the peer, later and once",
        "parameters": [key],
        "requestBody": {"required": True, "content": content("application/json", ref("schemas", "Quantity"))},
        "responses": {
            "201": {
                "description": "The quantity is recorded, and will be settled; it is the one first given for the key.",
                "content": content("application/json", ref("schemas", "Quantity")),
            },
            **problems(400, 404, 408, 409, 413, 415, 500, 503, limit=MAX_JSON),
        },
    }


def _message() -> Schema:
    return {
        "operationId": "handleMessage",
        "summary": "Hand over a message of the peer's engine",
        "description": "Engines of this framework speak JSON with one another; an engine may take no messages at all.",
        "requestBody": {"required": True, "content": content("application/octet-stream", {})},
        "responses": {
            "201": {"description": "Its answer.", "content": content("application/octet-stream", {})},
            **problems(400, 404, 408, 413, 415, 500, 503, limit=MAX_MESSAGE),
        },
    }


# what both documents are made of


def document(*, title: str, version: str, description: str, paths: Schema, components: Schema) -> Schema:
    """Return a whole document, whose URLs are relative to where it is served."""
    schemas = components["schemas"] | {"Problem": _PROBLEM}
    token = {"type": "http", "scheme": "bearer", "description": "Where the server was given a file of tokens."}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "."}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": components | {"schemas": schemas, "securitySchemes": {"token": token}},
    }


def content(media_type: str, schema: Schema) -> Schema:
    """Return a body of one media type."""
    return {media_type: {"schema": schema} if schema else {}}


def record(**properties: Schema) -> Schema:
    """Return the schema of an object that has all of these members."""
    return {"type": "object", "required": list(properties), "properties": properties}


def nullable(schema: Schema) -> Schema:
    """Return the schema of such a value or none."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(kind: str, name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def parameter(name: str, where: str, schema: Schema, description: str, *, required: bool = True) -> Schema:
    """Return a parameter in "path", "query" or "header"."""
    return {"name": name, "in": where, "required": required, "schema": schema, "description": description}


def problems(*statuses: int, limit: int = 0) -> Schema:
    """Return the refusals an operation may answer with; `limit` is what its body may have, in bytes."""
    told = _WHY | {413: f"The body is longer than {limit} bytes."}
    return {str(status): _problem(status, told[status]) for status in sorted({*statuses, *AT_THE_GATE})}


def _problem(status: int, description: str) -> Schema:
    answer = {"description": description, "content": content("application/problem+json", ref("schemas", "Problem"))}
    if status in {429, 503}:
        schema = {"type": "integer", "const": RETRY_AFTER_S}
        answer["headers"] = {"Retry-After": {"description": "In seconds.", "required": True, "schema": schema}}
    return answer


_WHY = {
    400: "The request is not what this API takes; `detail` says what to change. Nothing was recorded.",
    401: "No token that the server knows, where it asks for one. Nothing was recorded.",
    403: "A browser asks for a web page of another site, or the token may only read. Nothing was recorded.",
    404: "There is nothing of this name here. Nothing was recorded.",
    408: "The body did not arrive in time. Nothing was recorded.",
    409: "It contradicts what is recorded already, such as another amount under the same key, or needs a second token. "
    "Nothing was recorded.",
    415: "The Content-Type is another one. Nothing was recorded.",
    421: "The Host header is no name of the server. Nothing was recorded.",
    429: "The client asks more often than it may. Nothing was recorded.",
    431: "More headers than a client has use for. Nothing was recorded.",
    500: "The engine failed on it, or something we rely on is broken; `detail` says what.",
    503: "The store does not answer, or the server stops: repeat it as it was, under the same Idempotency-Key.",
}


_STATUSES = sorted({*STATUSES, *AT_THE_GATE})

_PROBLEM: Schema = {"description": "RFC 9457."} | record(
    type={"const": "about:blank"},
    title={"enum": [HTTPStatus(status).phrase for status in _STATUSES]},
    status={"enum": _STATUSES},
    detail={"type": "string", "minLength": 1, "description": "One sentence for a person."},
)

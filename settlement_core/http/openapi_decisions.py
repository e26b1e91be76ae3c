"""What an operator decides, as part of the OpenAPI document of the operator's API."""

from __future__ import annotations

from settlement_core.http.openapi import Schema, content, nullable, problems, record, ref
from settlement_core.http.tokens import ROLES
from settlement_core.values.records import Direction

__all__ = ["AMOUNT", "COUNT", "DECISION_SCHEMAS", "TEXT", "WRITTEN", "describe_decisions"]

AMOUNT = r"^[0-9]+(\.[0-9]+)?$"
"""How a person writes an amount in standard units; without signs, exponents or other scripts' digits."""

WRITTEN: Schema = {"type": "string", "pattern": AMOUNT, "description": "Standard units.", "examples": ["12.5"]}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
_WAITS: Schema = ref("schemas", "Decided")
_SAID: Schema = {"type": "string", "pattern": r"\S", "minLength": 1}


def describe_decisions(max_body: int) -> Schema:
    """Return the paths of decisions, whose bodies may have so many bytes."""
    of_attempt = [ref("parameters", "AccountId"), ref("parameters", "AttemptId")]
    return {
        "/accounts/{account_id}/attempts/{attempt_id}/resolve": {
            "parameters": of_attempt,
            "post": _decision("resolve", "Say how much of an attempt moved: the rest is queued", max_body, _WAITS),
        },
        "/accounts/{account_id}/attempts/{attempt_id}/release": {
            "parameters": of_attempt,
            "post": _decision("release", "Offer a held credit again, under the same key", max_body, _WAITS),
        },
        "/accounts/{account_id}/pause": {
            "parameters": of_attempt[:1],
            "post": _decision("pause", "Begin nothing new in the account", max_body),
        },
        "/accounts/{account_id}/resume": {
            "parameters": of_attempt[:1],
            "post": _decision("resume", "Go on with a paused or halted account", max_body, ref("schemas", "Resumed")),
        },
        "/accounts/{account_id}/settle": {
            "parameters": of_attempt[:1],
            "post": {
                "operationId": "settle",
                "summary": "Try again now, whatever the account waits for",
                "responses": {
                    "200": {"description": "It does.", "content": content("application/json", record())},
                    **problems(400, 404, 409, 500, 503),
                },
            },
        },
        "/caller": {
            "get": _query("getCaller", "Whose token the request shows, and what it may do", ref("schemas", "Caller"))
        },
        "/proposals": {
            "get": _query(
                "listProposals",
                "What this process keeps for a second token: it posts `content`, with reason and name, to `path`",
                {"type": "array", "items": ref("schemas", "Proposal")},
            )
        },
        "/suspense/assign": {"post": _decision("assign", "Name the owner of unattributed money", max_body, _WAITS)},
        "/engine/resume": {
            "post": _decision("resumePayments", "Pay again after too many payments in a row were in doubt", max_body)
        },
        "/suspense/dismiss": {
            "post": _decision(
                "dismiss",
                "Say that money without an owner is not ours: one settlement, or all below an amount",
                max_body,
                ref("schemas", "Dismissed"),
            )
        },
    }


def _query(operation: str, summary: str, answer: Schema) -> Schema:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": "As of now.", "content": content("application/json", answer)},
            **problems(400, 500, 503),
        },
    }


def _decision(operation: str, summary: str, max_body: int, answer: Schema | None = None) -> Schema:
    body = ref("schemas", operation[0].upper() + operation[1:])
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": content("application/json", body)},
        "responses": {
            "200": {
                "description": "Recorded, now or by the same decision earlier.",
                "content": content("application/json", answer or record()),
            },
            **problems(400, 404, 409, 413, 500, 503, limit=max_body),
        },
    }


DECISION_SCHEMAS: Schema = {
    "Resolve": record(settled=WRITTEN, reason=_SAID, by=_SAID),
    "Release": record(reason=_SAID, by=_SAID),
    "Pause": record(reason=_SAID, by=_SAID),
    "Resume": record(reason=_SAID, by=_SAID),
    "ResumePayments": record(reason=_SAID, by=_SAID),
    "Assign": record(settlement_id=_SAID, account_id=_SAID, reason=_SAID, by=_SAID),
    "Dismiss": {
        "type": "object",
        "properties": {
            "settlement_id": _SAID,
            "below": WRITTEN,
            "after": {**_SAID, "description": "With `below`: go on after this one, as the answer before said."},
            "reason": _SAID,
            "by": _SAID,
        },
        "required": ["reason", "by"],
        "oneOf": [{"required": ["settlement_id"]}, {"required": ["below"]}],
    },
    "Caller": record(token=nullable(TEXT), role={"enum": list(ROLES)}, four_eyes_above=nullable(WRITTEN)),
    "Proposal": record(
        decision={"enum": ["resolve", "release", "assign", "dismiss"]},
        account_id=TEXT,
        about=TEXT,
        amount=nullable(WRITTEN),
        path=TEXT,
        content={"type": "object", "additionalProperties": TEXT},
        token=TEXT,
        by=TEXT,
        reason=TEXT,
        at={"type": "number", "description": "Seconds since 1970."},
    ),
    "Decided": record(
        waits_for={"type": "string", "description": "Why nothing follows from it yet, and what ends that; else empty."}
    ),
    "Resumed": record(
        was_paused={"type": "boolean"},
        was_halted={"type": "array", "items": {"enum": list(Direction)}},
        may_halt_elsewhere={"type": "boolean", "description": "Whether other workers have accounts of this store."},
    ),
    "Dismissed": record(dismissed=COUNT, after=nullable(TEXT)),
}

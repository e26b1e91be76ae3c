"""The operator's API as an OpenAPI 3.1 document, beside that of the connector's API in `openapi`."""

from __future__ import annotations

from settlement_core.http.openapi import Schema, content, document, nullable, parameter, problems, record, ref
from settlement_core.http.openapi_files import describe_files
from settlement_core.observers.activity import SPANS
from settlement_core.values.records import AccountState, AttemptState, Direction, Step

__all__ = ["AMOUNT", "describe_admin_api"]

AMOUNT = r"^[0-9]+(\.[0-9]+)?$"
"""How a person writes an amount in standard units; without signs, exponents or other scripts' digits."""

_WRITTEN: Schema = {"type": "string", "pattern": AMOUNT, "description": "Standard units.", "examples": ["12.5"]}
_TEXT: Schema = {"type": "string"}
_SAID: Schema = {"type": "string", "pattern": r"\S", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean", "default": False}
_WHEN: Schema = {"type": "number", "description": "Seconds since 1970."}


def describe_admin_api(*, max_page: int, max_body: int) -> Schema:
    """Return the document; an answer holds at most `max_page` rows, a request `max_body` bytes."""
    pages = {
        "Limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": max_page, "default": 100}, "Rows."),
        "After": _query("after", _TEXT, "The id of the last row of the page before this one."),
    }
    return document(
        title="Settlement engine, operator's API",
        version="1",
        description=(
            "What a person may ask of a running engine, and decide about money that it set aside. Amounts are written "
            "in standard units, exactly."
        ),
        paths=_queries() | _decisions(max_body) | _live() | _health() | describe_files(),
        components={
            "schemas": _SCHEMAS,
            "parameters": pages
            | {
                name: parameter(written, "path", _TEXT, description)
                for name, written, description in (
                    ("AccountId", "account_id", "The account, as the connector names it."),
                    ("AttemptId", "attempt_id", "The attempt, as we name it."),
                )
            },
        },
    )


def _queries() -> Schema:
    page = [ref("parameters", "After"), ref("parameters", "Limit")]
    states = {"type": "array", "items": {"enum": list(AttemptState)}}
    attempts = [
        *page,
        _query("account", _TEXT, "Of this account only."),
        _query("after_account", _TEXT, "The account of the attempt named by `after`."),
        _query("state", states, "In these states only."),
        _query("newest", _FLAG, "Newest first, so that those after an attempt are older."),
    ]
    accounts = [
        *page,
        _query("prefix", _TEXT, "Only those whose ids begin with it."),
        _query("due", _FLAG, "Only those with something to do: a step, or money that is queued or on its way."),
    ]
    span = _query("span", {"enum": list(SPANS), "default": "hour"}, "How far back.")
    return {
        "/summary": {
            "get": _query_of(
                "getSummary", "The sums over all accounts, what waits, what is at work", ref("schemas", "Summary"), []
            )
        },
        "/activity": {
            "get": _query_of(
                "getActivity", "What this process settled over time", ref("schemas", "Activity"), [span], more=(404,)
            )
        },
        "/accounts": {"get": _query_of("listAccounts", "Accounts, in order of ids", _rows("Account"), accounts)},
        "/accounts/{account_id}": {
            "parameters": [ref("parameters", "AccountId")],
            "get": _query_of("getAccount", "The account, or no row if it was never opened", _rows("Account"), []),
        },
        "/attempts": {
            "get": _query_of("listAttempts", "Attempts, oldest first", _rows("Attempt"), attempts, links=_FIRST_ATTEMPT)
        },
        "/suspense": {"get": _query_of("listSuspense", "Money without an owner", _rows("Suspense"), page)},
        "/workers": {"get": _query_of("getWorkers", "Who shares the store", ref("schemas", "Workers"), [])},
        "/audit": {"get": _query_of("audit", "Whether everything adds up", ref("schemas", "Audit"), [])},
        "/engine": {"get": _query_of("getEngine", "What the engine tells of its ledger", ref("schemas", "Engine"), [])},
        "/statistics": {"get": _query_of("getStatistics", "What is at work", ref("schemas", "Statistics"), [])},
    }


def _decisions(max_body: int) -> Schema:
    of_attempt = [ref("parameters", "AccountId"), ref("parameters", "AttemptId")]
    return {
        "/accounts/{account_id}/attempts/{attempt_id}/resolve": {
            "parameters": of_attempt,
            "post": _decision("resolve", "Say how much of an attempt moved; the rest is queued again", max_body),
        },
        "/accounts/{account_id}/attempts/{attempt_id}/release": {
            "parameters": of_attempt,
            "post": _decision("release", "Offer a held credit again, under the same key", max_body),
        },
        "/accounts/{account_id}/pause": {
            "parameters": of_attempt[:1],
            "post": _decision("pause", "Begin nothing new in the account", max_body),
        },
        "/accounts/{account_id}/resume": {
            "parameters": of_attempt[:1],
            "post": _decision("resume", "Go on with a paused account", max_body),
        },
        "/accounts/{account_id}/settle": {
            "parameters": of_attempt[:1],
            "post": {
                "operationId": "settle",
                "summary": "Try again now, whatever the account waits for",
                "responses": {
                    "200": {"description": "It does.", "content": content("application/json", record())},
                    **problems(400, 404, 500, 503),
                },
            },
        },
        "/suspense/assign": {"post": _decision("assign", "Name the owner of money without one", max_body)},
    }


def _live() -> Schema:
    answer: Schema = {
        "description": (
            "Each event's `event` is its type and its `data` one JSON object, as in the log; `resync` says that "
            "something may have been missed: look at the books again. A comment comes when nothing else did for some "
            "seconds."
        ),
        "content": content("text/event-stream", _TEXT),
    }
    return {
        "/events": {
            "get": {
                "operationId": "followEvents",
                "summary": "What happens in this process, as it happens, until it stops: server-sent events",
                "parameters": [
                    parameter(
                        "Last-Event-ID",
                        "header",
                        _TEXT,
                        "The id of the last event seen: those since follow, or `resync` if they are not all kept.",
                        required=False,
                    )
                ],
                "responses": {"200": answer, **problems(400, 404, 500, 503)},
            }
        }
    }


def _health() -> Schema:
    answer = {"content": content("application/json", record(status=_TEXT))}
    told = {"content": content("application/json", record(status=_TEXT, clock={"enum": ["ok", "jumped"]}))}
    return {
        path: {
            "get": {
                "operationId": path.removeprefix("/"),
                "summary": summary,
                "responses": {"200": {"description": "Yes.", **body}, **problems()} | other,
            }
        }
        for path, summary, body, other in (
            ("/live", "Whether the process answers at all", answer, {}),
            ("/ready", "Whether a settlement would be taken and paid", told, {"503": {"description": "No.", **told}}),
        )
    }


def _query(name: str, schema: Schema, description: str) -> Schema:
    return parameter(name, "query", schema, description, required=False)


def _query_of(
    operation: str,
    summary: str,
    answer: Schema,
    parameters: list[Schema],
    *,
    links: Schema | None = None,
    more: tuple[int, ...] = (),
) -> Schema:
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "As of now.",
                "content": content("application/json", answer),
                "links": links or {},
            },
            **problems(400, 500, 503, *more),
        },
    }


def _decision(operation: str, summary: str, max_body: int) -> Schema:
    body = ref("schemas", operation.capitalize())
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": content("application/json", body)},
        "responses": {
            "200": {
                "description": "Recorded, now or by the same decision earlier.",
                "content": content("application/json", record()),
            },
            **problems(400, 404, 409, 413, 500, 503, limit=max_body),
        },
    }


def _rows(name: str) -> Schema:
    return {"type": "array", "items": ref("schemas", name)}


def _totals(*parked: str) -> Schema:
    return record(**dict.fromkeys(("entered", "queued", "open", "settled", *parked), _WRITTEN))


_FIRST_ATTEMPT: Schema = {
    operation: {
        "operationId": operation,
        "parameters": {"account_id": "$response.body#/0/account", "attempt_id": "$response.body#/0/id"},
    }
    for operation in ("resolve", "release")
}

_LOT = record(count=_COUNT, amount=_WRITTEN, since=nullable(_WHEN))
_NAMED = record(count=_COUNT, accounts={"type": "array", "items": _TEXT})
_SECONDS: Schema = nullable({"type": "number", "minimum": 0})

_WAITING = record(account=_TEXT, attempt_id=_TEXT, amount=_WRITTEN, reason=_TEXT)

_SCHEMAS: Schema = {
    "Resolve": record(settled=_WRITTEN, reason=_SAID, by=_SAID),
    "Release": record(reason=_SAID, by=_SAID),
    "Pause": record(reason=_SAID, by=_SAID),
    "Resume": record(reason=_SAID, by=_SAID),
    "Assign": record(settlement_id=_SAID, account_id=_SAID, reason=_SAID, by=_SAID),
    "Account": record(
        id=_TEXT,
        state={"enum": list(AccountState)},
        step=nullable({"enum": list(Step)}),
        paused={"type": "boolean"},
        pausing=nullable(record(paused={"type": "boolean"}, reason=_TEXT, by=_TEXT, at=_WHEN)),
        outgoing=_totals("in_doubt"),
        incoming=_totals("held"),
    ),
    "Attempt": record(
        id=_TEXT,
        account=_TEXT,
        direction={"enum": list(Direction)},
        state={"enum": list(AttemptState)},
        amount=_WRITTEN,
        settled=nullable(_WRITTEN),
        reason=_TEXT,
        resolved_by=_TEXT,
        claimed_at=_WHEN,
        closed_at=nullable(_WHEN),
        payment={"description": "What the engine noted before it first submitted, or null."},
    ),
    "Suspense": record(
        settlement_id=_TEXT,
        amount=_WRITTEN,
        details={"description": "What the engine knows of it."},
        reported_at=_WHEN,
        account_id=nullable(_TEXT),
        reason=_TEXT,
        assigned_by=_TEXT,
        assigned_at=nullable(_WHEN),
    ),
    "Workers": record(
        shared={"type": "boolean"},
        partitions=_COUNT,
        workers={
            "type": "array",
            "items": record(id=_TEXT, partitions={"type": "array", "items": _COUNT}, expires_in_s={"type": "number"}),
        },
    ),
    "Audit": record(
        ok={"type": "boolean"},
        accounts={
            "type": "array",
            "items": record(
                id=_TEXT,
                state={"enum": list(AccountState)},
                outgoing=_totals("parked", "pruned"),
                incoming=_totals("parked", "pruned"),
            ),
        },
        outgoing=_totals("parked", "pruned"),
        incoming=_totals("parked", "pruned"),
        entries=_COUNT,
        attempts=_COUNT,
        in_doubt={"type": "array", "items": _WAITING},
        held={"type": "array", "items": _WAITING},
        unattributed={"type": "array", "items": record(settlement_id=_TEXT, amount=_WRITTEN, details={})},
        problems={"type": "array", "items": record(account=_TEXT, row=_TEXT, problem=_TEXT)},
    ),
    "Engine": record(engine=_TEXT, status={"type": "object"}),
    "Statistics": record(
        engine=_TEXT,
        verifiable={"type": "boolean"},
        recovered={"type": "boolean"},
        stopping={"type": "boolean"},
        active_lanes=_COUNT,
        halted={"type": "object", "additionalProperties": _TEXT},
        journal=record(pending=_COUNT, batches=_COUNT, commands=_COUNT, failures=_COUNT),
        worker=_TEXT,
        partitions=_COUNT,
        partitions_held=_COUNT,
        clock_jumped_s=nullable({"type": "number"}),
        lanes=_rows("Lane"),
    ),
    "Lane": record(
        account_id=_TEXT,
        direction={"enum": list(Direction)},
        doing=_TEXT,
        attempt_id=_TEXT,
        failures=_COUNT,
        last_error=_TEXT,
        next_try_in_s=_SECONDS,
    ),
    "Summary": record(
        at=_WHEN,
        accounts=_COUNT,
        deleted=_COUNT,
        paused=_NAMED,
        unbalanced=_NAMED,
        outgoing=_totals("in_doubt"),
        incoming=_totals("held"),
        waiting=record(in_doubt=_LOT, held=_LOT, unattributed=_LOT),
        under_way=record(outgoing=_LOT, incoming=_LOT, released=_LOT),
        complete={"type": "boolean", "description": "Whether all that waits was counted."},
        halted={
            "type": "array",
            "items": record(account=_TEXT, direction={"enum": list(Direction)}, reason=_TEXT),
        },
        retrying=record(count=_COUNT, lanes=_rows("Lane")),
        server=record(
            engine=_TEXT,
            verifiable={"type": "boolean"},
            recovered={"type": "boolean"},
            stopping={"type": "boolean"},
            worker=_TEXT,
            partitions=_COUNT,
            partitions_held=_COUNT,
            clock_jumped_s=nullable({"type": "number"}),
            active_lanes=_COUNT,
            halted=_COUNT,
            store_failures=_COUNT,
        ),
    ),
    "Activity": record(
        at=_WHEN,
        since=_WHEN,
        span_s=_COUNT,
        point_s=_COUNT,
        points={
            "type": "array",
            "items": record(
                at=_WHEN,
                settled=_WRITTEN,
                settlements=_COUNT,
                credited=_WRITTEN,
                credits=_COUNT,
                set_aside=_COUNT,
                retries=_COUNT,
                median_s=_SECONDS,
                p95_s=_SECONDS,
            ),
        },
    ),
}

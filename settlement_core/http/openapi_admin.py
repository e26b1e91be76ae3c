"""The operator's API as an OpenAPI 3.1 document, beside that of the connector's API in `openapi`."""

from __future__ import annotations

from settlement_core.auditing.kinds import Grade, Kind
from settlement_core.http.openapi import Schema, content, document, nullable, parameter, problems, record, ref
from settlement_core.http.openapi_decisions import COUNT, DECISION_SCHEMAS, TEXT, WRITTEN, describe_decisions
from settlement_core.http.openapi_files import describe_files
from settlement_core.observers.activity import SPANS
from settlement_core.values.records import AccountState, AttemptState, Direction, Step

__all__ = ["describe_admin_api"]

_FLAG: Schema = {"type": "boolean", "default": False}
_WHEN: Schema = {"type": "number", "description": "Seconds since 1970."}


def describe_admin_api(*, max_page: int, max_body: int) -> Schema:
    """Return the document; an answer holds at most `max_page` rows, a request `max_body` bytes."""
    pages = {
        "Limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": max_page, "default": 100}, "Rows."),
        "After": _query("after", TEXT, "The id of the last row of the page before this one."),
    }
    return document(
        title="Settlement engine, operator's API",
        version="1",
        description=(
            "What a person may ask of a running engine, and decide about money that it set aside. Amounts are written "
            "in standard units, exactly."
        ),
        paths=_queries() | describe_decisions(max_body) | _live() | _health() | describe_files(),
        components={
            "schemas": _SCHEMAS,
            "parameters": pages
            | {
                name: parameter(written, "path", TEXT, description)
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
        _query("account", TEXT, "Of this account only."),
        _query("after_account", TEXT, "The account of the attempt named by `after`."),
        _query("state", states, "In these states only."),
        _query("newest", _FLAG, "Newest first, so that those after an attempt are older."),
    ]
    accounts = [
        *page,
        _query("prefix", TEXT, "Only those whose ids begin with it."),
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
        "/suspense": {
            "get": _query_of(
                "listSuspense",
                "Money without an owner",
                _rows("Suspense"),
                [*page, _query("decided", _FLAG, "Also what was assigned, or dismissed as not ours.")],
            )
        },
        "/workers": {"get": _query_of("getWorkers", "Who shares the store", ref("schemas", "Workers"), [])},
        "/audit": {"get": _query_of("audit", "Whether everything adds up", ref("schemas", "Audit"), [])},
        "/engine": {"get": _query_of("getEngine", "What the engine tells of its ledger", ref("schemas", "Engine"), [])},
        "/statistics": {"get": _query_of("getStatistics", "What is at work", ref("schemas", "Statistics"), [])},
    }


def _live() -> Schema:
    answer: Schema = {
        "description": (
            "Each event's `event` is its type and its `data` one JSON object, as in the log; `resync` says that "
            "something may have been missed: look at the books again. A comment comes when nothing else did for some "
            "seconds."
        ),
        "content": content("text/event-stream", TEXT),
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
                        TEXT,
                        "The id of the last event seen: those since follow, or `resync` if they are not all kept.",
                        required=False,
                    )
                ],
                "responses": {"200": answer, **problems(400, 404, 500, 503)},
            }
        }
    }


def _health() -> Schema:
    answer = {"content": content("application/json", record(status=TEXT))}
    told = {"content": content("application/json", record(status=TEXT, clock={"enum": ["ok", "jumped"]}))}
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


def _rows(name: str) -> Schema:
    return {"type": "array", "items": ref("schemas", name)}


def _totals(*parked: str) -> Schema:
    return record(**dict.fromkeys(("entered", "queued", "open", "settled", *parked), WRITTEN))


_FIRST_ATTEMPT: Schema = {
    operation: {
        "operationId": operation,
        "parameters": {"account_id": "$response.body#/0/account", "attempt_id": "$response.body#/0/id"},
    }
    for operation in ("resolve", "release")
}

_LOT = record(count=COUNT, amount=WRITTEN, since=nullable(_WHEN))
_NAMED = record(count=COUNT, accounts={"type": "array", "items": TEXT})
_SECONDS: Schema = nullable({"type": "number", "minimum": 0})

_WAITING = record(account=TEXT, attempt_id=TEXT, amount=WRITTEN, reason=TEXT)

_SCHEMAS: Schema = {
    **DECISION_SCHEMAS,
    "Account": record(
        id=TEXT,
        state={"enum": list(AccountState)},
        step=nullable({"enum": list(Step)}),
        paused={"type": "boolean"},
        pausing=nullable(record(paused={"type": "boolean"}, reason=TEXT, by=TEXT, at=_WHEN)),
        halted={
            "type": "object",
            "additionalProperties": TEXT,
            "description": "Why this worker stopped working on a direction, by direction.",
        },
        outgoing=_totals("in_doubt", "retired"),
        incoming=_totals("held", "retired"),
    ),
    "Attempt": record(
        id=TEXT,
        account=TEXT,
        direction={"enum": list(Direction)},
        state={"enum": list(AttemptState)},
        amount=WRITTEN,
        settled=nullable(WRITTEN),
        reason=TEXT,
        halted={"type": "string", "description": "Why this worker stopped working on the open attempt; else empty."},
        resolved_by=TEXT,
        claimed_at=_WHEN,
        closed_at=nullable(_WHEN),
        payment={"description": "What the engine noted before it first submitted, or null."},
    ),
    "Suspense": record(
        settlement_id=TEXT,
        amount=WRITTEN,
        details={"description": "What the engine knows of it."},
        reported_at=_WHEN,
        account_id=nullable(TEXT),
        reason=TEXT,
        assigned_by=TEXT,
        assigned_at=nullable(_WHEN),
        state={"enum": ["waiting", "assigned", "dismissed"]},
    ),
    "Workers": record(
        shared={"type": "boolean"},
        partitions=COUNT,
        workers={
            "type": "array",
            "items": record(id=TEXT, partitions={"type": "array", "items": COUNT}, expires_in_s={"type": "number"}),
        },
    ),
    "Audit": record(
        ok={"type": "boolean"},
        accounts={
            "type": "array",
            "items": record(
                id=TEXT,
                state={"enum": list(AccountState)},
                outgoing=_totals("parked", "pruned", "retired"),
                incoming=_totals("parked", "pruned", "retired"),
            ),
        },
        outgoing=_totals("parked", "pruned", "retired"),
        incoming=_totals("parked", "pruned", "retired"),
        store=TEXT,
        written_at=nullable(_WHEN),
        verdict=ref("schemas", "Verdict"),
        entries=COUNT,
        attempts=COUNT,
        in_doubt={"type": "array", "items": _WAITING},
        held={"type": "array", "items": _WAITING},
        unattributed={"type": "array", "items": record(settlement_id=TEXT, amount=WRITTEN, details={})},
        dismissed=record(count=COUNT, amount=WRITTEN),
        problems={"type": "array", "items": record(account=TEXT, row=TEXT, problem=TEXT)},
    ),
    "Engine": record(engine=TEXT, status={"type": "object"}),
    "Statistics": record(
        engine=TEXT,
        asset=TEXT,
        verifiable={"type": "boolean"},
        recovered={"type": "boolean"},
        stopping={"type": "boolean"},
        active_lanes=COUNT,
        halted={"type": "object", "additionalProperties": TEXT},
        journal=record(pending=COUNT, batches=COUNT, commands=COUNT, failures=COUNT),
        worker=TEXT,
        partitions=COUNT,
        partitions_held=COUNT,
        clock_jumped_s=nullable({"type": "number"}),
        lanes=_rows("Lane"),
    ),
    "Lane": record(
        account_id=TEXT,
        direction={"enum": list(Direction)},
        doing=TEXT,
        attempt_id=TEXT,
        failures=COUNT,
        last_error=TEXT,
        next_try_in_s=_SECONDS,
    ),
    "Verdict": record(
        grade={"enum": list(Grade)},
        sentence=TEXT,
        reasons={
            "type": "array",
            "items": record(
                kind={"enum": list(Kind)},
                grade={"enum": list(Grade)},
                count=COUNT,
                account_count=COUNT,
                accounts={"type": "array", "items": TEXT},
                amount=WRITTEN,
                since=nullable(_WHEN),
                text=TEXT,
                command={"type": "string", "description": "What ends it."},
            ),
        },
    ),
    "Summary": record(
        at=_WHEN,
        verdict=ref("schemas", "Verdict"),
        accounts=COUNT,
        deleted=COUNT,
        paused=_NAMED,
        unbalanced=_NAMED,
        outgoing=_totals("in_doubt", "retired"),
        incoming=_totals("held", "retired"),
        waiting=record(in_doubt=_LOT, held=_LOT, unattributed=_LOT),
        under_way=record(outgoing=_LOT, incoming=_LOT, released=_LOT),
        complete={"type": "boolean", "description": "Whether all that waits was counted."},
        halted={
            "type": "array",
            "items": record(account=TEXT, direction={"enum": list(Direction)}, reason=TEXT, attempt=TEXT),
        },
        retrying=record(count=COUNT, lanes=_rows("Lane")),
        server=record(
            engine=TEXT,
            store=TEXT,
            verifiable={"type": "boolean"},
            recovered={"type": "boolean"},
            stopping={"type": "boolean"},
            worker=TEXT,
            partitions=COUNT,
            partitions_held=COUNT,
            clock_jumped_s=nullable({"type": "number"}),
            active_lanes=COUNT,
            halted=COUNT,
            store_failures=COUNT,
        ),
    ),
    "Activity": record(
        at=_WHEN,
        since=_WHEN,
        span_s=COUNT,
        point_s=COUNT,
        points={
            "type": "array",
            "items": record(
                at=_WHEN,
                settled=WRITTEN,
                settlements=COUNT,
                credited=WRITTEN,
                credits=COUNT,
                set_aside=COUNT,
                retries=COUNT,
                median_s=_SECONDS,
                p95_s=_SECONDS,
            ),
        },
    ),
}

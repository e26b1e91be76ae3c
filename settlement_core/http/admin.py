"""The operator's API: what the command line asks of a running server, on a port of its own.

It listens on loopback by default; who may ask beyond it is the gate's affair (`http/gate.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import msgspec
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from settlement_core.auditing.audit import AuditReport, audit_steps
from settlement_core.core.core import Core
from settlement_core.http import views
from settlement_core.http.app import make_quart
from settlement_core.http.asgi import BODY_DEADLINE_S
from settlement_core.http.health import add_health
from settlement_core.http.openapi_admin import AMOUNT, describe_admin_api
from settlement_core.http.problems import BadJson
from settlement_core.http.responses import Response as Answer
from settlement_core.http.responses import problem, problem_of
from settlement_core.values.amounts import check_amount
from settlement_core.values.commands import Assign, History, Overview, Pause, Release, Resolve, Suspense, Workers
from settlement_core.values.errors import InvalidAmount, SettlementError, UnknownAccount
from settlement_core.values.json_text import is_too_deep
from settlement_core.values.records import AttemptState

if TYPE_CHECKING:
    from settlement_core.observers.metrics import Metrics
    from settlement_core.observers.webhooks import Webhooks

__all__ = ["create_admin_app"]

P = ParamSpec("P")

_WRITTEN = re.compile(AMOUNT)

MAX_PAGE = 1000
MAX_BODY = 16 * 1024


def create_admin_app(core: Core, *, metrics: Metrics | None = None, webhooks: Webhooks | None = None) -> Quart:
    """Return the app; every answer but `/metrics` is JSON, every error problem+json.

    `metrics` is what `/metrics` shows, and must observe the core; of `webhooks` it shows the queue.
    """
    app = make_quart()
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["BODY_TIMEOUT"] = BODY_DEADLINE_S
    app.register_error_handler(HTTPException, _refused_by_quart)
    _add_queries(app, core)
    _add_actions(app, core)
    _add_description(app)
    add_health(app, core)
    if metrics is None:
        _add_no_metrics(app)
    else:
        from settlement_core.http.metrics import add_metrics  # noqa: PLC0415 - needs what only `metrics` extra installs

        add_metrics(app, core, metrics, webhooks=webhooks)
    return app


def _add_queries(app: Quart, core: Core) -> None:
    @app.get("/accounts")
    @_answering("after", "limit")
    async def accounts() -> Any:
        found = await core.ask(Overview(after=request.args.get("after", ""), limit=_limit()))
        return [views.account_view(account) for account in found]

    @app.get("/accounts/<account_id>")
    @_answering()
    async def account(account_id: str) -> Any:
        found = await core.ask(Overview(account_id=account_id))
        return [views.account_view(account) for account in found]

    @app.get("/attempts")
    @_answering("account", "state", "after", "after_account", "limit")
    async def attempts() -> Any:
        query = History(
            account_id=request.args.get("account"),
            states=_states(),
            after=request.args.get("after"),
            after_account=request.args.get("after_account"),
            limit=_limit(),
        )
        return [views.attempt_view(attempt) for attempt in await core.ask(query)]

    @app.get("/suspense")
    @_answering("after", "limit")
    async def suspense() -> Any:
        found = await core.ask(Suspense(after=request.args.get("after", ""), limit=_limit()))
        return [views.suspense_view(item) for item in found]

    @app.get("/workers")
    @_answering()
    async def workers() -> Any:
        # a server that shares its store is one of those who do
        found = await core.ask(Workers())
        return views.workers_view(found, shared=bool(found), partitions=core.statistics().partitions)

    @app.get("/audit")
    @_answering()
    async def audit() -> Any:
        return (await _audit(core)).to_json()

    @app.get("/engine")
    @_answering()
    async def engine() -> Any:
        return {"engine": core.statistics().engine, "status": await core.engine_status()}

    @app.get("/statistics")
    @_answering()
    async def statistics() -> Any:
        lanes = [views.lane_view(lane) for lane in core.lanes()[:MAX_PAGE]]
        return asdict(core.statistics()) | {"lanes": lanes}


def _add_actions(app: Quart, core: Core) -> None:
    @app.post("/accounts/<account_id>/attempts/<attempt_id>/resolve")
    @_answering()
    async def resolve(account_id: str, attempt_id: str) -> Any:
        told = await _told("settled", "reason", "by")
        settled = _amount(told["settled"])
        await core.decide(
            Resolve(
                account_id=account_id,
                attempt_id=attempt_id,
                settled=settled,
                reason=told["reason"],
                by=told["by"],
                at=time.time(),
            )
        )
        return {}

    @app.post("/accounts/<account_id>/attempts/<attempt_id>/release")
    @_answering()
    async def release(account_id: str, attempt_id: str) -> Any:
        told = await _told("reason", "by")
        await core.decide(Release(account_id=account_id, attempt_id=attempt_id, **told))
        return {}

    @app.post("/accounts/<account_id>/pause")
    @_answering()
    async def pause(account_id: str) -> Any:
        told = await _told("reason", "by")
        await core.decide(Pause(account_id=account_id, paused=True, at=time.time(), **told))
        return {}

    @app.post("/accounts/<account_id>/resume")
    @_answering()
    async def resume(account_id: str) -> Any:
        told = await _told("reason", "by")
        await core.decide(Pause(account_id=account_id, paused=False, at=time.time(), **told))
        return {}

    @app.post("/accounts/<account_id>/settle")
    @_answering()
    async def settle(account_id: str) -> Any:
        if not await core.ask(Overview(account_id=account_id)):
            raise UnknownAccount(account_id)
        core.try_settlement(account_id)
        return {}

    @app.post("/suspense/assign")
    @_answering()
    async def assign() -> Any:
        told = await _told("settlement_id", "account_id", "reason", "by")
        await core.decide(Assign(**told, at=time.time()))
        return {}


def _add_description(app: Quart) -> None:
    document = describe_admin_api(max_page=MAX_PAGE, max_body=MAX_BODY)

    @app.get("/openapi.json")
    @_answering()
    async def description() -> Any:
        return document


def _add_no_metrics(app: Quart) -> None:
    @app.get("/metrics")
    async def no_metrics() -> Response:
        return _response(
            problem_of(404, "this server counts nothing: pip install 'settlement-core[metrics]', and start it again")
        )


async def _audit(core: Core) -> AuditReport:
    """Audit while money moves: every batch of queries is answered at one instant."""
    steps = audit_steps()
    batch = next(steps)
    while True:
        results = await core.ask_together(batch)
        try:
            batch = steps.send(results)
        except StopIteration as finished:
            report: AuditReport = finished.value
            return report


def _answering(*known: str) -> Callable[[Callable[P, Awaitable[Any]]], Callable[P, Awaitable[Response]]]:
    """Turn a handler's value, or its error, into an answer; the request may have these parameters in its query."""

    def decorate(handler: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Response]]:
        @wraps(handler)
        async def answer(*args: P.args, **kwargs: P.kwargs) -> Response:
            try:
                _refuse_unknown(known)
                content = await handler(*args, **kwargs)
            except SettlementError as error:
                return _response(problem(error))
            return Response(msgspec.json.encode(content), 200, {"content-type": "application/json"})

        return answer

    return decorate


def _response(said: Answer) -> Response:
    return Response(said.body, said.status, {name.decode(): value.decode() for name, value in said.headers})


async def _refused_by_quart(error: HTTPException) -> Response:
    """Answer in our form what Quart refuses itself: unknown paths, other methods, bodies that are too large."""
    allowed = dict(error.get_headers()).get("Allow")
    return _response(problem_of(error.code or 500, error.description or error.name, allowed))


def _refuse_unknown(known: Collection[str]) -> None:
    # a slip such as ?sate=held would otherwise show a person everything
    unknown = [name for name in request.args if name not in known]
    if unknown:
        raise BadJson(
            f"the query's {unknown[0][:40]!r} is none of {', '.join(known) or 'the parameters, for there are none'}"
        )


def _limit() -> int:
    text = request.args.get("limit", "100")
    # by its length first: int() refuses a text of thousands of digits with an error of its own
    if len(text) > 4 or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise BadJson(f"limit is a number from 1 to {MAX_PAGE}")
    return int(text)


def _states() -> frozenset[AttemptState]:
    try:
        return frozenset(AttemptState(state) for state in request.args.getlist("state"))
    except ValueError:
        raise BadJson(f"state is one of {', '.join(AttemptState)}") from None


async def _told(*names: str) -> dict[str, str]:
    """Return the texts a person gave, all of them non-empty."""
    if request.mimetype != "application/json":
        raise BadJson("Content-Type must be application/json; nothing was recorded")
    try:
        text = str(await request.get_data(), "utf-8")  # type: ignore[arg-type]  # bytes, unless asked for text
        content = None if is_too_deep(text) else msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        raise BadJson("the body must be a JSON object; nothing was recorded")
    told = {name: content.get(name) for name in names}
    missing = [name for name, text in told.items() if not isinstance(text, str) or not text.strip()]
    if missing:
        raise BadJson(f"the text of {', '.join(missing)} is missing; nothing was recorded")
    return {name: str(text) for name, text in told.items()}


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise InvalidAmount("amount", f"{text[:40]!r} is not a number") from None
    checked = check_amount(amount, "amount")
    if not _WRITTEN.fullmatch(text):
        # Decimal also reads 1_000, 1e3 and the digits of other scripts; a person may have meant something else
        raise InvalidAmount("amount", f"{text[:40]!r} is not digits with at most one point")
    return checked

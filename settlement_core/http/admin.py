"""The operator's API: what the command line asks of a running server, on a port of its own.

It listens on loopback by default; who may ask beyond it is the gate's affair (`http/gate.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from settlement_core.auditing.audit import AuditReport, audit_steps
from settlement_core.core.core import Core
from settlement_core.http import views
from settlement_core.http.answering import MAX_PAGE, answering, read_flag, read_limit, response_of
from settlement_core.http.app import make_quart
from settlement_core.http.asgi import BODY_DEADLINE_S
from settlement_core.http.backups import add_backup
from settlement_core.http.callers import add_callers, token_shown
from settlement_core.http.dashboard import add_dashboard
from settlement_core.http.deciding import Deciding
from settlement_core.http.events import add_events
from settlement_core.http.finding import find_accounts
from settlement_core.http.health import add_health
from settlement_core.http.obstacles import halts_of, may_try, obstacle
from settlement_core.http.openapi_admin import describe_admin_api
from settlement_core.http.openapi_decisions import AMOUNT
from settlement_core.http.problems import BadJson
from settlement_core.http.responses import problem_of
from settlement_core.http.summing import Summaries
from settlement_core.observers.activity import SPANS, Activity
from settlement_core.observers.feed import EventFeed
from settlement_core.values.amounts import check_amount
from settlement_core.values.commands import (
    Assign,
    Dismiss,
    History,
    Overview,
    Pause,
    Release,
    Resolve,
    Suspense,
    Workers,
)
from settlement_core.values.errors import InvalidAmount, UnknownAccount
from settlement_core.values.json_text import is_too_deep
from settlement_core.values.records import AttemptState

if TYPE_CHECKING:
    from settlement_core.observers.metrics import Metrics
    from settlement_core.observers.webhooks import Webhooks

__all__ = ["create_admin_app"]

_WRITTEN = re.compile(AMOUNT)

Found = TypeVar("Found")

MAX_BODY = 16 * 1024


def create_admin_app(
    core: Core,
    *,
    metrics: Metrics | None = None,
    webhooks: Webhooks | None = None,
    feed: EventFeed | None = None,
    activity: Activity | None = None,
    four_eyes_above: Decimal | None = None,
) -> Quart:
    """Return the app; what is not the dashboard, `/metrics` or `/events` is JSON, every error problem+json.

    `metrics`, `feed` and `activity` are what `/metrics`, `/events` and `/activity` show, and must observe the core; of
    `webhooks` the first shows the queue. Decisions about more than `four_eyes_above` need a second token.
    """
    app = make_quart()
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["BODY_TIMEOUT"] = BODY_DEADLINE_S
    app.register_error_handler(HTTPException, _refused_by_quart)
    summaries = Summaries(core)
    _add_queries(app, core, summaries)
    deciding = Deciding(core, four_eyes_above)
    _add_actions(app, core, deciding)
    _add_suspense(app, core, deciding)
    add_callers(app, deciding)
    _add_description(app)
    add_health(app, core)
    add_backup(app, core)
    add_dashboard(app)
    if feed is None:
        _add_nothing(app, "/events", "this server tells no events: give its app a feed that observes the core")
    else:
        add_events(app, feed)
    if activity is None:
        _add_nothing(app, "/activity", "this server keeps no activity: give its app one that observes the core")
    else:
        _add_activity(app, activity)
    if metrics is None:
        _add_nothing(
            app,
            "/metrics",
            "this server counts nothing: pip install 'settlement-core[metrics]', and start it again",
        )
    else:
        from settlement_core.http.metrics import add_metrics  # noqa: PLC0415 - needs what only `metrics` extra installs

        add_metrics(app, core, metrics, summaries=summaries, webhooks=webhooks)
    return app


def _add_queries(app: Quart, core: Core, summaries: Summaries) -> None:
    @app.get("/accounts")
    @answering("after", "limit", "prefix", "due")
    async def accounts() -> Any:
        found = await find_accounts(
            core,
            after=request.args.get("after", ""),
            limit=read_limit(),
            prefix=request.args.get("prefix", ""),
            due=read_flag("due"),
        )
        halts = core.statistics().halted
        return [views.account_view(account, halts) for account in found]

    @app.get("/accounts/<account_id>")
    @answering()
    async def account(account_id: str) -> Any:
        found = await _none_if_unknown(core.ask(Overview(account_id=account_id)))
        halts = core.statistics().halted
        return [views.account_view(account, halts) for account in found]

    @app.get("/attempts")
    @answering("account", "state", "after", "after_account", "limit", "newest")
    async def attempts() -> Any:
        query = History(
            account_id=request.args.get("account"),
            states=_states(),
            after=request.args.get("after"),
            after_account=request.args.get("after_account"),
            limit=read_limit(),
            newest=read_flag("newest"),
        )
        halts = core.statistics().halted
        return [views.attempt_view(attempt, halts) for attempt in await _none_if_unknown(core.ask(query))]

    @app.get("/summary")
    @answering()
    async def summary() -> Any:
        return await summaries.look()

    @app.get("/workers")
    @answering()
    async def workers() -> Any:
        # a server that shares its store is one of those who do
        found = await core.ask(Workers())
        return views.workers_view(found, shared=bool(found), partitions=core.statistics().partitions)

    @app.get("/audit")
    @answering()
    async def audit() -> Any:
        report = await _audit(core)
        summaries.audited(report)
        verdict = (await summaries.look())["verdict"]
        return report.to_json() | {"store": core.store_name, "verdict": verdict}

    @app.get("/engine")
    @answering()
    async def engine() -> Any:
        return {"engine": core.statistics().engine, "status": await core.engine_status()}

    @app.get("/statistics")
    @answering()
    async def statistics() -> Any:
        lanes = [views.lane_view(lane) for lane in core.lanes()[:MAX_PAGE]]
        return asdict(core.statistics()) | {"lanes": lanes}


def _add_actions(app: Quart, core: Core, deciding: Deciding) -> None:
    @app.post("/accounts/<account_id>/attempts/<attempt_id>/resolve")
    @answering()
    async def resolve(account_id: str, attempt_id: str) -> Any:
        told = await _told("settled", "reason", "by")
        settled = _amount(told["settled"])
        said: dict[str, Any] = {"reason": told["reason"], "by": told["by"], "at": time.time()}
        await deciding.decide(
            Resolve(account_id=account_id, attempt_id=attempt_id, settled=settled, **said), token_shown()
        )
        return {"waits_for": await obstacle(core, account_id)}

    @app.post("/accounts/<account_id>/attempts/<attempt_id>/release")
    @answering()
    async def release(account_id: str, attempt_id: str) -> Any:
        told = await _told("reason", "by")
        await deciding.decide(Release(account_id=account_id, attempt_id=attempt_id, **told), token_shown())
        return {"waits_for": await obstacle(core, account_id)}

    @app.post("/accounts/<account_id>/pause")
    @answering()
    async def pause(account_id: str) -> Any:
        told = await _told("reason", "by")
        await deciding.decide(Pause(account_id=account_id, paused=True, at=time.time(), **told), token_shown())
        return {}

    @app.post("/accounts/<account_id>/resume")
    @answering()
    async def resume(account_id: str) -> Any:
        told = await _told("reason", "by")
        paused = any(account.paused for account in await core.ask(Overview(account_id=account_id)))
        halted = halts_of(core, account_id)
        await deciding.decide(Pause(account_id=account_id, paused=False, at=time.time(), **told), token_shown())
        known = core.statistics()
        elsewhere = known.partitions_held < known.partitions
        return {"was_paused": paused, "was_halted": list(halted), "may_halt_elsewhere": elsewhere}

    @app.post("/engine/resume")
    @answering()
    async def resume_payments() -> Any:
        await core.resume_payments(**await _told("reason", "by"))
        return {}

    @app.post("/accounts/<account_id>/settle")
    @answering()
    async def settle(account_id: str) -> Any:
        await may_try(core, account_id)
        core.try_settlement(account_id)
        return {}


def _add_suspense(app: Quart, core: Core, deciding: Deciding) -> None:
    @app.get("/suspense")
    @answering("after", "limit", "decided")
    async def suspense() -> Any:
        after, decided = request.args.get("after", ""), read_flag("decided")
        found = await core.ask(Suspense(after=after, limit=read_limit(), assigned=decided))
        return [views.suspense_view(item) for item in found]

    @app.post("/suspense/assign")
    @answering()
    async def assign() -> Any:
        told = await _told("settlement_id", "account_id", "reason", "by")
        await deciding.decide(Assign(**told, at=time.time()), token_shown())
        return {"waits_for": await obstacle(core, told["account_id"])}

    @app.post("/suspense/dismiss")
    @answering()
    async def dismiss() -> Any:
        told = await _told("reason", "by", optional=("settlement_id", "below", "after"))
        said = {"reason": told["reason"], "by": told["by"]}
        if ("settlement_id" in told) is ("below" in told):
            raise BadJson("say exactly one of settlement_id and below; nothing was recorded")
        if "below" in told:
            below, after = _amount(told["below"]), told.get("after", "")
            done = await deciding.dismiss_below(below, token_shown(), after=after, **said)
            return {"dismissed": done.count, "after": done.after}
        command = Dismiss(settlement_id=told["settlement_id"], at=time.time(), **said)
        await deciding.decide(command, token_shown())
        return {"dismissed": 1, "after": None}


def _add_description(app: Quart) -> None:
    document = describe_admin_api(max_page=MAX_PAGE, max_body=MAX_BODY)

    @app.get("/openapi.json")
    @answering()
    async def description() -> Any:
        return document


def _add_activity(app: Quart, activity: Activity) -> None:
    @app.get("/activity")
    @answering("span")
    async def show() -> Any:
        span = request.args.get("span", "hour")
        if span not in SPANS:
            raise BadJson(f"span is one of {', '.join(SPANS)}")
        return activity.to_json(span)


def _add_nothing(app: Quart, path: str, why: str) -> None:
    @app.get(path, endpoint=path.strip("/"))
    async def nothing() -> Response:
        return response_of(problem_of(404, why))


async def _none_if_unknown(found: Awaitable[list[Found]]) -> list[Found]:
    """Return what was found: nothing, if no account can have the id that was asked for."""
    try:
        return await found
    except UnknownAccount:
        return []


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


async def _refused_by_quart(error: HTTPException) -> Response:
    """Answer in our form what Quart refuses itself: unknown paths, other methods, bodies that are too large."""
    allowed = dict(error.get_headers()).get("Allow")
    return response_of(problem_of(error.code or 500, error.description or error.name, allowed))


def _states() -> frozenset[AttemptState]:
    try:
        return frozenset(AttemptState(state) for state in request.args.getlist("state"))
    except ValueError:
        raise BadJson(f"state is one of {', '.join(AttemptState)}") from None


async def _told(*names: str, optional: Sequence[str] = ()) -> dict[str, Any]:
    """Return the texts a person gave, all of them non-empty; the optional ones if they are there."""
    if request.mimetype != "application/json":
        raise BadJson("Content-Type must be application/json; nothing was recorded")
    try:
        text = str(await request.get_data(), "utf-8")  # type: ignore[arg-type]  # bytes, unless asked for text
        content = None if is_too_deep(text) else msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        raise BadJson("the body must be a JSON object; nothing was recorded")
    told = {name: content.get(name) for name in (*names, *(name for name in optional if name in content))}
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

"""`/live` and `/ready`: what starts and watches the process needs to know, true at the moment it is given."""

from __future__ import annotations

import math

import anyio
import anyio.lowlevel
import msgspec
from quart import Quart, Response

from settlement_core.core.core import Core
from settlement_core.values.commands import Overview
from settlement_core.values.errors import SettlementError

__all__ = ["HEALTH_PATHS", "add_health"]

HEALTH_PATHS = frozenset({"/live", "/ready"})
"""What is answered without a token: it says nothing else."""

LOOK_S = 2.0
"""How long the store may take: less than the patience of those who ask, and of a request."""

FRESH_S = 1.0
"""How long an answer of the store counts, so that asking often costs the store nothing."""


def add_health(app: Quart, core: Core) -> None:
    """Serve both paths.

    `/live` is 200 whenever the event loop turns. `/ready` is 200 if a settlement would be taken and paid: what an
    earlier run left has been looked at, the store answers, and we are not shutting down; else it is 503. It also tells
    whether the wall clock was set since the start, which loses no money but makes the times shown wrong.
    """
    readiness = _Readiness(core)

    @app.get("/live")
    async def live() -> Response:
        await anyio.lowlevel.checkpoint()
        return _answer(True, {"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        good = await readiness.look()
        clock = "ok" if core.statistics().clock_jumped_s is None else "jumped"
        return _answer(good, {"status": "ok" if good else "not ready", "clock": clock})


class _Readiness:
    """Asks the store once for all who want to know."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = anyio.Lock()
        self._answered = False
        self._looked_at = -math.inf

    async def look(self) -> bool:
        if not self._takes_requests():
            return False
        async with self._lock:
            if anyio.current_time() - self._looked_at >= FRESH_S:
                self._answered = await self._store_answers()
                self._looked_at = anyio.current_time()
            # once more: it may have begun to stop while the store was asked
            return self._answered and self._takes_requests()

    def _takes_requests(self) -> bool:
        statistics = self._core.statistics()
        return statistics.recovered and not statistics.stopping

    async def _store_answers(self) -> bool:
        with anyio.move_on_after(LOOK_S):
            try:
                await self._core.ask(Overview(limit=1))
            except SettlementError:
                return False
            return True
        return False


def _answer(good: bool, told: dict[str, str]) -> Response:  # noqa: FBT001 - it decides the status
    body = msgspec.json.encode(told)
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(body, 200 if good else 503, headers)

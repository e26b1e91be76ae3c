"""`GET /caller` and `/proposals`: what an operator's token may do, and which decisions wait for another one."""

from __future__ import annotations

from typing import Any

from quart import Quart, request

from settlement_core.http.answering import answering
from settlement_core.http.deciding import Deciding
from settlement_core.http.gate import CALLER
from settlement_core.http.tokens import DECIDE, Token

__all__ = ["add_callers", "token_shown"]


def add_callers(app: Quart, deciding: Deciding) -> None:
    """Serve both paths."""

    @app.get("/caller")
    @answering()
    async def caller() -> Any:
        token = _caller()
        limit = None if deciding.limit is None else f"{deciding.limit:f}"
        role = DECIDE if token is None else token.role
        return {"token": token_shown(), "role": role, "four_eyes_above": limit}

    @app.get("/proposals")
    @answering()
    async def proposals() -> Any:
        return [proposal.to_json() for proposal in deciding.proposals()]


def token_shown() -> str | None:
    """Return whose token the request shows; None if tokens are not asked for."""
    token = _caller()
    return None if token is None else token.name


def _caller() -> Token | None:
    scope: Any = request.scope
    token: Token | None = scope.get(CALLER)
    return token

"""How the operator's API reads a query and answers: a handler's value as JSON, its error as one sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import wraps
from typing import Any, Final, ParamSpec

import msgspec
from quart import Response, request

from settlement_core.http.problems import BadJson
from settlement_core.http.responses import Response as Answer
from settlement_core.http.responses import problem
from settlement_core.values.errors import SettlementError

__all__ = ["MAX_PAGE", "answering", "read_flag", "read_limit", "response_of"]

P = ParamSpec("P")

MAX_PAGE: Final = 1000
"""Rows of an answer at most."""


def answering(*known: str) -> Callable[[Callable[P, Awaitable[Any]]], Callable[P, Awaitable[Response]]]:
    """Turn a handler's value, or its error, into an answer; the request may have these parameters in its query."""

    def decorate(handler: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Response]]:
        @wraps(handler)
        async def answer(*args: P.args, **kwargs: P.kwargs) -> Response:
            try:
                _refuse_unknown(known)
                content = await handler(*args, **kwargs)
            except SettlementError as error:
                return response_of(problem(error))
            if isinstance(content, Response):
                return content
            return Response(msgspec.json.encode(content), 200, {"content-type": "application/json"})

        return answer

    return decorate


def response_of(said: Answer) -> Response:
    """Return an answer as Quart has it."""
    return Response(said.body, said.status, {name.decode(): value.decode() for name, value in said.headers})


def read_limit() -> int:
    """Return how many rows the request asks for."""
    text = request.args.get("limit", "100")
    # by its length first: int() refuses a text of thousands of digits with an error of its own
    if len(text) > 4 or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise BadJson(f"limit is a number from 1 to {MAX_PAGE}")
    return int(text)


def read_flag(name: str) -> bool:
    """Return a parameter that is true or false; it is false if it is not there."""
    text = request.args.get(name, "false")
    if text not in {"true", "false"}:
        raise BadJson(f"{name} is true or false")
    return text == "true"


def _refuse_unknown(known: Collection[str]) -> None:
    # a slip such as ?sate=held would otherwise show a person everything
    unknown = [name for name in request.args if name not in known]
    if unknown:
        raise BadJson(
            f"the query's {unknown[0][:40]!r} is none of {', '.join(known) or 'the parameters, for there are none'}"
        )

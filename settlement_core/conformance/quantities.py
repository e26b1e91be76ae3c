"""Checks of what is no quantity: refused with a 4xx, so that nothing was stored and nobody tries again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from settlement_core.conformance.client import Answer
from settlement_core.conformance.findings import Advice, Level, check, demand
from settlement_core.conformance.world import ENDPOINT_S, World

__all__ = ["CHECKS"]

_AMOUNTS: Final[tuple[Any, ...]] = (
    *("-1", "+1", "1.5", "1e3", "", " 1", "1\n", "0x10", "1_0", "1,0", "NaN", "Infinity", "one"),
    *("\u0663", "\uff11", "\u00b2"),  # digits to Unicode, not to RFC 38
    *(None, True, -1, 1.5, ["1"], {"amount": "1"}),
)
_SCALES: Final[tuple[Any, ...]] = (-1, 256, 10**30, 1.5, "2", "", None, True, [2], {})
_SHAPES: Final[tuple[Any, ...]] = ({}, {"amount": "1"}, {"scale": 2}, [], ["1", 2], "1", 1, None, True)

_JUNK: Final[dict[str, bytes]] = {
    "an empty body": b"",
    "words": b"one hundred",
    "JSON that is cut off": b'{"amount":"1","sca',
    "JSON with a tail": b'{"amount":"1","scale":9}}',
    "a scale of NaN": b'{"amount":"1","scale":NaN}',
    "bytes that are not UTF-8": b'{"amount":"\xff\xfe","scale":9}',
    "an amount given twice": b'{"amount":"1","amount":"2","scale":9}',
    "arrays in arrays": b"[" * 50_000,
    "objects in objects": b'{"amount":' * 8_000,
    # no more: whoever hangs up on megabytes is right, and the answer may be lost with the connection
    "half a megabyte": b'{"amount":"1","scale":9,"note":"' + b"x" * 500_000 + b'"}',
}
_TYPES: Final = ("text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "")

_LONG_TEXT: Final = 12_000
"""Digits of an amount that is mostly zeros in front: long to read, worth one unit of the finest scale."""


@check(
    "quantities.amounts",
    Level.DEFINED,
    "Units and quantities",
    "an amount is a string of digits, nothing else",
)
async def amounts(world: World) -> str:
    """Offer amounts that are none."""
    return _demand_refused(await _offer_with(world, "amount", _AMOUNTS))


@check(
    "quantities.scales",
    Level.DEFINED,
    "Units and quantities",
    "a scale is a number from 0 to 255, nothing else",
)
async def scales(world: World) -> str:
    """Offer scales that are none."""
    return _demand_refused(await _offer_with(world, "scale", _SCALES))


@check(
    "quantities.shapes",
    Level.DEFINED,
    "Units and quantities",
    "a quantity is an object that has both",
)
async def shapes(world: World) -> str:
    """Offer JSON that is no object with both members."""
    return _demand_refused(await _offer(world, ((repr(value), json.dumps(value).encode()) for value in _SHAPES)))


@check(
    "quantities.number",
    Level.DEFINED,
    "Units and quantities",
    "an amount is no JSON number",
)
async def number(world: World) -> str:
    """Offer an amount as a JSON number, which a client's parser may already have rounded."""
    scale = world.options.asset_scale
    found = await _offer(world, [("a number", json.dumps({"amount": 1, "scale": scale}).encode())])
    return _demand_refused(found)


@check(
    "quantities.junk",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "what is no JSON, or too much, is refused",
)
async def junk(world: World) -> str:
    """Offer what is no JSON, or too much of it."""
    return _demand_refused(await _offer(world, _JUNK.items()))


@check(
    "quantities.types",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "what is not sent as JSON is refused",
)
async def types(world: World) -> str:
    """Offer a quantity as something else than JSON, as a web page could without being asked."""
    account_id = await world.account("junk")
    body = json.dumps({"amount": "1", "scale": world.options.asset_scale}).encode()
    return _demand_refused(
        {kind or "no content type": await world.try_body(account_id, body, content_type=kind) for kind in _TYPES}
    )


@check(
    "quantities.zero",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "an amount of zero is answered, not failed on",
)
async def zero(world: World) -> str:
    """Ask for nothing."""
    answer = await world.settle(await world.account("junk"), "0")
    demand(not answer.fails, f"answered {answer}")
    return f"answered {answer}"


@check(
    "quantities.long-text",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "an amount of thousands of digits is answered",
)
async def long_text(world: World) -> str:
    """Ask for one unit, written with thousands of zeros in front."""
    answer = await world.settle(await world.account("zeros"), "0" * (_LONG_TEXT - 1) + "1")
    demand(not answer.fails, f"answered {answer}")
    demand(answer.took_s < ENDPOINT_S, f"answered only after {answer.took_s:.1f} s")
    return f"answered {answer}"


async def _offer_with(world: World, key: str, values: tuple[Any, ...]) -> dict[str, Answer]:
    """Offer quantities of which one member is none."""
    good = {"amount": "1", "scale": world.options.asset_scale}
    return await _offer(world, ((f"{key} {value!r:.20}", json.dumps(good | {key: value}).encode()) for value in values))


async def _offer(world: World, bodies: Iterable[tuple[str, bytes]]) -> dict[str, Answer]:
    account_id = await world.account("junk")
    return {what: await world.try_body(account_id, body) for what, body in bodies}


def _demand_refused(answers: dict[str, Answer]) -> str:
    taken = [f"{what} ({answer.status})" for what, answer in answers.items() if not answer.refuses and not answer.fails]
    failed = [f"{what} with {answer}" for what, answer in answers.items() if answer.fails]
    demand(not taken, f"took {', '.join(taken)}")
    if failed:
        raise Advice(f"failed on {', '.join(failed)}; a 5xx asks clients to try again")
    return f"refused all {len(answers)}"


CHECKS = (amounts, number, scales, shapes, junk, types, zero, long_text)

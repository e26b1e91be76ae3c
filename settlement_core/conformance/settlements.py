"""Checks of outgoing settlements: accepting them, exactly, and settling all of them in the end."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import anyio

from settlement_core.conformance.client import JSON, Answer
from settlement_core.conformance.connector import Reaction
from settlement_core.conformance.findings import Advice, Level, NotObserved, check, demand
from settlement_core.conformance.world import ENDPOINT_S, QUIET_S, World
from settlement_core.values.amounts import floor

__all__ = ["ALIVE", "CHECKS", "SYMMETRY"]

_AT_ONCE: Final = 100

_LONG_AMOUNTS: Final = (2**53 + 1, 2**64 + 1, 10**40 + 7)
"""What doubles, 64-bit integers and most others cannot hold; the scale makes each of them worth next to nothing."""

_LONG_SCALE: Final = 60

_FORMS: Final = (
    {"accept": "*/*"},
    {"accept": "text/html, application/xml;q=0.9"},
    {"content-type": "application/json; charset=utf-8"},
    {"content-type": "Application/JSON"},
)


@check(
    "settlements.accepted",
    Level.DEFINED,
    "Perform outgoing settlement",
    "POST /accounts/:id/settlements is accepted with 201",
)
async def accepted(world: World) -> str:
    """Ask for one settlement."""
    answer = await world.settle(await world.account("settling"))
    demand(answer.ok, f"answered {answer}")
    if answer.status != 201:
        raise Advice(f"answered {answer}; RFC 38 defines 201, connectors take any 2xx")
    return f"answered {answer}"


@check(
    "settlements.echo",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "it answers the quantity as it was sent, as JSON, which Java and Rafiki need",
)
async def echo(world: World) -> str:
    """Read the answer to a settlement, as Java and the later Rafiki do."""
    account_id = await world.account("settling")
    answer = await world.settle(account_id, amount="3")
    _demand_echo(answer, "3", world.options.asset_scale)
    return f"answered {answer}"


@check(
    "settlements.prompt",
    Level.EXPECTED,
    "Perform outgoing settlement",
    f"{_AT_ONCE} at once are accepted, each in under {ENDPOINT_S:g} s",
)
async def prompt(world: World) -> str:
    """Ask for a hundred settlements at once, and see whether each is accepted before Interledger.rs gives up."""
    account_id = await world.account("parallel")
    answers: list[Answer] = []

    async def ask() -> None:
        answers.append(await world.settle(account_id))

    async with anyio.create_task_group() as tasks:
        for _ in range(_AT_ONCE):
            tasks.start_soon(ask)
    others = [answer for answer in answers if not answer.ok]
    demand(not others, f"{len(others)} of {_AT_ONCE} were not accepted, one with {others[0] if others else ''}")
    slowest_s = max(answer.took_s for answer in answers)
    demand(slowest_s < ENDPOINT_S, f"the slowest of {_AT_ONCE} took {slowest_s:.1f} s")
    return f"all {_AT_ONCE} were accepted within {ENDPOINT_S:g} s"


@check(
    "settlements.digits",
    Level.DEFINED,
    "Units and quantities",
    "amounts are exact however many digits they have",
)
async def digits(world: World) -> str:
    """Ask for amounts that machine numbers cannot hold."""
    account_id = await world.account("long")
    for amount in _LONG_AMOUNTS:
        answer = await world.settle(account_id, str(amount), _LONG_SCALE)
        if answer.refuses:
            raise Advice(f"{amount} at scale {_LONG_SCALE} was refused: {answer}")
        demand(answer.ok, f"{amount} at scale {_LONG_SCALE} was answered {answer}")
        if isinstance(answer.json(), dict):
            _demand_echo(answer, str(amount), _LONG_SCALE)
    return f"took {', '.join(str(len(str(amount))) for amount in _LONG_AMOUNTS)} digits"


@check(
    "settlements.scales",
    Level.DEFINED,
    "Units and quantities",
    "scales from 0 to 255 are taken",
)
async def scales(world: World) -> str:
    """Ask at the coarsest and at the finest scale there is."""
    account_id = await world.account("scales")
    for scale in (0, 255):
        answer = await world.settle(account_id, scale=scale)
        demand(answer.ok, f"1 at scale {scale} was answered {answer}")
        if isinstance(answer.json(), dict):
            _demand_echo(answer, "1", scale)
    return "took 1 at scale 0 and at scale 255"


@check(
    "settlements.forms",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "any Accept and a charset are taken",
)
async def forms(world: World) -> str:
    """Ask with the headers that clients send."""
    account_id = await world.account("forms")
    for headers in _FORMS:
        answer = await world.settle(account_id, headers=headers)
        demand(answer.ok, f"with {headers} it was answered {answer}")
    return f"took {len(_FORMS)} other forms"


@check(
    "settlements.slashes",
    Level.EXPECTED,
    "Perform outgoing settlement",
    "extra slashes in a path are forgiven",
)
async def slashes(world: World) -> str:
    """Ask at paths that connectors make of a base URL that ends with a slash."""
    account_id = await world.account("slashes")
    for path in (f"//accounts/{account_id}/settlements", f"/accounts/{account_id}/settlements/"):
        answer = await world.settle(account_id, path=path)
        demand(answer.ok, f"{path} was answered {answer}")
    return "a doubled and a trailing slash make no difference"


@check(
    "settlements.dust",
    Level.MUST,
    "Scale conversions",
    "what is too fine to settle adds up",
)
async def dust(world: World) -> str:
    """Ask ten times for a tenth of the finest unit."""
    world.require_return()
    account_id = await world.account("dust")
    scale = world.options.asset_scale
    for _ in range(10):
        answer = await world.settle(account_id, "1", scale + 1)
        if not answer.ok:
            raise NotObserved(f"1 at scale {scale + 1} was answered {answer}")
    unit = Decimal(1).scaleb(-scale)
    came = await world.connector.wait_until(
        lambda: world.connector.credited(account_id) >= unit, world.options.patience_s
    )
    found = world.connector.credited(account_id)
    demand(came or found > 0, f"ten tenths of 10^-{scale} were accepted, and nothing of them arrived")
    demand(came, f"of ten tenths of 10^-{scale}, {found:f} arrived")
    return f"ten tenths of 10^-{scale} arrived as {found:f}"


@check(
    "settlements.failed",
    Level.MUST,
    "Retrying failed settlements",
    "a settlement that failed is remembered, tried again, and never refunded",
)
async def failed(_world: World) -> str:
    """Say what cannot be seen from here."""
    raise NotObserved("not checkable here: only its ledger can make a payment fail")


@check(
    "settlements.symmetry",
    Level.MUST,
    "Settlement symmetry",
    "in the end exactly what was asked for was settled",
)
async def symmetry(world: World) -> str:
    """Compare what was accepted with what came back, for every account whose credits were never disturbed."""
    world.require_return()
    connector, scale = world.connector, world.options.asset_scale
    accounts = [
        name
        for name in world.accepted
        if name not in world.deleted and all(c.reaction is Reaction.TAKE for c in connector.credits_of(name))
    ]

    def missing() -> list[str]:
        return [name for name in accounts if connector.credited(name) < floor(world.expected(name), scale)]

    await connector.wait_until(lambda: not missing(), world.options.patience_s)
    await anyio.sleep(QUIET_S)
    too_much = [name for name in accounts if connector.credited(name) > world.expected(name)]
    told = [f"{n}: {world.expected(n):f} asked, {connector.credited(n):f} arrived" for n in (*too_much, *missing())]
    demand(not too_much, f"more arrived than was asked for; {'; '.join(told)}")
    demand(not told, f"not everything arrived within {world.options.patience_s:g} s; {'; '.join(told)}")
    keys = sum(len(world.accepted[name]) for name in accounts)
    return f"{keys} settlements of {len(accounts)} accounts arrived exactly"


@check(
    "settlements.alive",
    Level.DEFINED,
    "Perform outgoing settlement",
    "after all this the engine still takes a settlement",
)
async def alive(world: World) -> str:
    """Ask for one more settlement after everything else."""
    answer = await world.settle(await world.account("last"))
    demand(answer.ok, f"answered {answer}")
    return f"answered {answer}"


def _demand_echo(answer: Answer, amount: str, scale: int) -> None:
    content = answer.json()
    same = isinstance(content, dict) and content.get("amount") == amount and content.get("scale") == scale
    demand(answer.ok and same, f"{amount} at scale {scale} was answered {answer}")
    demand(answer.media_type == JSON, f"answered {answer} as {answer.media_type or 'no content type'}")


CHECKS = (accepted, echo, prompt, digits, scales, forms, slashes, failed, dust)

SYMMETRY = symmetry
"""Looked at last, when everything has had its time."""

ALIVE = alive
"""The very last."""

"""Checks of idempotency: one key is one settlement and one answer, whatever happens in between."""

from __future__ import annotations

import json
from typing import Final

import anyio

from settlement_core.conformance.client import JSON, Answer
from settlement_core.conformance.findings import Advice, Deviation, Level, NotObserved, check, demand
from settlement_core.conformance.world import World, new_key

__all__ = ["CHECKS", "RESTART"]

_AT_ONCE: Final = 20
_IN_BETWEEN: Final = 20

_KEYS: Final = ("a:b", "with space", "k" * 255, "#1/2?3&4=%25", "{}", "5")
"""What other clients may make of "globally unique": any of it fits in a header."""


@check(
    "idempotency.replays",
    Level.MUST,
    "Handling idempotent requests",
    "the same key gets the same answer",
)
async def replays(world: World) -> str:
    """Send one request five times, one after the other."""
    account_id, key = await world.account("replays"), new_key()
    answers = [await world.settle(account_id, key=key) for _ in range(5)]
    return _demand_same(answers)


@check(
    "idempotency.parallel",
    Level.MUST,
    "Handling idempotent requests",
    "so it does if it comes at the same time",
)
async def parallel(world: World) -> str:
    """Send one request twenty times at once."""
    account_id, key = await world.account("replays"), new_key()
    answers: list[Answer] = []

    async def ask() -> None:
        answers.append(await world.settle(account_id, key=key))

    async with anyio.create_task_group() as tasks:
        for _ in range(_AT_ONCE):
            tasks.start_soon(ask)
    return _demand_same(answers)


@check(
    "idempotency.later",
    Level.MUST,
    "Handling idempotent requests",
    "so it does after other requests",
)
async def later(world: World) -> str:
    """Send twenty others, another amount under the first one's key, and then the first again."""
    account_id, key = await world.account("replays"), new_key()
    first = await world.settle(account_id, "2", key=key)
    for _ in range(_IN_BETWEEN):
        await world.settle(account_id)
    # before the first again, which would only remind an engine that forgot
    found = _demand_bound(first, await world.settle(account_id, "3", key=key))
    return f"{_demand_same([first, await world.settle(account_id, '2', key=key)])}; {found}"


@check(
    "idempotency.other-amount",
    Level.MUST,
    "Handling idempotent requests",
    "a key is never taken for a second, other settlement",
)
async def other_amount(world: World) -> str:
    """Use a key a second time, for another amount, and then for the first again."""
    account_id, key = await world.account("reused"), new_key()
    first = await _accepted(world, account_id, key)
    found = _demand_bound(first, await world.settle(account_id, "2", key=key))
    again = await world.settle(account_id, key=key)
    demand(_same(again, first), f"afterwards the first request was answered {again}, at first {first}")
    return found


@check(
    "idempotency.missing",
    Level.EXPECTED,
    "Performing idempotent requests",
    "a request without a key is refused",
)
async def missing(world: World) -> str:
    """Send no key at all."""
    account_id = await world.account("keyless")
    body = json.dumps({"amount": "1", "scale": world.options.asset_scale}).encode()
    headers = {"content-type": JSON, "accept": JSON}
    answer = await world.client.send("POST", f"/accounts/{account_id}/settlements", body, headers)
    if answer.ok:
        raise Advice(f"took it ({answer.status}), so a client that repeats it pays twice")
    demand(answer.refuses, f"answered {answer}")
    return f"refused it with {answer.status}"


@check(
    "idempotency.any-key",
    Level.EXPECTED,
    "Performing idempotent requests",
    "a key is any text that fits in a header",
)
async def any_key(world: World) -> str:
    """Use keys that are no UUIDs."""
    account_id = await world.account("keys")
    others = []
    for key in _KEYS:
        answer = await world.settle(account_id, key=key)
        if not answer.ok:
            others.append(f"{key[:20]!r} was answered {answer}")
    demand(not others, "; ".join(others))
    return f"took {len(_KEYS)} other keys"


@check(
    "idempotency.restart",
    Level.MUST,
    "Handling idempotent requests",
    "keys and answers are persisted: they outlive a restart",
)
async def restart(world: World) -> str:
    """Restart the engine; send another amount under the same key, and then the same request again."""
    world.require_restart()
    account_id, key = await world.account("restarted"), new_key()
    first = await _accepted(world, account_id, key)
    await world.restart()
    found = _demand_bound(first, await world.settle(account_id, "2", key=key))
    again = await world.settle(account_id, key=key)
    demand(_same(again, first), f"after the restart it was answered {again}, before {first}")
    return f"after the restart the same answer; {found}"


@check(
    "idempotency.kept",
    Level.MUST,
    "Handling idempotent requests",
    "keys are kept 24 h from their most recent use",
)
async def kept(_world: World) -> str:
    """Say what cannot be seen from here."""
    raise NotObserved("not checkable here: it would take more than a day")


async def _accepted(world: World, account_id: str, key: str) -> Answer:
    answer = await world.settle(account_id, key=key)
    if not answer.ok:
        raise NotObserved(f"a settlement was answered {answer}")
    return answer


def _same(answer: Answer, first: Answer) -> bool:
    if answer.status != first.status:
        return False
    return answer.body == first.body or (answer.json() is not None and answer.json() == first.json())


def _demand_same(answers: list[Answer]) -> str:
    first = answers[0]
    demand(first.ok, f"answered {first}")
    others = [answer for answer in answers if not _same(answer, first)]
    demand(not others, f"answered {first} and also {others[0] if others else ''}")
    return f"{len(answers)} times {first}"


def _demand_bound(first: Answer, other: Answer) -> str:
    """Return how a key used for another amount was answered, unless it settled that too."""
    if other.ok:
        if _same(other, first):
            return "another amount under the key gets the first answer"
        raise Deviation(f"another amount under the key was accepted: {other}")
    if other.fails:
        raise Advice(f"another amount under the key was answered {other}")
    custom = "" if other.status == 409 else "; 409 is customary"
    return f"another amount under the key is refused with {other.status}{custom}"


CHECKS = (replays, parallel, later, other_amount, missing, any_key, kept)

RESTART = restart
"""Restarts the engine."""

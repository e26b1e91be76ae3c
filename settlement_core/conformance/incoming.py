"""Checks of incoming settlements: what the engine tells its connector, and how it repeats it.

They need an engine whose payments come back to it, or one that is paid while the suite runs. An engine may take an
hour between two tries, so a repetition that does not come in time is never a breach; a credit that comes back under
another key, or merged into another, is.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Final

from settlement_core.conformance.client import JSON
from settlement_core.conformance.connector import Reaction, Received
from settlement_core.conformance.findings import Deviation, Level, NotObserved, check, demand
from settlement_core.conformance.world import QUIET_S, World
from settlement_core.values.amounts import subtract

__all__ = ["CHECKS", "RESTART", "SEEN"]

_FAILURES: Final = 3


@check(
    "credits.after-errors",
    Level.MUST,
    "Retry behavior",
    "a credit answered 500 is sent again, with the same key and amount",
)
async def after_errors(world: World) -> str:
    """Answer a credit with 500 a few times."""
    account_id = await _disturbed(world, "failing", [Reaction.FAIL] * _FAILURES)
    credits_ = await _repetition(world, account_id, _FAILURES + 1)
    gaps = ", ".join(f"{later.at - earlier.at:.1f}" for earlier, later in pairwise(credits_))
    return f"the same key and amount came again, after {gaps} s"


@check(
    "credits.after-a-lost-answer",
    Level.MUST,
    "Retry behavior",
    "so it is if the answer is lost",
)
async def after_a_lost_answer(world: World) -> str:
    """Book a credit, and close the connection without an answer."""
    account_id = await _disturbed(world, "lost", [Reaction.LOSE])
    await _repetition(world, account_id, 2)
    return "the same key and amount came again"


@check(
    "credits.after-a-restart",
    Level.MUST,
    "Retry behavior",
    "an unacknowledged credit outlives a restart, with its key and amount",
)
async def after_a_restart(world: World) -> str:
    """Fail a credit until the engine was restarted."""
    world.require_restart()
    account_id = await _disturbed(world, "resumed", [], lasting=Reaction.FAIL)
    await world.restart()
    world.connector.lasting.pop(account_id)
    seen = len(world.connector.credits_of(account_id))
    await _repetition(world, account_id, seen + 1)
    return "the same key and amount came again"


@check(
    "credits.plain-answer",
    Level.MUST,
    "Settlement symmetry",
    "a credit acknowledged without a quantity is not credited again",
)
async def plain_answer(world: World) -> str:
    """Acknowledge a credit by 201 with no quantity in the answer, and settle twice more."""
    account_id = await _disturbed(world, "plain", [Reaction.TAKE_PLAINLY])
    connector = world.connector

    def surplus() -> Decimal:
        return subtract(connector.credited(account_id), world.expected(account_id))

    for _ in range(2):
        await world.settle(account_id)
        if not await connector.wait_until(lambda: surplus() >= 0, world.options.patience_s):
            raise NotObserved(f"within {world.options.patience_s:g} s no further credit came")
    await connector.wait_until(lambda: surplus() > 0, QUIET_S)
    demand(surplus() == 0, f"{surplus():f} more was credited than was settled: it was credited again")
    return "it was not credited again"


@check(
    "credits.pace",
    Level.MUST,
    "Retry behavior",
    "tries are at most an hour apart, and go on for ever",
)
async def pace(_world: World) -> str:
    """Say what cannot be seen from here."""
    raise NotObserved("not checkable here: an hour between two tries takes hours to see")


@check(
    "credits.keys",
    Level.MUST,
    "Performing idempotent requests",
    "every credit has an Idempotency-Key of its own",
)
async def keys(world: World) -> str:
    """Look at the keys of all credits."""
    seen = await _seen(world)
    missing = sum(not credit.key for credit in seen)
    demand(not missing, f"{missing} of {len(seen)} credits had no key")
    uses: dict[str, set[tuple[str, Decimal]]] = {}
    for credit in seen:
        if credit.quantity is not None:
            uses.setdefault(credit.key, set()).add((credit.account_id, credit.quantity.to_amount()))
    shared = [key for key, found in uses.items() if len(found) > 1]
    demand(not shared, f"key {shared[0] if shared else ''} was used for several credits")
    return f"{len(uses)} credits in {len(seen)} requests, each with a key of its own"


@check(
    "credits.quantities",
    Level.DEFINED,
    "Units and quantities",
    "every credit is a quantity, as JSON",
)
async def quantities(world: World) -> str:
    """Look at the bodies of all credits."""
    seen = await _seen(world)
    bad = [credit.body[:60] for credit in seen if credit.quantity is None]
    demand(not bad, f"{len(bad)} of {len(seen)} held no quantity: {bad[0]!r}" if bad else "")
    others = {credit.media_type or "no content type" for credit in seen if credit.media_type != JSON}
    demand(not others, f"sent as {', '.join(sorted(others))}")
    return f"{len(seen)} requests, each with a quantity as JSON"


async def _disturbed(world: World, purpose: str, first: list[Reaction], *, lasting: Reaction = Reaction.TAKE) -> str:
    """Have a settlement come back to an account whose credits are disturbed; return the account once one came."""
    world.require_return()
    account_id = await world.account(purpose)
    world.connector.reactions[account_id].extend(first)
    world.connector.lasting[account_id] = lasting
    answer = await world.settle(account_id)
    if not answer.ok:
        raise NotObserved(f"a settlement was answered {answer}")
    if not await _came(world, account_id, 1):
        raise NotObserved(f"within {world.options.patience_s:g} s it did not come back as a credit")
    return account_id


async def _repetition(world: World, account_id: str, count: int) -> list[Received]:
    """Return the account's credits once so many came; raise if they do not, or are not all the same."""
    first = world.connector.credits_of(account_id)[0]
    came = await _came(world, account_id, count)
    if not came:
        # whoever merges it into the next credit, under the next key, does so now
        await world.settle(account_id, "5")
        await _came(world, account_id, len(world.connector.credits_of(account_id)) + 1)
    found = world.connector.credits_of(account_id)
    asked = sorted(world.accepted[account_id].values())
    for credit in found:
        if credit.quantity is None:
            continue
        amount = credit.quantity.to_amount()
        if credit.key == first.key:
            same = first.quantity is not None and amount == first.quantity.to_amount()
            demand(same, f"key {first.key} came again for {amount:f}")
        elif amount not in asked[1:]:
            raise Deviation(f"not acknowledged, it came back under another key, in a credit of {amount:f}")
    if not came:
        raise NotObserved(f"it did not come again within {world.options.patience_s:g} s")
    return found


async def _came(world: World, account_id: str, count: int) -> bool:
    connector = world.connector
    return await connector.wait_until(lambda: len(connector.credits_of(account_id)) >= count, world.options.patience_s)


async def _seen(world: World) -> list[Received]:
    connector = world.connector
    if world.options.pays_itself and world.accepted:
        await connector.wait_until(lambda: bool(connector.credits_), world.options.patience_s)
    if not connector.credits_:
        raise NotObserved("no credit came; pay the engine meanwhile, or use one whose payments come back to it")
    return connector.credits_


CHECKS = (after_errors, after_a_lost_answer, plain_answer, pace)

RESTART = after_a_restart
"""Restarts the engine."""

SEEN = (keys, quantities)
"""Looked at last, when everything has had its time."""

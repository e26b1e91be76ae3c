"""Checks of accounts: opening, naming and deleting them (RFC 38, "Setup an account", "Delete an account")."""

from __future__ import annotations

import re
from typing import Any, Final

from settlement_core.conformance.client import JSON
from settlement_core.conformance.findings import Advice, Deviation, Level, NotObserved, check, demand
from settlement_core.conformance.world import World, new_key

__all__ = ["CHECKS"]

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")

_SHORT: Final = 64
"""Characters the Java connector has room for."""

_NO_URL_TEXT: Final = ("a/b", "a b", "ä", "a?b", "a%2Fb", "/..", "\n", "a:b")
"""None of them is URL-safe; what stands for something else in a path may reach another account."""

_NO_TEXT: Final[tuple[Any, ...]] = ({"no": "id"}, ["alice"], 5, True)


@check(
    "accounts.create",
    Level.DEFINED,
    "Setup an account",
    "POST /accounts opens an account with 201",
)
async def create(world: World) -> str:
    """Open an account."""
    answer = await world.create({"id": world.name("created")})
    demand(answer.ok, f"answered {answer}")
    if answer.status != 201:
        raise Advice(f"answered {answer}; RFC 38 defines 201, connectors take any 2xx")
    return f"answered {answer}"


@check(
    "accounts.create-body",
    Level.EXPECTED,
    "Setup an account",
    f'it answers {{"id": …}} as {JSON}, which Java needs',
)
async def create_body(world: World) -> str:
    """Open an account and read the answer, as the Java connector does."""
    account_id = world.name("described")
    answer = await world.create({"id": account_id})
    content = answer.json()
    demand(answer.ok and isinstance(content, dict) and content.get("id") == account_id, f"answered {answer}")
    demand(answer.media_type == JSON, f"answered {answer} as {answer.media_type or 'no content type'}")
    return f"answered {answer}"


@check(
    "accounts.create-again",
    Level.EXPECTED,
    "Setup an account",
    "opening an open account again is harmless",
)
async def create_again(world: World) -> str:
    """Open an account that is open, as every connector does at some time."""
    account_id = await world.account("again")
    answer = await world.create({"id": account_id})
    demand(answer.ok, f"the second request was answered {answer}")
    settled = await world.settle(account_id)
    demand(settled.ok, f"a settlement afterwards was answered {settled}")
    return f"the second request was answered {answer}"


@check(
    "accounts.create-unnamed",
    Level.EXPECTED,
    "Setup an account",
    "without an id the engine makes one",
)
async def create_unnamed(world: World) -> str:
    """Leave the id to the engine."""
    answer = await world.create({"id": None})
    content = answer.json()
    given = content.get("id") if isinstance(content, dict) else None
    if not answer.ok or not isinstance(given, str):
        raise Deviation(f"answered {answer}")
    demand(_UNRESERVED.fullmatch(given), f"made the id {given!r}, which is not URL-safe")
    demand(len(given) < _SHORT, f"made an id of {len(given)} characters; the Java connector has room for {_SHORT - 1}")
    settled = await world.settle(given)
    demand(settled.ok, f"made the id {given}, and answered a settlement with {settled}")
    return f"made the id {given}"


@check(
    "accounts.create-charset",
    Level.EXPECTED,
    "Setup an account",
    "a content type may name its charset",
)
async def create_as_java(world: World) -> str:
    """Send the content type with a charset."""
    answer = await world.create({"id": world.name("charset")}, content_type="application/json; charset=utf-8")
    demand(answer.ok, f"answered {answer}")
    return f"answered {answer}"


@check(
    "accounts.unreserved-ids",
    Level.MUST,
    "Accounts and identifiers",
    "an id is any string of URL-safe characters",
)
async def unreserved_ids(world: World) -> str:
    """Use every kind of unreserved character."""
    account_id = world.name("Az09-._~")
    opened = await world.create({"id": account_id})
    demand(opened.ok, f"opening account {account_id} was answered {opened}")
    answer = await world.settle(account_id)
    demand(answer.ok, f"a settlement with account {account_id} was answered {answer}")
    return f"account {account_id} settles"


@check(
    "accounts.identities",
    Level.MUST,
    "Accounts and identifiers",
    "who the peer is on the ledger is the engine's to know: an id is enough",
)
async def nothing_else(world: World) -> str:
    """Settle with an account of which the connector knows an id and nothing of the ledger."""
    account_id = await world.account("plain-id")
    answer = await world.settle(account_id)
    demand(answer.ok, f"a settlement with an account opened by its id alone was answered {answer}")
    return "an id was all it needed"


@check(
    "accounts.encoded-ids",
    Level.EXPECTED,
    "Accounts and identifiers",
    "a percent-encoded id means the same account",
)
async def encoded_ids(world: World) -> str:
    """Percent-encode what need not be: by RFC 3986 the same path."""
    account_id = await world.account("encoded")
    encoded = account_id.replace("e", "%65").replace("-", "%2D")
    answer = await world.settle(account_id, path=f"/accounts/{encoded}/settlements")
    demand(answer.ok, f"{encoded} was answered {answer}")
    return "means the same account"


@check(
    "accounts.bad-ids",
    Level.EXPECTED,
    "Accounts and identifiers",
    "an id that is no URL-safe string is refused",
)
async def bad_ids(world: World) -> str:
    """Offer ids that are not one URL-safe string."""
    taken, failed = [], []
    for bad in (*_NO_URL_TEXT, *_NO_TEXT):
        # never without our prefix: somebody may have an account of that name
        answer = await world.create({"id": world.name(bad) if isinstance(bad, str) else bad})
        if answer.fails:
            failed.append(f"{bad!r} with {answer}")
        elif answer.ok:
            taken.append(repr(bad))
    demand(not failed, f"answered {'; '.join(failed)}")
    demand(not taken, f"took {', '.join(taken)}")
    return "refused every one"


@check(
    "accounts.unknown",
    Level.EXPECTED,
    "Accounts and identifiers",
    "an unknown account is 404",
)
async def unknown(world: World) -> str:
    """Use an account that was never opened, in all three ways."""
    nobody = world.name("nobody")
    answers = {
        "a settlement": await world.settle(nobody),
        "a message": await world.tell(nobody, b"{}"),
        "a deletion": await world.delete(nobody),
    }
    others = [f"{what} was answered {answer}" for what, answer in answers.items() if answer.status != 404]
    demand(not others, "; ".join(others))
    return "answered 404 each time"


@check(
    "accounts.delete",
    Level.DEFINED,
    "Delete an account",
    "DELETE /accounts/:id answers 204",
)
async def delete(world: World) -> str:
    """Delete an account."""
    account_id = await world.account("deleted")
    answer = await world.delete(account_id)
    demand(answer.ok, f"answered {answer}")
    if answer.status != 204:
        raise Advice(f"answered {answer}; RFC 38 defines 204")
    refused = await world.settle(account_id)
    if not refused.refuses:
        raise Advice(f"answered 204, and a settlement with the deleted account was answered {refused}")
    return f"answered 204, and a settlement afterwards with {refused.status}"


@check(
    "accounts.delete-again",
    Level.EXPECTED,
    "Delete an account",
    "a second DELETE is harmless",
)
async def delete_again(world: World) -> str:
    """Delete an account twice."""
    account_id = await world.account("gone")
    first = await world.delete(account_id)
    if not first.ok:
        raise NotObserved(f"the first deletion was answered {first}")
    answer = await world.delete(account_id)
    demand(answer.ok or answer.status == 404, f"the second deletion was answered {answer}")
    return f"the second deletion was answered {answer.status}"


@check(
    "accounts.recreate",
    Level.EXPECTED,
    "Delete an account",
    "a deleted account that returns keeps its keys",
)
async def recreate(world: World) -> str:
    """Delete an account, as 2019's Rafiki does at every shutdown, and open it again with a key used before."""
    account_id, key = await world.account("returning"), new_key()
    asked = await world.settle(account_id, key=key)
    if not asked.ok:
        raise NotObserved(f"a settlement was answered {asked}")
    await world.delete(account_id)
    answer = await world.create({"id": account_id})
    demand(answer.ok, f"opening it again was answered {answer}")
    again = await world.settle(account_id, amount="2", key=key)
    if again.ok and again.json() != asked.json():
        raise Deviation("the key of a settlement asked for before the deletion was forgotten: it settles again")
    fresh = await world.settle(account_id)
    demand(fresh.ok, f"a settlement with the account opened again was answered {fresh}")
    return "it settles again, and its keys are remembered"


CHECKS = (
    create,
    create_body,
    create_again,
    create_unnamed,
    create_as_java,
    unreserved_ids,
    nothing_else,
    encoded_ids,
    bad_ids,
    unknown,
    delete,
    delete_again,
    recreate,
)

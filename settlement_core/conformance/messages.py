"""Checks of messages: raw bytes both ways, and an answer in time whatever they hold."""

from __future__ import annotations

from typing import Final

from settlement_core.conformance.client import OCTETS
from settlement_core.conformance.findings import Advice, Deviation, Level, NotObserved, check, demand
from settlement_core.conformance.world import ENDPOINT_S, World

__all__ = ["CHECKS", "OUTGOING"]

_PROBES: Final = (b"{}", b"null")
"""What an engine may happen to answer, if nobody told us a message it understands."""

_GARBAGE: Final[dict[str, bytes]] = {
    "nothing": b"",
    "random bytes": bytes(range(256)) * 4,
    "half of a JSON text": b'{"type":"paymentDe',
    "arrays in arrays": b"[" * 30_000,
    "a number of 4,000 digits": b"9" * 4_000,
    "a string with a lone surrogate": b'"\\ud800"',
}

_LARGEST: Final = 32_767
"""Bytes that fit into one ILP packet."""


@check(
    "messages.answered",
    Level.DEFINED,
    "Handle incoming message",
    "POST /accounts/:id/messages answers 201 with raw bytes",
)
async def answered(world: World) -> str:
    """Hand over a message the engine understands."""
    account_id = await world.account("messages")
    message = world.options.message
    tried = (message,) if message is not None else _PROBES
    for content in tried:
        answer = await world.tell(account_id, content)
        if answer.ok:
            shown = answer.media_type or "no content type"
            demand(answer.media_type == OCTETS, f"answered {answer} as {shown}")
            if answer.status != 201:
                raise Advice(f"answered {answer}; RFC 38 defines 201, connectors take any 2xx")
            return f"answered {answer.status} with {len(answer.body)} bytes"
    if message is not None:
        raise Deviation(f"answered {answer}")
    raise NotObserved(f"answered {answer}; --message gives one that the engine understands")


@check(
    "messages.garbage",
    Level.EXPECTED,
    "Handle incoming message",
    f"garbage is answered in under {ENDPOINT_S:g} s",
)
async def garbage(world: World) -> str:
    """Hand over what no engine understands."""
    account_id = await world.account("messages")
    statuses = set()
    for what, message in _GARBAGE.items():
        answer = await world.tell(account_id, message)
        demand(answer.status, f"{what}: {answer}")
        demand(answer.took_s < ENDPOINT_S, f"{what}: answered only after {answer.took_s:.1f} s")
        statuses.add(answer.status)
    return f"each was answered in under {ENDPOINT_S:g} s, with {', '.join(map(str, sorted(statuses)))}"


@check(
    "messages.largest",
    Level.EXPECTED,
    "Handle incoming message",
    f"a message may have {_LARGEST} bytes",
)
async def largest(world: World) -> str:
    """Hand over a JSON text that just fits into a packet."""
    answer = await world.tell(await world.account("messages"), b'"' + b"m" * (_LARGEST - 2) + b'"')
    demand(answer.status not in {0, 413}, f"answered {answer}")
    demand(answer.took_s < ENDPOINT_S, f"answered only after {answer.took_s:.1f} s")
    return f"not refused for its size: answered {answer}"


@check(
    "messages.other-type",
    Level.EXPECTED,
    "Handle incoming message",
    f"what is not {OCTETS} is no failure",
)
async def other_type(world: World) -> str:
    """Hand over a message as text."""
    answer = await world.tell(await world.account("messages"), world.options.message or b"{}", content_type="text/html")
    demand(not answer.fails, f"answered {answer}")
    return f"answered {answer}"


@check(
    "messages.outgoing",
    Level.SHOULD,
    "Exchanging messages",
    f"its own messages go through the connector, as {OCTETS}",
)
async def outgoing(world: World) -> str:
    """Look at the messages the engine sent to its peers in all this time."""
    sent = world.connector.messages
    if not sent:
        raise NotObserved("the engine sent none")
    others = {message.media_type or "no content type" for message in sent if message.media_type != OCTETS}
    demand(not others, f"sent as {', '.join(sorted(others))}")
    strangers = {message.account_id for message in sent} - set(world.opened)
    known = [name for name in strangers if name.startswith(world.prefix)]
    demand(not known, f"sent for accounts that were never opened: {', '.join(known)}")
    return f"{len(sent)} were sent, as {OCTETS}"


CHECKS = (answered, garbage, largest, other_type)

OUTGOING = outgoing
"""Looked at last, when everything has had its time."""

"""The connector the engine under test talks to: takes its credits and messages, and remembers all it was shown.

It books a key once, as RFC 38 asks of a connector, and can be told to fail, or to lose its answer, on purpose.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from urllib.parse import unquote

import anyio

from settlement_core.conformance.client import JSON
from settlement_core.values.amounts import Quantity, total
from settlement_core.values.errors import InvalidQuantity
from settlement_core.values.json_text import decode_json

__all__ = ["Connector", "Reaction", "Received", "Reply"]


class Reaction(Enum):
    """What the connector makes of a credit."""

    TAKE = "books it and answers 201 with the quantity"
    TAKE_PLAINLY = "books it and answers 201 without a quantity, as Interledger.rs does"
    FAIL = "answers 500"
    LOSE = "books it, and closes the connection without an answer"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back; None for `status` closes the connection."""

    status: int | None
    body: bytes = b""
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Received:
    """A credit the engine asked for, or a message it sent.

    Attributes:
        quantity: what a credit is for, None if its body says nothing of the kind.
        reaction: what was made of a credit.
        at: the loop's clock in seconds.
    """

    method: str
    account_id: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    quantity: Quantity | None = None
    reaction: Reaction = Reaction.TAKE

    @property
    def key(self) -> str:
        """Return the idempotency key, or an empty string."""
        return self.headers.get("idempotency-key", "")

    @property
    def media_type(self) -> str:
        """Return the content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Connector:
    """An accounting system with books by account and key.

    Attributes:
        credits_: every credit the engine asked for, in order.
        messages: every message it sent.
        reactions: what becomes of an account's next credits; those after them are taken.
        lasting: what becomes of an account's credits as long as nothing else is said.
    """

    credits_: list[Received] = field(default_factory=list)
    messages: list[Received] = field(default_factory=list)
    reactions: defaultdict[str, deque[Reaction]] = field(default_factory=lambda: defaultdict(deque))
    lasting: dict[str, Reaction] = field(default_factory=dict)
    _booked: dict[tuple[str, str], Quantity] = field(default_factory=dict)
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def credited(self, account_id: str) -> Decimal:
        """Return what is booked for an account, in standard units."""
        return total(quantity.to_amount() for (name, _), quantity in self._booked.items() if name == account_id)

    def credits_of(self, account_id: str) -> list[Received]:
        """Return the credits an account was shown, in order."""
        return [credit for credit in self.credits_ if credit.account_id == account_id]

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the condition holds, looking again whenever something arrives; tell whether it does."""
        with anyio.move_on_after(timeout_s):
            while not condition():
                await self._changed.wait()
        return condition()

    def respond(self, method: str, raw_path: str, headers: Mapping[str, str], body: bytes, at: float) -> Reply:
        """Answer one request of the engine."""
        segments = [unquote(part) for part in raw_path.partition("?")[0].split("/") if part]
        match segments:
            case ["accounts", account_id, "settlements"] if method == "POST":
                reply = self._credit(Received(method, account_id, headers, body, at, _quantity(body)))
            case ["accounts", account_id, "messages"] if method == "POST":
                self.messages.append(Received(method, account_id, headers, body, at))
                reply = Reply(502, b"the conformance suite is nobody's peer: it has no engine to answer this")
            case _:
                reply = Reply(404, b"a connector has no such endpoint")
        self._changed.set()
        self._changed = anyio.Event()
        return reply

    def _credit(self, credit: Received) -> Reply:
        waiting = self.reactions[credit.account_id]
        reaction = waiting.popleft() if waiting else self.lasting.get(credit.account_id, Reaction.TAKE)
        self.credits_.append(replace(credit, reaction=reaction))
        if credit.quantity is None:
            return Reply(400, b"a settlement is a quantity of amount and scale")
        if reaction is Reaction.FAIL:
            return Reply(500, b"the conformance suite fails on purpose")
        first = self._booked.setdefault((credit.account_id, credit.key), credit.quantity)
        if first != credit.quantity:
            return Reply(409, b"the idempotency key is tied to another quantity")
        match reaction:
            case Reaction.LOSE:
                return Reply(None)
            case Reaction.TAKE_PLAINLY:
                return Reply(201, b"RECEIVED")
            case _:
                return Reply(201, json.dumps(first.to_json()).encode(), JSON)


def _quantity(body: bytes) -> Quantity | None:
    try:
        return Quantity.parse(decode_json(body))
    except (ValueError, InvalidQuantity):
        return None

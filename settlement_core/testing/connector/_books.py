"""The accounting system's books: exact, without I/O and without a clock.

`requested` never holds a settlement twice, whatever happens on the wire, and `credited` holds exactly what was
credited, however often and however wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from settlement_core.testing.connector._wire import Answer, Request
from settlement_core.values.amounts import ZERO, add, subtract

__all__ = ["AccountBooks", "BookEvent", "Books", "KeyRecord"]

Happening: TypeAlias = Literal["requested", "refunded", "credited"]


@dataclass(frozen=True, slots=True)
class BookEvent:
    """One entry of the books, in the order they were made."""

    happening: Happening
    amount: Decimal
    key: str | None


@dataclass(slots=True)
class AccountBooks:
    """One account: what it asked its engine to settle, and what its engine told it to credit.

    Attributes:
        account_id: the accounting system's own name for it.
        engine_id: what the engine calls it; the same, unless the engine chose it.
        scale: the accounting system's own precision; None if it has any.
        requested: standard units it asked for and did not take back.
        credited: standard units it was credited.
        told: standard units its engine was told were credited, by a 2xx of its first request.
        dust: told, but finer than the scale, and kept.
        events: how it came to that.
    """

    account_id: str
    engine_id: str
    scale: int | None = None
    requested: Decimal = ZERO
    credited: Decimal = ZERO
    told: Decimal = ZERO
    dust: Decimal = ZERO
    events: list[BookEvent] = field(default_factory=list)

    def credit(self, amount: Decimal, key: str | None, *, told: Decimal | None = None) -> None:
        """Book an incoming settlement; `told` is what the engine sent, if something else is booked."""
        self.told = add(self.told, amount if told is None else told)
        self.credited = add(self.credited, amount)
        self.events.append(BookEvent("credited", amount, key))

    def request(self, amount: Decimal, key: str | None) -> None:
        """Book that the engine is asked to settle."""
        self.requested = add(self.requested, amount)
        self.events.append(BookEvent("requested", amount, key))

    def refund(self, amount: Decimal, key: str | None) -> None:
        """Book that the engine will not settle after all."""
        self.requested = subtract(self.requested, amount)
        self.events.append(BookEvent("refunded", amount, key))


@dataclass(slots=True)
class KeyRecord:
    """What an idempotency key was first used for, and how that was answered."""

    used_for: object
    answer: Answer
    first_at: float
    last_at: float


class Books:
    """All accounts of one accounting system, and the keys it remembers."""

    def __init__(self) -> None:
        self.accounts: dict[str, AccountBooks] = {}
        self.keys: dict[str, KeyRecord] = {}

    def open(self, account_id: str, *, engine_id: str | None = None, scale: int | None = None) -> AccountBooks:
        """Return the account, opening it first if it is new."""
        books = self.accounts.get(account_id)
        if books is None:
            books = self.accounts[account_id] = AccountBooks(account_id, engine_id or account_id, scale)
        return books

    def find(self, engine_id: str) -> AccountBooks | None:
        """Return the account the engine calls so."""
        direct = self.accounts.get(engine_id)
        if direct is not None and direct.engine_id == engine_id:
            return direct
        return next((books for books in self.accounts.values() if books.engine_id == engine_id), None)

    def once(
        self,
        request: Request,
        used_for: object,
        act: Callable[[], Answer],
        *,
        keep: Callable[[Answer], bool],
    ) -> KeyRecord:
        """Return the key's record, acting only if there is none; the answer is kept if `keep` says so."""
        assert request.key is not None
        record = self.keys.get(request.key)
        if record is None:
            record = KeyRecord(used_for, act(), request.at, request.at)
            if keep(record.answer):
                self.keys[request.key] = record
        else:
            record.last_at = request.at
        return record

    def forget(self, key: str | None, *, at: float, after_s: float) -> None:
        """Drop a key that was first used longer ago than that."""
        record = self.keys.get(key or "")
        if record is not None and at - record.first_at >= after_s:
            del self.keys[key or ""]

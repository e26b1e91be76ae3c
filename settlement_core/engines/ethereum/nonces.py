"""Every nonce of our key is given away once, durably, and remembered until its one transaction is final.

A key's transactions apply in the order of their nonces, without a gap, and of all transactions signed for one nonce
the chain applies one. So a *slot*, what we know of one nonce, is written before its payment is told to the core, and
every further transaction for it (a replacement with a higher fee, or one that does nothing) before it is broadcast:

    allocated   signed for one attempt; the same attempt always gets the same slot. Nothing was broadcast.
    submitted   the core has noted the payment, so it may be broadcast, by anybody, any number of times
    withdrawn   never submitted, and in the way of others: a transfer of nothing to ourselves takes its place
    finished    a final block holds the nonce's transaction; `outcome` says which it was and what it did

A payment is allocated before the core notes it, and only the core knows whether it ever did: a crash, a store that
forgot, a halted account may all leave a slot that nobody asks for again, and then no later nonce can apply. Such a
gap must be filled, but never by broadcasting the payment itself (the core might have queued its money anew) nor by
handing the nonce to another payment (the core might still submit the first). The transfer of nothing excludes the
payment on the chain: whichever of the two is final proves what the core is to be told, so the money of a withdrawn
payment is freed by proof like any other's. Which of `submitted` and `withdrawn` a slot becomes is decided under one
lock, once, and never taken back.

Slots finish in the order of their nonces; `floor` is the first that is not finished. It is saved together with the
fees spent, so a slot's fee is counted once. Finished slots are kept for a while: should blocks that were final be
replaced after all, the same bytes are broadcast again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import anyio

from settlement_core.abc import AccountServices
from settlement_core.engines.ethereum.transactions import Effect, Signed

__all__ = ["COSTLY", "NonceBook", "Outcome", "Result", "Slot", "begin_nonces", "read_nonces"]

_BOOK = "nonces"
_SLOT = "nonce:"

KEPT = 256
"""Finished slots that are remembered: more than any reorganisation ever took back."""

_HOLES = 16
"""A store that fails over may lose some of the latest slots and keep what was adopted after them."""


class Result(StrEnum):
    """What a nonce was used for."""

    PAID = "paid"
    FAILED = "failed"
    """Our payment stands in a block and was reverted."""
    EMPTY = "empty"
    """Our payment stands in a block, was not reverted, and moved none of the token."""
    WITHDRAWN = "withdrawn"
    FOREIGN = "foreign"
    """A transaction that was not made here, and that does something else."""
    DOUBTFUL = "doubtful"
    """A transaction that does the same and was not made here, or answers that contradict one another to the end."""


COSTLY = frozenset({Result.FAILED, Result.EMPTY})
"""What only costs a fee."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a nonce ended.

    Attributes:
        units: what the payment moved, as the ledger counts; all of it unless the token charges for transfers.
        fee: wei that we paid for it.
    """

    result: Result
    tx_hash: str
    units: int
    fee: int
    block: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "result": self.result.value,
            "hash": self.tx_hash,
            "units": str(self.units),
            "fee": str(self.fee),
            "block": self.block,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Outcome:
        """Return what `to_json` wrote."""
        return cls(
            Result(value["result"]),
            value["hash"],
            int(value["units"]),
            int(value["fee"]),
            value["block"],
            value["reason"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One nonce. Without an `attempt_id` it is a hole that was filled.

    Attributes:
        to: the peer's address; empty in a filled hole.
        units: wei, or units of the token.
        since: a block before which no transaction of this nonce was signed.
        mark: the low wei of the fees of all its payments, by which they differ from anybody else's; None in old slots.
        payments: every transaction signed for the payment, the first one first; they differ in their fees.
        fillers: the same for the transfer of nothing.
    """

    nonce: int
    account_id: str
    attempt_id: str
    to: str
    units: int
    since: int
    mark: int | None = None
    submitted: bool = False
    withdrawn: bool = False
    payments: tuple[Signed, ...] = ()
    fillers: tuple[Signed, ...] = ()
    outcome: Outcome | None = None

    @property
    def latest(self) -> Signed | None:
        """Return what is to be in the node's pool now, if anything may be."""
        if self.withdrawn:
            return self.fillers[-1]
        return self.payments[-1] if self.submitted else None

    @property
    def hashes(self) -> list[str]:
        """Return everything we ever signed for this nonce."""
        return [signed.tx_hash for signed in (*self.payments, *self.fillers)]

    def effect(self, token: str | None) -> Effect:
        """Return what its payment does."""
        return Effect.of_payment(to=self.to, units=self.units, token=token)

    def raw_of(self, tx_hash: str) -> str | None:
        """Return the bytes of one of our transactions."""
        return next((s.raw for s in (*self.payments, *self.fillers) if s.tx_hash == tx_hash), None)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "nonce": self.nonce,
            "account": self.account_id,
            "attempt": self.attempt_id,
            "to": self.to,
            "units": str(self.units),
            "since": self.since,
            "mark": self.mark,
            "submitted": self.submitted,
            "withdrawn": self.withdrawn,
            "payments": [signed.to_json() for signed in self.payments],
            "fillers": [signed.to_json() for signed in self.fillers],
            "outcome": None if self.outcome is None else self.outcome.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Slot:
        """Return what `to_json` wrote."""
        return cls(
            nonce=value["nonce"],
            account_id=value["account"],
            attempt_id=value["attempt"],
            to=value["to"],
            units=int(value["units"]),
            since=value["since"],
            mark=value.get("mark"),
            submitted=value["submitted"],
            withdrawn=value["withdrawn"],
            payments=tuple(Signed.from_json(signed) for signed in value["payments"]),
            fillers=tuple(Signed.from_json(signed) for signed in value["fillers"]),
            outcome=None if value["outcome"] is None else Outcome.from_json(value["outcome"]),
        )


class NonceBook:
    """The nonces of one key; `read_nonces` or `begin_nonces` gives it. What it shows is durable."""

    def __init__(self, services: AccountServices, *, first: int, floor: int, fees_spent: int, since: int) -> None:
        self._services = services
        self._lock = anyio.Lock()
        self._slots: dict[int, Slot] = {}
        self._of_attempt: dict[str, int] = {}
        self.first = first
        """The nonce with which this book began: those below are not ours."""
        self.floor = floor
        self.next = floor
        self.fees_spent = fees_spent
        self.since = since
        """The block at which this key was first used here."""

    def __repr__(self) -> str:
        return f"<NonceBook from {self.floor} to {self.next}, {self.fees_spent} wei of fees>"

    def get(self, nonce: int) -> Slot | None:
        """Return a nonce's slot, if it was given away and is not forgotten."""
        return self._slots.get(nonce)

    def find(self, attempt_id: str) -> Slot | None:
        """Return the latest slot of an attempt."""
        nonce = self._of_attempt.get(attempt_id)
        return None if nonce is None else self._slots[nonce]

    def finished(self) -> Iterator[tuple[Slot, Outcome]]:
        """Yield the finished slots that are remembered, the latest first."""
        for nonce in range(self.floor - 1, self.floor - 1 - KEPT, -1):
            slot = self._slots.get(nonce)
            if slot is not None and slot.outcome is not None:
                yield slot, slot.outcome

    def costly_in_a_row(self, account_id: str, *, until: int | None = None) -> int:
        """Return how many of an account's latest payments, up to a nonce, cost a fee and moved nothing."""
        count = 0
        for slot, outcome in self.finished():
            if slot.account_id != account_id or (until is not None and slot.nonce > until):
                continue
            if outcome.result is Result.PAID:
                break
            count += outcome.result in COSTLY
        return count

    def unfinished(self, start: int | None = None) -> Iterator[tuple[int, Slot | None]]:
        """Yield the nonces that are not finished, from the lowest, with their slots; None where the store forgot."""
        for nonce in range(self.floor if start is None else max(start, self.floor), self.next):
            yield nonce, self._slots.get(nonce)

    async def allocate(self, make: Callable[[int], Slot]) -> Slot:
        """Give the next nonce away, durably: `make` gets it and returns its slot."""
        async with self._lock:
            return await self._write(make(self.next))

    async def change(self, nonce: int, change: Callable[[Slot | None], Slot | None]) -> Slot | None:
        """Replace a slot by what `change` makes of it, durably; return it. Changes never overtake one another."""
        async with self._lock:
            before = self._slots.get(nonce)
            after = change(before)
            if after is None or after == before:
                return before
            return await self._write(after)

    async def finish(self, slot: Slot, outcome: Outcome) -> None:
        """Record how the lowest unfinished nonce ended."""
        async with self._lock:
            assert slot.nonce == self.floor, "nonces end in their order"
            await self._write(replace(slot, outcome=outcome))
            await self._save_book(floor=self.floor + 1, fees_spent=self.fees_spent + outcome.fee)
            forgotten = self._slots.pop(self.floor - 1 - KEPT, None)
            if forgotten is not None:
                await self._services.save(f"{_SLOT}{forgotten.nonce}", None)
                if self._of_attempt.get(forgotten.attempt_id) == forgotten.nonce:
                    del self._of_attempt[forgotten.attempt_id]

    async def skip_to(self, nonce: int) -> None:
        """Leave out nonces that somebody else has used, if none of ours is unfinished below them."""
        async with self._lock:
            if self.floor == self.next < nonce:
                await self._save_book(floor=nonce, fees_spent=self.fees_spent)

    async def _write(self, slot: Slot) -> Slot:
        await self._services.save(f"{_SLOT}{slot.nonce}", slot.to_json())
        self._take(slot)
        return slot

    def _take(self, slot: Slot) -> None:
        self._slots[slot.nonce] = slot
        if slot.attempt_id:
            self._of_attempt[slot.attempt_id] = max(slot.nonce, self._of_attempt.get(slot.attempt_id, -1))
        self.next = max(self.next, slot.nonce + 1)

    async def _save_book(self, *, floor: int, fees_spent: int) -> None:
        book = {"first": self.first, "floor": floor, "fees_spent": str(fees_spent), "since": self.since}
        await self._services.save(_BOOK, book)
        self.floor, self.fees_spent = floor, fees_spent
        self.next = max(self.next, floor)

    async def begin(self) -> None:
        """Write the book for the first time."""
        async with self._lock:
            await self._save_book(floor=self.floor, fees_spent=self.fees_spent)

    async def read(self) -> None:
        """Read the slots."""
        start, end = max(self.floor - KEPT, self.first), self.floor + _HOLES
        while start < end:
            # side by side, so that the core reads all of them in one go
            async with anyio.create_task_group() as tasks:
                for nonce in range(start, end):
                    tasks.start_soon(self._read_slot, nonce)
            start, end = end, self.next + _HOLES

    async def _read_slot(self, nonce: int) -> None:
        found = await self._services.load(f"{_SLOT}{nonce}")
        if found is not None:
            self._take(Slot.from_json(found))


async def read_nonces(services: AccountServices) -> NonceBook | None:
    """Return the book as it was saved, or None if this key was never used here."""
    saved = await services.load(_BOOK)
    if saved is None:
        return None
    book = NonceBook(
        services,
        first=saved["first"],
        floor=saved["floor"],
        fees_spent=int(saved["fees_spent"]),
        since=saved["since"],
    )
    await book.read()
    return book


async def begin_nonces(services: AccountServices, *, nonce: int, since: int) -> NonceBook:
    """Return the book of a key that goes on with this nonce; `since` is the newest block."""
    book = NonceBook(services, first=nonce, floor=nonce, fees_spent=0, since=since)
    await book.begin()
    return book

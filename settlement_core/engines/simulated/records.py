"""What the simulated ledger is told and tells, as values, and how it refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from settlement_core.values.amounts import MAX_SCALE, check_amount, floor, plain
from settlement_core.values.errors import InvalidAmount, InvalidIdentifier, InvariantError, LocalError, RemoteError

__all__ = [
    "MAX_NAME",
    "MINT",
    "Held",
    "IncomingEntry",
    "IncomingPage",
    "LedgerBroken",
    "LedgerIncomplete",
    "LedgerRefused",
    "LedgerSettings",
    "LedgerUnavailable",
    "Moved",
    "Transfer",
    "TransferConflict",
    "TransferState",
    "TransferStatus",
    "check_name",
]

MAX_NAME = 128
"""Characters of an address, memo or transaction id: a settlement id made from one still fits a key."""

MINT = "mint"
"""Where opening balances come from: the only address that may be below zero. Nobody pays to or from it."""

# Visible ASCII, no spaces: the ledger's own books use a space to name what no sender can.
_NAME = re.compile(r"[!-~]+")


class LedgerRefused(LocalError):
    """The ledger cannot do what was asked; nothing was recorded."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the simulated ledger refused: {problem}; nothing was recorded")
        self.problem = problem


class TransferConflict(LedgerRefused):
    """A transaction id came again with other fields."""

    def __init__(self, tx_id: str) -> None:
        super().__init__(f"transaction {tx_id!r} exists with other fields")
        self.tx_id = tx_id


class LedgerUnavailable(RemoteError):
    """The ledger gave no answer; whether it did what was asked is unknown. The same may be asked again."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the simulated ledger gave no answer: {problem}; look the transaction up or ask again")
        self.problem = problem


class LedgerIncomplete(LedgerUnavailable):
    """The answer was drawn from blocks that do not hold what was asked for; another replica may hold them."""

    def __init__(self, asked: str, problem: str) -> None:
        super().__init__(f"{asked} cannot be told: the replica that answered {problem}")


class LedgerBroken(InvariantError):
    """The ledger's file is damaged, or says what it cannot say."""


class TransferState(StrEnum):
    """Where a transfer is. Only `CONFIRMED` and `FAILED` are final."""

    UNKNOWN = "unknown"
    """Never arrived, or vanished in a reorganisation: it may be submitted (again) under the same id."""

    PENDING = "pending"
    """Waits to be included in a block."""

    INCLUDED = "included"
    """In a block that may still be dropped."""

    CONFIRMED = "confirmed"
    """Final: the money moved."""

    FAILED = "failed"
    """Final: the money did not move, and under this id never will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One payment under an id its sender chose, which is what makes it safe to submit again.

    Attributes:
        amount: standard units, above zero, no finer than the ledger's scale.
        memo: tells the receiver what it is for; may be empty.
    """

    tx_id: str
    source: str
    destination: str
    amount: Decimal
    memo: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the transfer as a JSON object."""
        return {
            "tx_id": self.tx_id,
            "source": self.source,
            "destination": self.destination,
            "amount": f"{plain(self.amount):f}",
            "memo": self.memo,
        }

    @classmethod
    def from_json(cls, value: dict[str, str]) -> Transfer:
        """Return what `to_json` wrote."""
        return cls(**{**value, "amount": Decimal(value["amount"])})  # type: ignore[arg-type]

    def check(self, asset_scale: int) -> None:
        """Raise a LocalError if no ledger of this scale could ever take the transfer."""
        check_name(self.tx_id, "transaction id")
        check_name(self.source, "source address")
        check_name(self.destination, "destination address")
        if self.memo:
            check_name(self.memo, "memo")
        if MINT in {self.source, self.destination}:
            raise LedgerRefused(f"transaction {self.tx_id!r} is to or from the mint")
        if self.source == self.destination:
            raise LedgerRefused(f"transaction {self.tx_id!r} goes from {self.source!r} to itself")
        check_units(self.amount, asset_scale)
        if self.amount == 0:
            raise InvalidAmount("transfer", "it is zero")


@dataclass(frozen=True, slots=True)
class Held:
    """The blocks that an answer was drawn from: all from `lowest` to `height`, and no other.

    What is absent from the answer may be in any other block.
    """

    lowest: int = 0
    height: int = 0

    def __contains__(self, height: int) -> bool:
        return self.lowest <= height <= self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStatus:
    """What the ledger knows of a transaction id; `transfer` is None if that is nothing.

    Attributes:
        confirmations: blocks from the one it is in to the newest, both counted; 0 outside of a block.
        reason: why it failed, else empty.
        held: the blocks that were searched.
    """

    state: TransferState
    transfer: Transfer | None = None
    confirmations: int = 0
    reason: str = ""
    held: Held = field(default=Held(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingEntry:
    """Money that arrived for good. `seq` counts an address's entries 1, 2, 3, … in the order they became final."""

    seq: int
    tx_id: str
    source: str
    amount: Decimal
    memo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingPage:
    """Entries that arrived at an address, and which of them the answering replica holds.

    Attributes:
        entries: the next ones that it holds, in the order of `seq`, without gaps.
        first_seq: the first one that it holds: what came before is absent from the answer, not from the ledger.
        last_seq: the last one that it holds; 0 if there is none.
    """

    entries: list[IncomingEntry]
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What became final between two addresses: how many transfers, and their sum."""

    transfers: int
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """What a ledger's file is created with and keeps for ever.

    Attributes:
        asset_scale: decimal places of its smallest unit.
        confirmations: blocks, its own included, that make a transfer final; one fewer may be reorganised.
        block_time_s: seconds from one block to the next; 0 means that blocks only come from `mine()`.
    """

    asset_scale: int = 9
    confirmations: int = 2
    block_time_s: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.asset_scale <= MAX_SCALE:
            raise LedgerRefused(f"asset scale {self.asset_scale} is not 0 to {MAX_SCALE}")
        if self.confirmations < 1:
            raise LedgerRefused(f"{self.confirmations} confirmations are fewer than 1")
        if not 0 <= self.block_time_s < float("inf"):
            raise LedgerRefused(f"block time {self.block_time_s} s is not a time")


def check_name(name: object, what: str) -> str:
    """Return a valid address, memo or transaction id, or raise InvalidIdentifier."""
    if not isinstance(name, str):
        raise InvalidIdentifier(what, "it must be a string")
    if len(name) > MAX_NAME:
        raise InvalidIdentifier(what, f"it is longer than {MAX_NAME} characters")
    if not _NAME.fullmatch(name):
        raise InvalidIdentifier(what, "it must be visible ASCII characters without spaces, at least one")
    return name


def check_units(amount: object, asset_scale: int) -> Decimal:
    """Return an amount written plainly, or raise InvalidAmount if it is finer than the ledger's scale."""
    checked = check_amount(amount, "transfer")
    if floor(checked, asset_scale) != checked:
        raise InvalidAmount("transfer", f"{checked:f} is finer than the ledger's scale of {asset_scale}")
    return plain(checked)

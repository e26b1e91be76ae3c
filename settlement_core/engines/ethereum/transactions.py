"""Transactions as bytes: what they do, what they may cost, and how they are signed. Pure, no network.

A transaction's hash is known before anybody sees it. Another with the same nonce excludes it: of all that were ever
signed for one nonce of a key, the chain can apply one.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from settlement_core.engines.ethereum.chain import address_topic
from settlement_core.engines.ethereum.config import SigningKey
from settlement_core.values.amounts import Quantity, floor, plain

__all__ = [
    "MARKS",
    "PLAIN_GAS",
    "Effect",
    "Fees",
    "Signed",
    "amount_of",
    "bumped",
    "current_fees",
    "least_gas",
    "mark_of",
    "marked",
    "replacing",
    "sign",
    "units_of",
]

TRANSFER_SELECTOR = "0xa9059cbb"
"""Of `transfer(address,uint256)`."""

PLAIN_GAS = 21_000
"""What a transfer of ether costs that runs no code."""

MARKS = 2**24
"""How many marks there are. The largest is 0.017 gwei, by which a fee's limit grows at most, and not what is paid."""

_DATA_GAS = 10
"""Of a byte of data that is zero at least (EIP-7623); one that is not counts as four."""


@dataclass(frozen=True, slots=True)
class Fees:
    """What a unit of gas may cost, in wei (EIP-1559)."""

    max_fee: int
    tip: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What a transaction does: whom it calls, with how many wei and which data."""

    to: str
    value: int
    data: str

    @classmethod
    def of_payment(cls, *, to: str, units: int, token: str | None) -> Effect:
        """Return the effect that pays so many wei, or units of a token."""
        if token is None:
            return cls(to, units, "0x")
        return cls(token, 0, f"{TRANSFER_SELECTOR}{address_topic(to)[2:]}{units:064x}")

    def to_call(self, fees: Fees) -> dict[str, str]:
        """Return it as a node simulates it. With its fees, which code can read: some does another thing without."""
        return {
            "to": self.to,
            "value": hex(self.value),
            "data": self.data,
            "maxFeePerGas": hex(fees.max_fee),
            "maxPriorityFeePerGas": hex(fees.tip),
        }

    @classmethod
    def nothing(cls, address: str) -> Effect:
        """Return the effect that only uses a nonce up: nothing, sent to ourselves."""
        return cls(address, 0, "0x")


@dataclass(frozen=True, slots=True)
class Signed:
    """One signed transaction. `raw` holds no secret; whoever has it can only apply it, once.

    Attributes:
        block: the newest block when it was signed, to tell how long it has waited.
    """

    tx_hash: str
    raw: str
    fees: Fees
    gas: int
    block: int

    @property
    def max_cost(self) -> int:
        """Return the wei its gas may cost."""
        return self.gas * self.fees.max_fee

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; what may exceed 2^53 is text."""
        return {
            "hash": self.tx_hash,
            "raw": self.raw,
            "max_fee_per_gas": str(self.fees.max_fee),
            "max_priority_fee_per_gas": str(self.fees.tip),
            "gas": self.gas,
            "block": self.block,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Signed:
        """Return what `to_json` wrote."""
        fees = Fees(int(value["max_fee_per_gas"]), int(value["max_priority_fee_per_gas"]))
        return cls(value["hash"], value["raw"], fees, value["gas"], value["block"])


def sign(key: SigningKey, effect: Effect, *, chain_id: int, nonce: int, gas: int, fees: Fees, block: int) -> Signed:
    """Return the effect as a signed EIP-1559 transaction; the same arguments give the same bytes."""
    signed = key.account.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": bytes.fromhex(effect.to[2:]),
            "value": effect.value,
            "data": bytes.fromhex(effect.data[2:]),
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.tip,
        }
    )
    return Signed("0x" + bytes(signed.hash).hex(), "0x" + bytes(signed.raw_transaction).hex(), fees, gas, block)


def current_fees(*, base_fee: int, tip: int, cap: int) -> Fees | None:
    """Return fees that last six full blocks of growing demand, or None if today's are above the cap."""
    if base_fee + tip > cap:
        return None
    return Fees(min(2 * base_fee + tip, cap), tip)


def mark_of(max_fee: int) -> int:
    """Return the mark that a fee's limit bears."""
    return max_fee % MARKS


def marked(fees: Fees, mark: int, *, cap: int) -> Fees:
    """Return the fees with the mark in the low wei of the limit, a little higher; or lower, where the cap demands it.

    Two attempts never have the same bytes then, even of two servers that were given one key by mistake.
    """
    max_fee = fees.max_fee - mark_of(fees.max_fee) + mark
    if max_fee < fees.max_fee:
        max_fee += MARKS
    if max_fee > cap:
        max_fee -= MARKS
    return Fees(max_fee, min(fees.tip, max_fee)) if max_fee > 0 else fees


def least_gas(effect: Effect) -> int:
    """Return the gas without which no node takes a transaction with this effect."""
    content = bytes.fromhex(effect.data[2:])
    tokens = content.count(0) + 4 * (len(content) - content.count(0))
    return PLAIN_GAS + _DATA_GAS * tokens


def bumped(last: Fees, *, now: Fees, cap: int) -> Fees | None:
    """Return today's fees, or what nodes take at least for a replacement; None if there is no need, or the cap forbids.

    What pays today's price already waits for another reason, such as lacking funds, and would only get dearer.
    """
    if last.max_fee >= now.max_fee and last.tip >= now.tip:
        return None
    return replacing(last, now=now, cap=cap)


def replacing(last: Fees, *, now: Fees, cap: int) -> Fees | None:
    """Return the least fees for which every node takes a replacement, today's if they are higher; None above the cap.

    The replacement bears the same mark. Nodes ask for an eighth more of both, or less (go-ethereum a tenth).
    """
    least = Fees(_eighth_more(last.max_fee), _eighth_more(last.tip))
    fees = marked(Fees(max(least.max_fee, now.max_fee), max(least.tip, now.tip)), mark_of(last.max_fee), cap=cap)
    return None if fees.max_fee < least.max_fee or fees.max_fee > cap else fees


def _eighth_more(fee: int) -> int:
    return max(fee + 1, -(-fee * 9 // 8))


def units_of(amount: Decimal, scale: int) -> int:
    """Return an amount as the ledger counts, in 10^-scale, what is finer cut off."""
    quantity = Quantity.of(plain(floor(amount, scale)))
    more_places: int = 10 ** (scale - quantity.scale)
    return int(quantity.amount) * more_places


def amount_of(units: int, scale: int) -> Decimal:
    """Return what the ledger counts as an exact amount in the standard unit."""
    return Quantity(str(units), scale).to_amount()

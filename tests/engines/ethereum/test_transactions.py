"""Transactions are exact: bytes that decode everywhere, amounts without a lost digit, fees that nodes take."""

from __future__ import annotations

from decimal import Decimal

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.engines.ethereum import SigningKey
from settlement_core.engines.ethereum.transactions import (
    MARKS,
    Effect,
    Fees,
    Signed,
    amount_of,
    bumped,
    current_fees,
    sign,
    units_of,
)
from tests.engines.ethereum.anvil import Anvil, dev_accounts

PEER = dev_accounts()[2].address


def signed(nonce: int, *, value: int = 1) -> Signed:
    """Return a plain payment of ours."""
    key = SigningKey(dev_accounts()[1].key)
    fees = Fees(2 * 10**9, 10**9)
    return sign(key, Effect(PEER, value, "0x"), chain_id=31_337, nonce=nonce, gas=21_000, fees=fees, block=0)


def test_signatures_with_leading_zeros_are_written_without_them(node: Anvil) -> None:
    """One transaction in a hundred has one; padded, no node could decode it, and everything behind it would wait."""
    transactions = (signed(0, value=value) for value in range(2000))
    short = next(t for t in transactions if min(map(len, rlp.decode(bytes.fromhex(t.raw[4:]))[-2:])) < 32)
    assert Account.recover_transaction(short.raw).lower() == dev_accounts()[1].address
    assert node.rpc("eth_sendRawTransaction", short.raw) == short.tx_hash


def test_the_same_payment_is_the_same_bytes() -> None:
    """Nothing is left to chance, so a payment that is signed again is no second one."""
    assert signed(7) == signed(7)
    assert signed(7).tx_hash != signed(8).tx_hash
    assert Signed.from_json(signed(7).to_json()) == signed(7)


def test_a_tokens_transfer_is_a_call_of_the_token() -> None:
    """The known call: selector, receiver and units, each in words of 32 bytes; no ether moves."""
    token = "0x" + "99" * 20
    assert Effect.of_payment(to="0x" + "11" * 20, units=10**18, token=token) == Effect(
        token, 0, "0xa9059cbb" + "00" * 12 + "11" * 20 + f"{10**18:064x}"
    )


@given(st.integers(0, 2**256 - 1), st.integers(0, 255))
def test_no_digit_is_lost_between_units_and_amounts(units: int, scale: int) -> None:
    """As large as a ledger counts, at any scale, there and back."""
    amount = amount_of(units, scale)
    assert units_of(amount, scale) == units
    assert amount == Decimal(units).scaleb(-scale) or units >= 10**28


@pytest.mark.parametrize(
    ("amount", "scale", "units"),
    [("0.9", 0, 0), ("1.999", 2, 199), ("5", 18, 5 * 10**18), ("1E+3", 6, 10**9), ("0.0000009", 6, 0)],
)
def test_what_is_finer_than_the_ledger_is_cut_off(amount: str, scale: int, units: int) -> None:
    """Never rounded up: it would be paid and not owed."""
    assert units_of(Decimal(amount), scale) == units


@given(
    st.integers(1, 10**13),
    st.integers(0, 10**12),
    st.integers(1, 10**13),
    st.tuples(st.integers(0, 10**13), st.integers(0, 10**12)),
)
def test_a_replacement_pays_an_eighth_more_of_both_and_never_above_the_cap(
    max_fee: int, tip: int, cap: int, price: tuple[int, int]
) -> None:
    """Nodes take no less; the operator pays no more, and nothing more than today's price asks for."""
    last = Fees(max(max_fee, tip), tip)
    today = current_fees(base_fee=price[0], tip=price[1], cap=cap)
    if today is None:
        assert sum(price) > cap
        return
    assert today.tip <= today.max_fee <= cap
    after = bumped(last, now=today, cap=cap)
    if after is None:
        enough = last.max_fee >= today.max_fee and last.tip >= today.tip
        assert enough or max(last.max_fee + 1, -(-last.max_fee * 9 // 8)) + MARKS > cap
        return
    assert after.max_fee * 8 >= last.max_fee * 9
    assert after.tip * 8 >= last.tip * 9
    assert after.tip <= after.max_fee <= cap
    assert after.max_fee >= today.max_fee or after.max_fee + MARKS > cap
    assert after.max_fee % MARKS == last.max_fee % MARKS
    assert after.tip >= today.tip

"""Money is exact: no sum, no scale and no notation loses a digit (RFC 38, "Units and quantities")."""

from __future__ import annotations

from decimal import Decimal, Inexact, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.values.amounts import (
    MAX_DIGITS,
    MAX_SCALE,
    ZERO,
    Quantity,
    add,
    check_amount,
    floor,
    plain,
    subtract,
    total,
)
from settlement_core.values.errors import InvalidAmount, InvalidQuantity

scales = st.integers(0, MAX_SCALE)
digit_strings = st.one_of(
    st.text("0123456789", min_size=1, max_size=40),
    st.integers(1, MAX_DIGITS).map(lambda length: "9" * length),
    st.integers(1, MAX_DIGITS).map(lambda length: "1" + "0" * (length - 1)),
)
quantities = st.builds(Quantity, digit_strings, scales)
amounts = quantities.map(Quantity.to_amount)


def _exact(amount: Decimal) -> Fraction:
    return Fraction(*amount.as_integer_ratio())


@given(quantities)
def test_a_quantity_becomes_exactly_its_value_and_comes_back_digit_for_digit(quantity: Quantity) -> None:
    """On the wire and in the books it is the same number; only leading zeros are not kept."""
    amount = quantity.to_amount()
    assert _exact(amount) == Fraction(int(quantity.amount), 10**quantity.scale)
    written = Quantity.of(amount)
    assert written == Quantity(quantity.amount.lstrip("0") or "0", quantity.scale)
    assert Quantity.parse(written.to_json()) == written
    assert check_amount(amount, "amount") is amount or not amount


@pytest.mark.parametrize(
    ("amount", "scale", "value"),
    [
        ("4682", 3, "4.682"),
        ("100", 0, "100"),
        ("100", 2, "1.00"),
        ("0", 255, "0E-255"),
        ("9007199254740993", 0, "9007199254740993"),
        ("18446744073709551616", 18, "18.446744073709551616"),
        ("115792089237316195423570985008687907853269984665640564039457584007913129639935", 18, None),
    ],
)
def test_a_quantity_is_an_integer_with_a_scale(amount: str, scale: int, value: str | None) -> None:
    """The examples of RFC 38, and numbers at which doubles and 64-bit integers end."""
    quantity = Quantity.parse({"amount": amount, "scale": scale})
    assert _exact(quantity.to_amount()) == Fraction(int(amount), 10**scale)
    if value is not None:
        assert str(quantity.to_amount()) == value
    assert quantity.to_json() == {"amount": amount, "scale": scale}


def test_unknown_members_of_a_quantity_are_ignored() -> None:
    """Clients may send more than they should."""
    assert Quantity.parse({"amount": "1", "scale": 9, "assetCode": "XRP"}) == Quantity("1", 9)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "expected a JSON object with amount and scale, got nothing"),
        ([], "expected a JSON object with amount and scale, got an array"),
        ("1", "expected a JSON object with amount and scale, got a string"),
        (1.5, "expected a JSON object with amount and scale, got a number"),
        ({}, "amount must be a string of digits, got nothing"),
        ({"scale": 2}, "amount must be a string of digits, got nothing"),
        ({"amount": 5, "scale": 2}, "amount must be a string of digits, got a number"),
        ({"amount": True, "scale": 2}, "amount must be a string of digits, got a boolean"),
        ({"amount": {}, "scale": 2}, "amount must be a string of digits, got an object"),
        *(
            ({"amount": amount, "scale": 2}, "amount must hold digits only")
            for amount in ("", "-1", "+1", "1.0", "1e3", " 1", "1\n", "0x1", "1_000", "\u0661", "²", "NaN", "1,000")
        ),
        ({"amount": "1" * 1001, "scale": 2}, "amount has 1001 digits, more than 1000"),
        ({"amount": "1"}, "scale must be an integer, got nothing"),
        ({"amount": "1", "scale": "2"}, "scale must be an integer, got a string"),
        ({"amount": "1", "scale": True}, "scale must be an integer, got a boolean"),
        ({"amount": "1", "scale": 2.0}, "scale must be an integer, got a number"),
        ({"amount": "1", "scale": -1}, "scale must be 0 to 255, got -1"),
        ({"amount": "1", "scale": 256}, "scale must be 0 to 255, got 256"),
        ({"amount": "1", "scale": 10**5000}, "scale must be 0 to 255, got a number far from it"),
    ],
)
def test_what_is_not_exactly_a_quantity_is_refused_in_one_sentence(value: Any, sentence: str) -> None:
    """No guessing at what a client may have meant."""
    with pytest.raises(InvalidQuantity) as caught:
        Quantity.parse(value)
    assert str(caught.value) == f"invalid quantity: {sentence}"
    assert caught.value.problem == sentence


@given(st.lists(amounts, max_size=8))
def test_sums_are_exact_whatever_their_order(parts: list[Decimal]) -> None:
    """Huge and tiny amounts add up to the last digit, and subtracting them again leaves nothing."""
    whole = total(parts)
    assert _exact(whole) == sum(map(_exact, parts), Fraction(0))
    assert total(reversed(parts)) == whole
    for part in parts:
        whole = subtract(whole, part)
    assert whole == ZERO


def test_sums_do_not_depend_on_the_callers_context() -> None:
    """A program that calculates with few digits elsewhere does not round our money."""
    with localcontext() as context:
        context.prec = 2
        assert add(Decimal(1000000), Decimal("0.000001")) == Decimal("1000000.000001")
        assert Quantity("123456789", 3).to_amount() == Decimal("123456.789")
        assert floor(Decimal("123456.789"), 1) == Decimal("123456.7")
        assert plain(Decimal("123456.7890")) == Decimal("123456.789")


def test_a_sum_too_wide_to_be_exact_is_an_error_not_a_rounded_number() -> None:
    """Should an amount ever get past all checks, the sum fails loudly."""
    with pytest.raises(Inexact):
        add(Decimal("1E+3000"), Decimal("1E-3000"))


@given(amounts, scales)
def test_floor_is_the_largest_multiple_that_is_not_above(amount: Decimal, scale: int) -> None:
    """What floor takes away is less than one unit of the scale, and never negative."""
    floored = floor(amount, scale)
    rest = subtract(amount, floored)
    assert 0 <= rest < Decimal((0, (1,), -scale))
    assert _exact(floored) * 10**scale % 1 == 0


@given(amounts)
def test_plain_is_the_same_value_in_its_shortest_form(amount: Decimal) -> None:
    """No zeros at the end of the decimal places, no exponent."""
    short = plain(amount)
    assert short == amount
    assert "E" not in f"{short:f}"
    exponent = short.as_tuple().exponent
    assert isinstance(exponent, int)
    assert exponent <= 0
    assert exponent == 0 or short.as_tuple().digits[-1] != 0


@pytest.mark.parametrize(
    ("given_amount", "kept"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("0E+9999", "0"),
        ("0E-9999", "0"),
        ("1.50", "1.50"),
        ("1E+3", "1000"),
        ("1E+999", "1" + "0" * 999),
        ("1E-255", "1E-255"),
        ("10E-256", "1E-255"),
        ("9" * 1000, "9" * 1000),
    ],
)
def test_an_amount_that_can_be_written_is_kept_as_it_is(given_amount: str, kept: str) -> None:
    """The decimal places a caller gives are kept; an exponent, or a sign of nothing, is not."""
    assert str(check_amount(Decimal(given_amount), "amount")) == kept


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        (1, "expected a decimal.Decimal, got int 1"),
        (1.5, "expected a decimal.Decimal, got float 1.5"),
        ("1", "expected a decimal.Decimal, got str '1'"),
        (None, "expected a decimal.Decimal, got NoneType None"),
        (Decimal("NaN"), "NaN is not a finite number"),
        (Decimal("sNaN"), "sNaN is not a finite number"),
        (Decimal("-Infinity"), "-Infinity is not a finite number"),
        (Decimal("-0.01"), "-0.01 is negative"),
        (Decimal("1E+1000"), "it has more than 1000 digits"),
        (Decimal("1E+999999999"), "it has more than 1000 digits"),
        (Decimal("9" * 1300), "it has more than 1000 digits"),
        (Decimal("1." + "1" * 1300), "it has more than 1000 digits"),
        (Decimal("1E-256"), "it is finer than a scale of 255"),
        (Decimal("11E-256"), "it is finer than a scale of 255"),
        (Decimal("1E-999999999"), "it is finer than a scale of 255"),
    ],
)
def test_an_amount_that_cannot_be_written_is_refused_in_one_sentence(amount: object, problem: str) -> None:
    """Engines are told what is wrong, whatever they return, and nothing is calculated with it."""
    with pytest.raises(InvalidAmount) as caught:
        check_amount(amount, "amount settled")
    assert str(caught.value) == f"invalid amount settled: {problem}; nothing was recorded"
    assert (caught.value.what, caught.value.problem) == ("amount settled", problem)


@pytest.mark.parametrize("amount", ["-1", "1E+3", "1E-256"])
def test_only_checked_amounts_are_written_as_quantities(amount: str) -> None:
    """A quantity has no sign, and no scale but 0 to 255: what was not checked before fails loudly."""
    with pytest.raises(AssertionError):
        Quantity.of(Decimal(amount))


def test_an_amount_may_be_as_long_as_its_digits_and_places_allow() -> None:
    """To the digit, and it stays as it is written; one more on either side is refused."""
    whole, places = "9" * MAX_DIGITS, "9" * MAX_SCALE
    longest = Decimal(f"{whole}.{places}")
    assert str(check_amount(longest, "amount")) == str(longest)
    for text in (f"9{whole}.{places}", f"{whole}.{places}9"):
        with pytest.raises(InvalidAmount, match="^invalid amount: it "):
            check_amount(Decimal(text), "amount")

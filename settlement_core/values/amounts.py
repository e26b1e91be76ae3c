"""Money is exact: Decimals in the standard unit, added under a context that refuses to lose a digit.

`Quantity`, an integer with a scale, exists only on the wire (RFC 38, "Units and quantities").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Context, Decimal, Inexact, InvalidOperation, Overflow

from settlement_core.values.errors import InvalidAmount, InvalidQuantity

__all__ = [
    "MAX_DIGITS",
    "MAX_SCALE",
    "ZERO",
    "Quantity",
    "add",
    "check_amount",
    "fit",
    "floor",
    "lowest_terms",
    "plain",
    "subtract",
    "total",
]

MAX_SCALE = 255
"""RFC 38 gives the scale one byte."""

MAX_DIGITS = 1000
"""Longest accepted amount on the wire: far above any asset, far below what slows arithmetic down."""

ZERO = Decimal(0)

# Wide enough that no sum of accepted amounts can ever be rounded; if one were, Inexact raises.
_PRECISION = 4 * MAX_DIGITS
_EXACT = Context(prec=_PRECISION, traps=[Inexact, InvalidOperation, Overflow])
_FLOORING = Context(prec=_PRECISION, rounding=ROUND_DOWN, traps=[InvalidOperation, Overflow])
_DIGITS = frozenset("0123456789")


def add(left: Decimal, right: Decimal) -> Decimal:
    """Return the exact sum."""
    return _EXACT.add(left, right)


def subtract(left: Decimal, right: Decimal) -> Decimal:
    """Return the exact difference, which may be negative."""
    return _EXACT.subtract(left, right)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of any number of amounts."""
    result = ZERO
    for amount in amounts:
        result = _EXACT.add(result, amount)
    return result


def floor(amount: Decimal, scale: int) -> Decimal:
    """Return the largest multiple of 10^-scale that is not above `amount`."""
    if _places(amount) <= scale:
        return amount
    return _FLOORING.quantize(amount, Decimal((0, (1,), -scale)))


def fit(amount: Decimal, max_integer: int) -> Decimal:
    """Return the amount, cut to so few decimal places that `Quantity` writes it with an integer of at most this.

    An amount whose whole part alone is larger becomes `max_integer` standard units. With 9 or more, an amount above
    zero stays above zero.
    """
    written = Quantity.of(plain(amount))
    integer, scale = int(written.amount), written.scale
    while integer > max_integer and scale > 0:
        integer, scale = integer // 10, scale - 1
    return Quantity(str(min(integer, max_integer)), scale).to_amount()


def plain(amount: Decimal) -> Decimal:
    """Return the same value written shortest: no trailing zeros, no exponent (`4.682`, `100`)."""
    short = _EXACT.normalize(amount)
    return short if _places(short) >= 0 else _EXACT.quantize(short, Decimal(1))


def check_amount(amount: object, what: str) -> Decimal:
    """Return `amount` if it is an exact non-negative Decimal that fits the wire, else raise InvalidAmount."""
    if not isinstance(amount, Decimal):
        raise InvalidAmount(what, f"expected a decimal.Decimal, got {type(amount).__name__} {amount!r}")
    if not amount.is_finite():
        raise InvalidAmount(what, f"{amount} is not a finite number")
    if amount < 0:
        raise InvalidAmount(what, f"{amount} is negative")
    if not amount:
        # whatever its exponent or sign
        return amount.copy_abs() if 0 <= _places(amount) <= MAX_SCALE else ZERO
    _, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    adjusted = len(digits) - 1 + exponent
    if adjusted >= MAX_DIGITS or len(digits) > MAX_DIGITS + MAX_SCALE:
        raise InvalidAmount(what, f"it has more than {MAX_DIGITS} digits")
    if adjusted < -MAX_SCALE:
        # before anything is calculated with an exponent that no context can hold
        raise InvalidAmount(what, f"it is finer than a scale of {MAX_SCALE}")
    if 0 <= -exponent <= MAX_SCALE:
        return amount
    amount = plain(amount)
    if _places(amount) > MAX_SCALE:
        raise InvalidAmount(what, f"it is finer than a scale of {MAX_SCALE}")
    return amount


def _places(amount: Decimal) -> int:
    """Return the number of decimal places a finite Decimal is written with."""
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount as RFC 38 writes it: `amount` x 10^-`scale` standard units.

    Attributes:
        amount: a non-negative integer in decimal digits, at most `MAX_DIGITS` of them.
        scale: 0 to 255.
    """

    amount: str
    scale: int

    @classmethod
    def parse(cls, value: object) -> Quantity:
        """Return the quantity a decoded JSON value holds, or raise InvalidQuantity with one sentence."""
        if not isinstance(value, dict):
            raise InvalidQuantity(f"expected a JSON object with amount and scale, got {_kind(value)}")
        amount, scale = value.get("amount"), value.get("scale")
        if not isinstance(amount, str):
            raise InvalidQuantity(f"amount must be a string of digits, got {_kind(amount)}")
        if not amount or not _DIGITS.issuperset(amount):
            raise InvalidQuantity("amount must hold digits only")
        if len(amount) > MAX_DIGITS:
            raise InvalidQuantity(f"amount has {len(amount)} digits, more than {MAX_DIGITS}")
        if type(scale) is not int:
            raise InvalidQuantity(f"scale must be an integer, got {_kind(scale)}")
        if not 0 <= scale <= MAX_SCALE:
            # a number of thousands of digits cannot even be written out
            shown = str(scale) if scale.bit_length() <= 64 else "a number far from it"
            raise InvalidQuantity(f"scale must be 0 to {MAX_SCALE}, got {shown}")
        return cls(amount, scale)

    @classmethod
    def of(cls, amount: Decimal) -> Quantity:
        """Return the quantity that writes `amount` with exactly the decimal places it carries."""
        sign, digits, _ = amount.as_tuple()
        scale = _places(amount)
        assert not sign, "only amounts that passed check_amount get here"
        assert 0 <= scale <= MAX_SCALE
        return cls("".join(map(str, digits)), scale)

    def to_amount(self) -> Decimal:
        """Return the value in the standard unit, keeping the scale as decimal places."""
        return Decimal(self.amount).scaleb(-self.scale, _EXACT)

    def to_json(self) -> dict[str, str | int]:
        """Return the JSON object of RFC 38."""
        return {"amount": self.amount, "scale": self.scale}


def _kind(value: object) -> str:
    """Name a JSON value's type as a client author knows it, never echoing its content."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")


def lowest_terms(amount: Decimal) -> str:
    """Return the amount as text that is equal for equal amounts."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

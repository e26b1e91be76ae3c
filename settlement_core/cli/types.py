"""Kinds of values the command line takes."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Any

import click

__all__ = ["AMOUNT", "DAYS", "SECONDS"]


class _Amount(click.ParamType[Decimal]):
    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return an exact number."""
        try:
            return Decimal(value)
        except InvalidOperation:
            self.fail(f"{value!r} is not a number", param, ctx)


AMOUNT = _Amount()
"""An exact number of standard units."""


class _Seconds(click.ParamType[float]):
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a finite number that is not negative."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(seconds) or seconds < 0:
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return seconds


SECONDS = _Seconds()
"""A length of time."""

DAYS = click.FloatRange(0, 100_000)
"""A number of days."""

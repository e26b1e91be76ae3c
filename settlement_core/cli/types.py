"""Kinds of values the command line takes."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import click

__all__ = ["AMOUNT"]


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

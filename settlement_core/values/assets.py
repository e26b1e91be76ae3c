"""The label of the asset that an engine settles in, such as "EUR": shown beside amounts, and never reckoned with.

A store keeps it, for commands that read the store of a server that is not running.
"""

from __future__ import annotations

from settlement_core.values.commands import OWN_VALUES, Get, Put

__all__ = ["ASSET", "MAX_LABEL", "is_label", "keep_label"]

MAX_LABEL = 16
"""Characters: room for a currency or a token's symbol, and none for sentences."""

ASSET = Get(account_id=OWN_VALUES, key="asset")
"""Asks a store for the label; None if it has none."""


def is_label(text: str) -> bool:
    """Tell whether text can be shown beside an amount: short, visible, and no part of a number or sentence."""
    return len(text) <= MAX_LABEL and text.isprintable() and " " not in text


def keep_label(label: str) -> Put:
    """Return what makes a store keep the label."""
    return Put(account_id=OWN_VALUES, key=ASSET.key, value=label)

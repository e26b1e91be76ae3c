"""Settlement ids that are known for ever: what is left of a credit that has left the history, in 20 bytes.

An id is kept as a digest, which nobody can make two ids agree in; its amount as a mark by which another one is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b

from settlement_core.values.amounts import lowest_terms

__all__ = ["DIGEST_SIZE", "MARK_SIZE", "KnownSettlement", "digest_of", "mark_of"]

DIGEST_SIZE = 16
MARK_SIZE = 4


@dataclass(frozen=True, slots=True)
class KnownSettlement:
    """A settlement id that an account was credited under."""

    account_id: str
    digest: bytes
    mark: bytes


def digest_of(settlement_id: str) -> bytes:
    """Return what is kept of a settlement id."""
    return blake2b(settlement_id.encode(), digest_size=DIGEST_SIZE).digest()


def mark_of(amount: Decimal) -> bytes:
    """Return what is kept of its amount; equal for equal amounts."""
    return blake2b(lowest_terms(amount).encode(), digest_size=MARK_SIZE).digest()

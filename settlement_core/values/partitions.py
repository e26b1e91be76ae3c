"""Which partition an account belongs to: the same in every process and for ever, so that workers can share a store."""

from __future__ import annotations

from zlib import crc32

__all__ = ["partition_of"]


def partition_of(account_id: str, partitions: int) -> int:
    """Return the number of the account's partition, 0 to `partitions` - 1; "" is the engine as a whole."""
    return crc32(account_id.encode()) % partitions

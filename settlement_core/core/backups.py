"""Backups of a store that is in use."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from settlement_core.abc import RestorableStore, SharedStore, Store
from settlement_core.values.errors import LocalError, NoBackup

__all__ = ["back_up", "refuse_older", "require_restorable"]


def refuse_older(store: Store) -> None:
    """Raise `LocalError` if the books may be older than the ledger, and are not set aside yet."""
    if isinstance(store, RestorableStore) and store.maybe_older:
        raise LocalError(
            f"the books of {store!r} may be older than the ledger: {store.maybe_older}; nothing of them is paid before "
            "an operator decides: set them aside first, by set_aside_restored or settlement-core serve"
        )


def require_restorable(store: Store) -> RestorableStore:
    """Return a store that can be backed up from here; else raise `NoBackup` that says how it is."""
    if isinstance(store, RestorableStore):
        return store
    if isinstance(store, SharedStore):
        raise NoBackup(
            "a store in Redis is backed up by Redis: copy its append-only files after BGREWRITEAOF, or its dump after "
            "BGSAVE; serve a restored one with --restored once, so that nothing of it is paid until you decide"
        )
    raise NoBackup(f"{store!r} ends with its process and cannot be backed up")


async def back_up(store: Store) -> Path:
    """Copy the store, while it goes on, to a new file beside its own, and return that file's path."""
    restorable = require_restorable(store)
    # a copy that is begun is finished: SQLite can only be told between its steps
    return await anyio.to_thread.run_sync(restorable.back_up)

"""What can be backed up from here, what cannot, and books that may be older than the ledger."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from settlement_core.core.backups import back_up, refuse_older, require_restorable
from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.errors import LocalError, NoBackup
from tests.stores.books import entered, opened, outgoing

pytestmark = pytest.mark.anyio


class SharedMemory(MemoryStore):
    """Looks like a store that several workers use."""

    def hear(self, worker: str, timeout_s: float) -> bool:
        """Hear nobody."""
        del worker, timeout_s
        return False


async def test_a_copy_is_refused_until_somebody_has_decided(tmp_path: Path) -> None:
    """It holds the same money, and may be older than the ledger from its first second on."""
    with closing(open_sqlite_store(tmp_path / "books.db")) as store:
        store.apply([opened(), entered("1", "5")])
        refuse_older(store)
        copy = await back_up(store)
    with closing(open_sqlite_store(copy)) as restored:
        assert outgoing(restored).queued == 5
        with pytest.raises(LocalError, match="nothing of them is paid before an operator decides"):
            refuse_older(restored)
        restored.adopt()
        refuse_older(restored)


async def test_stores_that_cannot_be_backed_up_from_here_say_how_it_is_done() -> None:
    """A shared store by its own means; what is only in memory not at all."""
    with pytest.raises(NoBackup, match="ends with its process and cannot be backed up"):
        require_restorable(create_memory_store())
    with pytest.raises(NoBackup, match="a store in Redis is backed up by Redis"):
        await back_up(SharedMemory())

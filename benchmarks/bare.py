"""The floor of the core: a bare journal loop, which gives a store the same commands and supervises nobody.

Whoever has nothing to pay for failures, time limits, back-off, leases, events or shutdown can be that fast on the same
store and loop: a task per account claims, settles and closes, and one task applies whatever has come up meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.abc

from settlement_core.abc import SettlementEngine, Store
from settlement_core.core.applying import Applier
from settlement_core.values.commands import Claim, Claimed, Close, Command, Enqueue
from settlement_core.values.records import Direction

__all__ = ["BareCore", "open_bare_core"]

OUTGOING = Direction.OUTGOING


class _Asked:
    """A command, and who waits for its result."""

    __slots__ = ("answered", "command", "result")

    def __init__(self, command: Command[Any]) -> None:
        self.command = command
        self.answered = anyio.Event()
        self.result: Any = None


class BareCore:
    """Takes settlement requests like a `Core`, as long as nothing goes wrong."""

    def __init__(self, store: Store, engine: SettlementEngine, tasks: anyio.abc.TaskGroup) -> None:
        self._applier = Applier(store)
        self._engine = engine
        self._tasks = tasks
        self._pending: list[_Asked] = []
        self._wake = anyio.Event()
        self._rung: dict[str, bool] = {}

    @property
    def active(self) -> int:
        """How many accounts have a task."""
        return len(self._rung)

    async def request_settlement(self, account_id: str, amount: Decimal, idempotency_key: str) -> Decimal:
        """Make a request durable, and have it settled."""
        command = Enqueue(
            account_id=account_id, direction=OUTGOING, entry_id=idempotency_key, amount=amount, at=time.time()
        )
        await self._ask(command)
        if account_id not in self._rung:
            self._tasks.start_soon(self._work, account_id)
        self._rung[account_id] = True
        return amount

    async def run_journal(self) -> None:
        """Apply whatever has come up since the last batch."""
        while True:
            if not self._pending:
                self._wake = anyio.Event()
                await self._wake.wait()
            batch, self._pending = self._pending, []
            results = await self._applier.apply([asked.command for asked in batch])
            for asked, result in zip(batch, results, strict=True):
                asked.result = result
                asked.answered.set()

    async def _work(self, account_id: str) -> None:
        while self._rung[account_id]:
            self._rung[account_id] = False
            claim = Claim(account_id=account_id, direction=OUTGOING, attempt_id=str(uuid.uuid4()), at=time.time())
            claimed = await self._ask(claim)
            if isinstance(claimed, Claimed):
                attempt = claimed.attempt
                settled = await self._engine.settle(account_id, attempt.amount)
                close = Close(account_id=account_id, attempt_id=attempt.attempt_id, settled=settled, at=time.time())
                await self._ask(close)
                self._rung[account_id] |= claimed.more
        del self._rung[account_id]

    async def _ask(self, command: Command[Any]) -> Any:
        asked = _Asked(command)
        self._pending.append(asked)
        self._wake.set()
        await asked.answered.wait()
        if isinstance(asked.result, Exception):
            raise asked.result
        return asked.result


@asynccontextmanager
async def open_bare_core(store: Store, engine: SettlementEngine) -> AsyncIterator[BareCore]:
    """Run one for the block."""
    async with anyio.create_task_group() as tasks:
        core = BareCore(store, engine, tasks)
        tasks.start_soon(core.run_journal)
        yield core
        tasks.cancel_scope.cancel()

"""A connector in memory, for tests of engines and cores: it credits every idempotency key once, and carries messages.

It fulfils `settlement_core.abc.Connector` and passes `check_connector_port`, as the HTTP client does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal

import anyio.lowlevel

from settlement_core.abc import Acknowledged, CreditOutcome, Refused
from settlement_core.values.amounts import add
from settlement_core.values.errors import ConnectorError

__all__ = ["MemoryConnector"]


class MemoryConnector:
    """Books of credits by account; `answer` is the peer's engine, if there is one."""

    def __init__(self, answer: Callable[[str, bytes], Awaitable[bytes]] | None = None) -> None:
        self.credited: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._keys: dict[tuple[str, str], Decimal] = {}
        self._answer = answer

    def __repr__(self) -> str:
        return f"<MemoryConnector, {len(self._keys)} credits>"

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit a key once; refuse it with another amount (RFC 38, "Handling idempotent requests")."""
        await anyio.lowlevel.checkpoint()
        key = (account_id, idempotency_key)
        first = self._keys.get(key)
        if first is None:
            self._keys[key] = amount
            self.credited[account_id] = add(self.credited[account_id], amount)
        elif first != amount:
            return Refused(f"key {idempotency_key!r} came with {first:f} first, now with {amount:f}")
        return Acknowledged()

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have the peer's engine answer."""
        await anyio.lowlevel.checkpoint()
        if self._answer is None:
            raise ConnectorError(f"message for account {account_id!r} was not delivered: it has no peer here")
        return await self._answer(account_id, message)

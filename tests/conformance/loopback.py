"""An engine that pays itself: whatever it settles is credited to the same account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from settlement_core import AccountServices, Payment, Pending, Settled, Verdict


class LoopbackEngine:
    """The store is its ledger: a payment is the credit it causes, under the id of the attempt."""

    def __init__(self, services: AccountServices) -> None:
        self._services = services

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide what to credit."""
        return Payment(amount, {"account": account_id, "id": attempt_id})

    async def submit(self, payment: Payment) -> None:
        """Credit it, which happens once however often it is asked for."""
        account_id, attempt_id = _read(payment)
        await self._services.credit_settlement(account_id, payment.amount, attempt_id)
        await self._services.save(f"paid {attempt_id}", value=True)

    async def verify(self, payment: Payment) -> Verdict:
        """Look whether it was."""
        _, attempt_id = _read(payment)
        if await self._services.load(f"paid {attempt_id}"):
            return Settled(payment.amount)
        return Pending(0.01, resubmit=True)

    async def handle_message(self, _account_id: str, message: Any) -> Any:
        """Say the same."""
        return message


def _read(payment: Payment) -> tuple[str, str]:
    reference: Any = payment.reference
    return reference["account"], reference["id"]


async def connect_engine(services: AccountServices) -> LoopbackEngine:
    """Return the engine."""
    return LoopbackEngine(services)

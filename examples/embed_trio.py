"""Two peers settle inside one trio program: no server, no ports, the core embedded twice.

Needs nothing. Run it with

    python examples/embed_trio.py

and you will see Alice's program owe Bob, pay him over a ledger in memory, and Bob's program credit her.
"""

from decimal import Decimal

import trio

from settlement_core import (
    AccountServices,
    Acknowledged,
    CreditOutcome,
    create_memory_store,
    open_core,
)


class Program:
    """The accounting of one peer: the core's connector, in the same process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.credited = trio.Event()

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Book what the peer paid; the key is what makes repeating it harmless."""
        print(f"{self.name} credits {amount} to {account_id}")
        self.credited.set()
        return Acknowledged()

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Carry a message to the peer's engine; these engines need none."""
        return b"null"


class MemoryLedger:
    """Pays by crediting at the other side at once."""

    def __init__(self) -> None:
        self.sides: dict[str, AccountServices] = {}

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay the peer the account is named after."""
        print(f"the ledger moves {amount} to {account_id}")
        me = next(name for name in self.sides if name != account_id)
        await self.sides[account_id].credit_settlement(me, amount)
        return amount


async def main() -> None:
    """Owe, settle, credit."""
    ledger, alice, bob = MemoryLedger(), Program("alice"), Program("bob")

    async def engine_of(name: str, services: AccountServices) -> MemoryLedger:
        ledger.sides[name] = services
        return ledger

    async with (
        open_core(lambda s: engine_of("alice", s), store=create_memory_store(), connector=alice) as alices,
        open_core(lambda s: engine_of("bob", s), store=create_memory_store(), connector=bob) as bobs,
    ):
        await alices.create_account("bob")
        await bobs.create_account("alice")
        await alices.request_settlement("bob", Decimal("12.50"), idempotency_key="invoice 7")
        await bob.credited.wait()
    print("both cores have shut down in order")


if __name__ == "__main__":
    trio.run(main)

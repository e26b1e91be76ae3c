"""The smallest settlement engine: pays nobody, but says so politely.

Needs nothing. Run it with

    settlement-core serve examples/minimal_engine.py

and you will see each settlement the connector asks for. With `settle` alone, a crash in the middle of a payment is
shown as *in doubt* for you to resolve; see verifiable_engine.py for an engine that never needs you.
"""

from decimal import Decimal


class PrintingEngine:
    """Pays by printing."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay up to `amount` standard units and return how much was paid."""
        print(f"paying {amount} to the peer of account {account_id}", flush=True)
        return amount


async def connect_engine(services: object) -> PrintingEngine:
    """Make the engine; `services` credits what peers pay us and sends messages to their engines."""
    return PrintingEngine()

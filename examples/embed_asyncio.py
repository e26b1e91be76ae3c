"""A settlement engine as one part of an asyncio program, with a page of its own beside RFC 38's API.

Needs nothing. Run it with

    python examples/embed_asyncio.py

and you will see a connector's request served over HTTP, the engine pay, and everything end in order.
"""

import asyncio
from decimal import Decimal

import httpx2
from hypercorn.asyncio import serve
from hypercorn.config import Config

from settlement_core import AccountServices, create_app, create_memory_store, open_connector, open_core

CONNECTOR = "http://127.0.0.1:7771"  # nothing is credited in this example, so nobody need listen there


class PrintingEngine:
    """Pays by printing."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        print(f"paying {amount} to the peer of account {account_id}")
        return amount


async def connect_engine(services: AccountServices) -> PrintingEngine:
    """Make the engine."""
    return PrintingEngine()


async def main() -> None:
    """Serve, be a connector for a moment, and shut down."""
    config, stop = Config(), asyncio.Event()
    config.bind = ["127.0.0.1:3917"]
    async with (
        open_connector(CONNECTOR) as connector,
        open_core(connect_engine, store=create_memory_store(), connector=connector) as core,
        asyncio.TaskGroup() as tasks,
    ):
        app = create_app(core)

        @app.get("/")
        async def page() -> str:
            return f"{core.statistics().engine} has {core.statistics().active_lanes} payments under way"

        tasks.create_task(serve(app, config, shutdown_trigger=stop.wait))
        await ask_for_a_settlement("http://127.0.0.1:3917")
        stop.set()
    print("the server and the core have shut down in order")


async def ask_for_a_settlement(url: str) -> None:
    """Do what a connector does."""
    async with httpx2.AsyncClient(base_url=url, transport=httpx2.AsyncHTTPTransport(retries=5)) as client:
        await client.post("/accounts", json={"id": "alice"})
        answer = await client.post(
            "/accounts/alice/settlements", json={"amount": "1250", "scale": 2}, headers={"Idempotency-Key": "7"}
        )
        print(answer.status_code, answer.text)
        print((await client.get("/")).text)


if __name__ == "__main__":
    asyncio.run(main())

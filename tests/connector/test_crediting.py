"""A core credits a connector with real habits over real sockets: what it credited, and nothing twice."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import AccountServices, Unanswered
from settlement_core.connector import open_connector
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.stores.memory import create_memory_store
from settlement_core.testing.connector import answer_instead, lose_reply, open_test_connector
from settlement_core.values.backoff import Backoff
from settlement_core.values.commands import History, Overview
from settlement_core.values.events import CreditBlocked, CreditedLess, CreditHeld, Event
from settlement_core.values.records import AttemptState, Totals

pytestmark = pytest.mark.anyio

BACKOFF = Backoff(first_s=0.05, max_s=0.2)


class Side:
    """One engine's core, what it told, and its services."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.services: list[AccountServices] = []
        self.core: Core | None = None

    def observe(self, event: Event) -> None:
        """Remember."""
        self.told.append(event)

    def connect(self, services: AccountServices) -> Side:
        """Be the engine, too."""
        self.services.append(services)
        return self

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay nobody."""
        raise AssertionError((account_id, amount))

    def of(self, kind: type[Event]) -> list[Any]:
        """Return the events of one type."""
        return [event for event in self.told if isinstance(event, kind)]

    async def paid(self, amount: str, settlement_id: str, account_id: str = "alice") -> None:
        """Be paid by the peer."""
        await self.services[0].credit_settlement(account_id, Decimal(amount), settlement_id)

    async def incoming(self, account_id: str = "alice") -> Totals:
        """Return what came in."""
        assert self.core is not None
        (account,) = await self.core.ask(Overview(account_id=account_id))
        return account.incoming

    async def until(self, condition: Callable[[Totals], bool]) -> Totals:
        """Wait in real time until the incoming totals are so."""
        with anyio.fail_after(60):
            while not condition(totals := await self.incoming()):
                await anyio.sleep(0.02)
        return totals


@asynccontextmanager
async def open_side(url: str, *, timeout_s: float = 30, **config: Any) -> AsyncIterator[Side]:
    """Run a core that credits the connector at this URL, with an account alice."""
    side = Side()
    settings = CoreConfig(credit_backoff=BACKOFF, **config)
    async with (
        open_connector(url, timeout_s=timeout_s) as connector,
        open_core(
            side.connect, store=create_memory_store(), connector=connector, config=settings, observer=side
        ) as side.core,
    ):
        await side.core.create_account("alice")
        yield side


async def test_of_a_credit_finer_than_its_scale_the_java_connector_books_what_our_books_say() -> None:
    """0.001234 of 0.001234567 at scale 6, the rest queued, one warning; the rest goes once it makes a unit."""
    async with open_test_connector("java") as java, open_side(java.url) as side:
        account = java.books.open("alice", scale=6)
        await side.paid("0.001234567", "a")
        totals = await side.until(lambda totals: totals.settled > 0)
        assert (totals.settled, totals.queued) == (Decimal("0.001234"), Decimal("0.000000567"))
        assert account.credited == totals.settled
        await side.paid("0.000000434", "b")
        totals = await side.until(lambda totals: totals.settled == Decimal("0.001235"))
        assert (account.credited, totals.queued) == (totals.settled, Decimal("0.000000001"))
        assert len(java.received) == 2
        (warning,) = side.of(CreditedLess)
        assert "--connector-scale 6" in str(warning)


async def test_a_connector_that_forgets_keys_credits_once_with_its_memory_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Java connector credits, its answer is lost, repetitions get 500 until it forgets the key, then are credited.

    With its memory configured the credit is held before, with its history. Without, it is credited twice.
    """
    monkeypatch.setattr("settlement_core.testing.connector._habits.SPRING_CACHE_S", 1.5)
    async with open_test_connector("java") as java:
        account = java.books.open("alice")
        java.faults = deque([lose_reply()])
        async with open_side(java.url, timeout_s=0.5, connector_memory_s=1.5) as side:
            await side.paid("3", "a")
            await side.until(lambda totals: totals.parked == 3)
            await anyio.sleep(2)
            assert len(java.received) > 2
            assert account.credited == 3
            (held,) = side.of(CreditHeld)
            assert "remembers for 1.5 s; offered" in held.reason
            assert "500 Internal Server Error: java.util.LinkedHashMap cannot be cast to HttpEntity" in held.reason
        java.faults = deque([lose_reply()])
        async with open_side(java.url, timeout_s=0.5) as side:
            await side.paid("4", "b")
            await side.until(lambda totals: totals.settled == 4)
            assert account.credited == 3 + 2 * 4


async def test_a_connector_that_is_not_there_has_certainly_not_been_sent_the_credit() -> None:
    """Connections are refused for longer than its memory; once it listens, the credit goes through."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    async with open_side(f"http://127.0.0.1:{port}", timeout_s=0.2, connector_memory_s=0.4) as side:
        await side.paid("3", "a")
        await anyio.sleep(1)
        assert (await side.incoming()).open == 3
        async with open_test_connector("java", port=port) as java:
            java.books.open("alice")
            await side.until(lambda totals: totals.settled == 3)
            assert java.account("alice").credited == 3


async def test_only_a_refused_connection_is_certainly_not_sent() -> None:
    """What was cut off or timed out may have arrived."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with open_connector(url, timeout_s=0.2) as connector:
            assert await connector.credit("alice", Decimal(1), "key-1") == Unanswered("no answer within 0.2 s")
    async with open_connector(url) as connector:
        outcome = await connector.credit("alice", Decimal(1), "key-1")
        assert isinstance(outcome, Unanswered)
        assert not outcome.sent


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_what_a_proxy_answers_during_a_redeploy_holds_nothing_of_an_account_that_was_credited(
    status: int,
) -> None:
    """The credit is offered again under its key, with one alarm; an account never credited is held, once."""
    async with open_test_connector("rfc38") as connector, open_side(connector.url) as side:
        connector.books.open("alice")
        connector.books.open("bob")
        assert side.core is not None
        await side.core.create_account("bob")
        await side.paid("1", "first")
        await side.until(lambda totals: totals.settled == 1)
        connector.faults = deque([answer_instead(status, b"default backend")] * 1000)
        for number in range(5):
            await side.paid("1", str(number))
            await side.paid("1", str(number), "bob")
            await anyio.sleep(0.1)
        connector.faults = deque()
        await side.until(lambda totals: totals.settled == 6)
        assert connector.account("alice").credited == 6
        assert len({alarm.attempt_id for alarm in side.of(CreditBlocked)}) == 1
        (held,) = await side.core.ask(History(states=frozenset({AttemptState.HELD})))
        assert (held.account_id, f"{held.amount:f}") == ("bob", "1")
        assert (await side.incoming("bob")).queued == 4
        assert held.reason.startswith(f"{status} ")

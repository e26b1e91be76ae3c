"""What the core talks to keeps the same promises everywhere: the client of a real connector, and every fake."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.abc import Acknowledged, CreditOutcome, Refused
from settlement_core.connector import open_connector
from settlement_core.testing.connector import link_accounts, open_test_connector
from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import OCTETS, Answer
from settlement_core.testing.connector_port_check import (
    PORT_CLAIMS,
    ConnectorBooks,
    OpenBooks,
    check_connector_port,
    find_port_deviations,
)
from settlement_core.testing.memory_connector import MemoryConnector
from tests.core.worlds import FakeConnector

pytestmark = pytest.mark.anyio


async def echo(_account_id: str, message: bytes) -> bytes:
    """Answer as the check wants peers to."""
    return message


def memory_books(connector: MemoryConnector) -> ConnectorBooks:
    """Return how the check sees a connector in memory."""

    async def credited() -> Decimal:
        return connector.credited["alice"]

    return ConnectorBooks(connector, "alice", credited)


@asynccontextmanager
async def open_in_memory() -> AsyncIterator[ConnectorBooks]:
    """Open the public fake."""
    yield memory_books(MemoryConnector(echo))


@asynccontextmanager
async def open_fake() -> AsyncIterator[ConnectorBooks]:
    """Open the fake of the core's own tests."""
    connector = FakeConnector()

    async def credited() -> Decimal:
        return connector.total()

    yield ConnectorBooks(connector, "alice", credited)


@asynccontextmanager
async def open_real() -> AsyncIterator[ConnectorBooks]:
    """Open the HTTP client, on a test connector that follows RFC 38, with an echoing peer behind another one."""

    async def engine(_method: str, path: str, _headers: dict[str, str], body: bytes) -> Answer:
        if path.endswith("/messages"):
            return Answer(201, body, {"content-type": OCTETS})
        account_id = json.loads(body).get("id") or str(uuid.uuid4())
        return Answer(201, json.dumps({"id": account_id}).encode(), {"content-type": "application/json"})

    async with (
        open_server(engine) as url,
        open_test_connector("rfc38", engine_url=url) as ours,
        open_test_connector("rfc38", engine_url=url) as theirs,
        open_connector(ours.url) as connector,
    ):
        bob, alice = str(uuid.uuid4()), str(uuid.uuid4())
        bob_there = await ours.create_account(bob)
        await theirs.create_account(alice)
        link_accounts(ours, bob, theirs, alice)

        async def credited() -> Decimal:
            return ours.account(bob).credited

        yield ConnectorBooks(connector, bob_there, credited)


@pytest.mark.parametrize("open_books", [open_in_memory, open_fake, open_real], ids=["memory", "fake", "real"])
async def test_the_real_client_and_the_fakes_keep_the_same_promises(open_books: OpenBooks) -> None:
    """A test that passes with a fake means something, because no fake promises more, or less, than the real one."""
    await check_connector_port(open_books)


class Forgetful(MemoryConnector):
    """Knows no keys."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit whatever comes."""
        return await super().credit(account_id, amount, str(uuid.uuid4()))


class Lazy(MemoryConnector):
    """Acknowledges, and books nothing."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Say yes."""
        return Acknowledged()


class Rough(MemoryConnector):
    """Books binary fractions."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit, roughly."""
        return await super().credit(account_id, Decimal(float(amount)), idempotency_key)


class Correcting(MemoryConnector):
    """Takes another amount under a used key for a correction."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit what is more."""
        outcome = await super().credit(account_id, amount, idempotency_key)
        if isinstance(outcome, Refused):
            self.credited[account_id] = amount
        return Acknowledged()


class Raising(MemoryConnector):
    """Raises where it should answer."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Raise on a conflict."""
        outcome = await super().credit(account_id, amount, idempotency_key)
        assert isinstance(outcome, Acknowledged), "a key never comes with another amount"
        return outcome


@pytest.mark.parametrize(
    ("broken", "claims"),
    [
        (Forgetful, {"credits_once_per_key", "credits_once_in_a_crowd", "credits_nothing_more_under_a_used_key"}),
        (Lazy, {claim.__name__ for claim in PORT_CLAIMS} - {"carries_messages"}),
        (Rough, {"credits_what_it_is_told", "keeps_every_digit"}),
        (Correcting, {"credits_nothing_more_under_a_used_key"}),
        (Raising, {"credits_nothing_more_under_a_used_key"}),
    ],
)
async def test_a_connector_that_lies_is_found_out(broken: Any, claims: set[str]) -> None:
    """Each planted fault breaks exactly the claims it should, and hides no other."""

    @asynccontextmanager
    async def open_broken() -> AsyncIterator[ConnectorBooks]:
        yield memory_books(broken(echo))

    found = await find_port_deviations(open_broken)
    assert found.keys() == claims
    with pytest.raises(AssertionError, match=f"breaks {len(claims)} of {len(PORT_CLAIMS)} claims"):
        await check_connector_port(open_broken)


async def test_messages_without_a_peer_or_changed_on_the_way_are_found_out() -> None:
    """The fake's own failure, and a peer's changed answer, both break the claim on messages."""

    async def shout(_account_id: str, message: bytes) -> bytes:
        return message.upper()

    for answer, told in ((None, "raised ConnectorError"), (shout, "came back as others")):

        @asynccontextmanager
        async def open_broken(answer: Any = answer) -> AsyncIterator[ConnectorBooks]:
            yield memory_books(MemoryConnector(answer))

        found = await find_port_deviations(open_broken)
        assert found.keys() == {"carries_messages"}
        assert told in found["carries_messages"]

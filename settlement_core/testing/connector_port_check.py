"""What the core may expect of any `Connector`: the same promises for the client of a real one and for a fake.

`check_connector` tries connectors over HTTP; this tries what the core talks to, so that no fake can promise more.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

import anyio

from settlement_core.abc import Acknowledged, Connector, CreditOutcome
from settlement_core.values.amounts import total

__all__ = ["PORT_CLAIMS", "ConnectorBooks", "OpenBooks", "check_connector_port", "find_port_deviations"]

CLAIM_S: Final = 60.0
"""Seconds one claim may take."""


@dataclass(frozen=True, slots=True)
class ConnectorBooks:
    """A connector as the core sees it, and how to look into its books.

    Attributes:
        connector: what is tried.
        account_id: an account it has; its peer's engine answers a JSON message with the same message.
        credited: how to read what that account was credited, in standard units.
    """

    connector: Connector
    account_id: str
    credited: Callable[[], Awaitable[Decimal]]

    async def credit(self, amount: Decimal, key: str) -> CreditOutcome:
        """Offer a credit."""
        return await self.connector.credit(self.account_id, amount, key)

    async def expect(self, amount: Decimal, *, after: str) -> None:
        """Look into the books."""
        found = await self.credited()
        assert found == amount, f"credited {found:f} instead of {amount:f} after {after}"


OpenBooks: TypeAlias = Callable[[], AbstractAsyncContextManager[ConnectorBooks]]
"""Opens fresh books."""


async def check_connector_port(open_books: OpenBooks) -> None:
    """Raise AssertionError, naming every broken claim, unless the connector keeps all of `PORT_CLAIMS`."""
    broken = await find_port_deviations(open_books)
    if broken:
        told = "".join(f"\n- {name}: {problem}" for name, problem in broken.items())
        raise AssertionError(f"this connector breaks {len(broken)} of {len(PORT_CLAIMS)} claims:{told}")


async def find_port_deviations(open_books: OpenBooks) -> dict[str, str]:
    """Return the broken claims by name, each with what was found instead. Every claim gets fresh books."""
    broken: dict[str, str] = {}
    for claim in PORT_CLAIMS:
        async with open_books() as books:
            # caught in here: whatever task groups the connector is made of would wrap it
            try:
                with anyio.fail_after(CLAIM_S):
                    await claim(books)
            except TimeoutError:
                broken[claim.__name__] = f"not done within {CLAIM_S:g} s"
            except AssertionError as error:
                broken[claim.__name__] = str(error)
            except Exception as error:  # noqa: BLE001 - a connector must not raise, whatever it is
                broken[claim.__name__] = f"raised {type(error).__name__}: {error}"
    return broken


# the claims


async def credits_what_it_is_told(books: ConnectorBooks) -> None:
    """A credit that is acknowledged is booked, to the last digit."""
    _expect_acknowledged(await books.credit(Decimal("4.682"), _key()))
    await books.expect(Decimal("4.682"), after="4.682 under one key")


async def credits_every_key(books: ConnectorBooks) -> None:
    """The same amount under another key is another settlement."""
    for _ in range(3):
        _expect_acknowledged(await books.credit(Decimal("0.5"), _key()))
    await books.expect(Decimal("1.5"), after="0.5 under three keys")


async def credits_once_per_key(books: ConnectorBooks) -> None:
    """However often a credit is repeated under its key, it is acknowledged each time, and booked once."""
    key = _key()
    for _ in range(3):
        _expect_acknowledged(await books.credit(Decimal(7), key))
    await books.expect(Decimal(7), after="7 offered three times under one key")


async def credits_once_in_a_crowd(books: ConnectorBooks) -> None:
    """Ten repetitions at the same time are booked once."""
    key = _key()
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(books.credit, Decimal(3), key)
    await books.expect(Decimal(3), after="3 offered ten times at once under one key")


async def credits_nothing_more_under_a_used_key(books: ConnectorBooks) -> None:
    """A key is tied to its first amount: another one is not acknowledged, and changes nothing."""
    key = _key()
    _expect_acknowledged(await books.credit(Decimal(7), key))
    outcome = await books.credit(Decimal(8), key)
    assert not isinstance(outcome, Acknowledged), "another amount under the same key was acknowledged"
    await books.expect(Decimal(7), after="7 and then 8 under one key")


async def keeps_every_digit(books: ConnectorBooks) -> None:
    """Amounts beyond 64 bits and beyond floating point are booked exactly."""
    amounts = (Decimal("9" * 60), Decimal(2**53 + 1), Decimal(1).scaleb(-24))
    for amount in amounts:
        _expect_acknowledged(await books.credit(amount, _key()))
    await books.expect(total(amounts), after="amounts beyond 64 bits")


async def carries_messages(books: ConnectorBooks) -> None:
    """What the peer's engine answers comes back."""
    for message in (b'"hello"', json.dumps({"data": "\u20ac" * 1000}).encode()):
        answer = await books.connector.send_message(books.account_id, message)
        assert json.loads(answer) == json.loads(message), f"a message of {len(message)} bytes came back as others"


def _expect_acknowledged(outcome: CreditOutcome) -> None:
    assert isinstance(outcome, Acknowledged), f"a credit was not acknowledged: {outcome}"


def _key() -> str:
    return str(uuid.uuid4())


PortClaim: TypeAlias = Callable[[ConnectorBooks], Awaitable[None]]

PORT_CLAIMS: Final = (
    credits_what_it_is_told,
    credits_every_key,
    credits_once_per_key,
    credits_once_in_a_crowd,
    credits_nothing_more_under_a_used_key,
    keeps_every_digit,
    carries_messages,
)
"""Every claim, its name as its promise. One claim fails without hiding the others."""

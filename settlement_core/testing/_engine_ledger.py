"""What an engine's author gives to `check_engine`: the engine, and the buttons of a ledger it can be tried on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias

from settlement_core.abc import AccountServices

__all__ = ["BUTTONS", "LedgerControls", "OpenLedger", "button"]


class LedgerControls(Protocol):
    """An engine's ledger in the hands of the check, and how the engine is connected to it.

    The ledger survives whatever happens to the engine. Optional members, each an async function; promises that need
    a missing one are skipped, and reported as skipped:

    - `make_final()`: bring everything submitted so far to its end: produce the blocks, or wait for them. Called
      often. Without it the ledger is taken to be final at once.
    - `answer(account_id, message) -> message`: what the peer's engine answers to a JSON message; raise
      `ConnectorError` for a peer that does not answer. Without it no peer ever answers.
    - `lose_next_request()`: the next submission never arrives; the engine gets no answer, or an error.
    - `lose_next_reply()`: the next submission arrives; the engine gets no answer, or an error.
    - `reject_next()`: the next submission is refused for good, at once or when it would have become final.
    - `reorganise()`: whatever was submitted but is not final is thrown back, or forgotten.
    - `pay_us(account_id, amount)`: the peer pays us for good. The account is set up by then.
    - `pay_us_as_stranger(amount)`: somebody pays us of whom no account is known.
    - `fall_behind(share)`: from now on this share of the engine's look-ups, 0 to 1, drawn anew for each, is answered by
      a replica that holds nothing of what happens after this call; the others by one that holds everything. The
      engine's submissions arrive all the same, and the check itself sees everything.
    - `prune(share)`: the same with a replica that holds nothing of what happened before this call.
    - `catch_up()`: every look-up is answered by a replica that holds everything, as at the beginning.
    """

    def connect(self, services: AccountServices, /) -> Any:
        """Make the engine, as any `ConnectEngine` does; called anew after every restart."""
        ...

    async def paid(self, account_id: str) -> Decimal:
        """Return what the ledger has moved to the account's peer *for good*, in standard units.

        What can still be taken back does not count.
        """
        ...


OpenLedger: TypeAlias = Callable[[], AbstractAsyncContextManager[LedgerControls]]
"""Opens a ledger on which nothing has been paid. May be the same one each time: accounts have fresh ids."""

BUTTONS: Final[tuple[str, ...]] = (
    "make_final",
    "answer",
    "lose_next_request",
    "lose_next_reply",
    "reject_next",
    "reorganise",
    "pay_us",
    "pay_us_as_stranger",
    "fall_behind",
    "prune",
    "catch_up",
)
"""The optional members."""


def button(ledger: LedgerControls, name: str) -> Callable[..., Awaitable[Any]] | None:
    """Return an optional member, or None if the ledger has no such button."""
    assert name in BUTTONS, name
    member = getattr(ledger, name, None)
    return member if callable(member) else None

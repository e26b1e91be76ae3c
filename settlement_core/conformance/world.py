"""What the checks share: the engine under test, the connector it talks to, and what it was asked to settle.

Every account has an id of its own, so that one check's money is never mistaken for another's, and every amount is
small: one unit of the finest scale, or far less.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from settlement_core.conformance.client import JSON, OCTETS, Answer, Client
from settlement_core.conformance.connector import Connector
from settlement_core.conformance.findings import NotObserved
from settlement_core.values.amounts import Quantity, total

__all__ = ["ENDPOINT_S", "QUIET_S", "Options", "World", "new_key"]

ENDPOINT_S: Final = 5.0
"""Seconds after which Interledger.rs gives up on an engine and repeats its request."""

QUIET_S: Final = 0.5
"""Seconds in which a payment too many would show, after everything that was owed has arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to examine an engine.

    Attributes:
        asset_scale: the finest scale the ledger settles; amounts are one unit of it.
        patience_s: seconds to wait for what an engine does in its own time.
        pays_itself: what the engine settles comes back to it as an incoming settlement of the same account.
        message: a message the engine understands, if one is known.
        restart: restarts the engine, abruptly; returns once it answers again. None if that cannot be done.
        ca_file: PEM authorities to trust instead of the system's.
    """

    asset_scale: int = 9
    patience_s: float = 10.0
    pays_itself: bool = False
    message: bytes | None = None
    restart: Callable[[], Awaitable[None]] | None = None
    ca_file: str | None = None


def new_key() -> str:
    """Return an idempotency key from a cryptographically secure source."""
    return f"conformance-{secrets.token_hex(16)}"


@dataclass(slots=True, kw_only=True)
class World:
    """One examination.

    Attributes:
        prefix: what all account ids of this examination begin with.
        opened: the accounts that were opened, to be deleted in the end.
        deleted: those that were deleted meanwhile, of whose money RFC 38 says nothing.
        accepted: what the engine took on itself to settle: by account, then by key.
    """

    client: Client
    connector: Connector
    options: Options
    prefix: str = field(default_factory=lambda: f"conformance-{secrets.token_hex(4)}")
    opened: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    accepted: defaultdict[str, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(dict))

    def name(self, purpose: str) -> str:
        """Return the account id for a purpose."""
        return f"{self.prefix}-{purpose}"

    async def create(self, body: Any, *, content_type: str = JSON) -> Answer:
        """Ask for an account; `body` is sent as JSON, and what was opened is noted."""
        answer = await self.client.send(
            "POST", "/accounts", json.dumps(body).encode(), {"content-type": content_type, "accept": JSON}
        )
        if answer.ok and isinstance(body, dict):
            content = answer.json()
            given = content.get("id") if isinstance(content, dict) else None
            opened = given if isinstance(given, str) else body.get("id")
            if isinstance(opened, str) and opened not in self.opened:
                self.opened.append(opened)
        return answer

    async def account(self, purpose: str) -> str:
        """Return an account that is open; raise `NotObserved` if the engine opens none."""
        account_id = self.name(purpose)
        if account_id not in self.opened:
            answer = await self.create({"id": account_id})
            if not answer.ok:
                raise NotObserved(f"needs an account, and opening one was answered {answer}")
        return account_id

    async def delete(self, account_id: str) -> Answer:
        """Ask the engine to delete an account."""
        self.deleted.add(account_id)
        return await self.client.send("DELETE", f"/accounts/{quote(account_id, safe='')}")

    async def settle(
        self,
        account_id: str,
        amount: str = "1",
        scale: int | None = None,
        *,
        key: str | None = None,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for one settlement, by default of one unit of the asset's scale under a fresh key."""
        scale = self.options.asset_scale if scale is None else scale
        key = new_key() if key is None else key
        body = json.dumps({"amount": amount, "scale": scale}).encode()
        sent = {"content-type": JSON, "accept": JSON, "idempotency-key": key, **(headers or {})}
        answer = await self.client.send("POST", path or f"/accounts/{account_id}/settlements", body, sent)
        if answer.ok:
            # the first time counts: whatever the same key is sent with later is the same settlement
            self.accepted[account_id].setdefault(key, Quantity(amount, scale).to_amount())
        return answer

    async def try_body(self, account_id: str, body: bytes, *, content_type: str = JSON) -> Answer:
        """Ask for a settlement with any body, under a fresh key."""
        sent = {"content-type": content_type} if content_type else {}
        sent |= {"accept": JSON, "idempotency-key": new_key()}
        return await self.client.send("POST", f"/accounts/{account_id}/settlements", body, sent)

    async def tell(self, account_id: str, message: bytes, *, content_type: str = OCTETS) -> Answer:
        """Hand the engine a message, as though its peer had sent it."""
        headers = {"content-type": content_type, "accept": OCTETS}
        return await self.client.send("POST", f"/accounts/{account_id}/messages", message, headers)

    def expected(self, account_id: str) -> Decimal:
        """Return what an account's settlements add up to, each key once."""
        return total(self.accepted[account_id].values())

    def require_return(self) -> None:
        """Raise `NotObserved` unless settlements come back as credits."""
        if not self.options.pays_itself:
            raise NotObserved("needs an engine whose payments come back to it (--pays-itself)")

    def require_restart(self) -> Callable[[], Awaitable[None]]:
        """Return what restarts the engine; raise `NotObserved` if nothing does."""
        if self.options.restart is None:
            raise NotObserved("needs a way to restart the engine (--restart-command)")
        return self.options.restart

    async def restart(self) -> None:
        """Restart the engine."""
        await self.require_restart()()

"""What the core does for an engine: the `AccountServices` of the ports."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from settlement_core.abc import Connector, Observer
from settlement_core.core.journal import Journal
from settlement_core.core.sharing import Sharing
from settlement_core.values.amounts import check_amount
from settlement_core.values.commands import Applied, Assign, Enqueue, Entered, Get, Put, Suspend
from settlement_core.values.errors import (
    ConnectorError,
    InvalidAmount,
    LeadershipLost,
    LeaseLost,
    LocalError,
    SuspenseConflict,
)
from settlement_core.values.events import MoneyUnattributed, SettlementReceived, StandingBy
from settlement_core.values.identifiers import check_account_id, check_key, check_value_key
from settlement_core.values.json_text import decode_json, encode_json
from settlement_core.values.records import Direction

__all__ = ["MAX_MESSAGE", "Services"]

MAX_MESSAGE = 32_767
"""Bytes: the most that every connector carries in one packet."""


class Services:
    """Fulfils `AccountServices`. Usable as soon as the engine is being made, before the accounts' lanes run."""

    def __init__(
        self,
        *,
        journal: Journal,
        sharing: Sharing,
        connector: Connector,
        observer: Observer,
        now: Callable[[], float],
        ring: Callable[[str, Direction, Entered, int], None],
        nudge: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._sharing = sharing
        self._connector = connector
        self._observer = observer
        self._now = now
        self._ring = ring
        self._nudge = nudge

    async def send_message(self, account_id: str, message: Any) -> Any:
        """Send a JSON value to the peer's engine; an answer that is not JSON comes back as text."""
        content = _as_json(message, "message").encode()
        if len(content) > MAX_MESSAGE:
            raise LocalError(f"message of {len(content)} bytes: connectors carry {MAX_MESSAGE}; nothing was sent")
        answer = await self._connector.send_message(check_account_id(account_id), content)
        try:
            return decode_json(answer)
        except ValueError:
            pass
        try:
            return answer.decode()
        except UnicodeDecodeError:
            raise ConnectorError(
                f"message for account {account_id!r} was answered with {len(answer)} bytes that are not text"
            ) from None

    async def credit_settlement(self, account_id: str, amount: Decimal, settlement_id: str | None = None) -> None:
        """Make an incoming settlement durable and have its account tell the connector."""
        entry = Enqueue(
            account_id=check_account_id(account_id),
            direction=Direction.INCOMING,
            entry_id=str(uuid.uuid4()) if settlement_id is None else check_key(settlement_id, "settlement id"),
            amount=_above_zero(amount),
            at=self._now(),
        )
        try:
            await self._journal.submit(entry, partial(self._received, entry)).wait()
        except SuspenseConflict:
            await self._take_up(entry)

    async def _take_up(self, entry: Enqueue) -> None:
        """Credit what the engine could not attribute before, and can by now; refuse what an operator decided otherwise.

        An engine scans again after a crash, and may know meanwhile who paid: that is no second payment.
        """
        taken = Assign(
            settlement_id=entry.entry_id,
            account_id=entry.account_id,
            reason="the engine has learned whose it is",
            by="engine",
            at=self._now(),
            amount=entry.amount,
            learned=True,
        )
        await self._journal.submit(taken, partial(self._received, entry)).wait()

    async def report_unattributed(self, settlement_id: str, amount: Decimal, details: Any) -> None:
        """Keep money whose owner cannot be told, visible until an operator assigns it."""
        command = Suspend(
            settlement_id=check_key(settlement_id, "settlement id"),
            amount=_above_zero(amount),
            details=decode_json(_as_json(details, "details")),
            at=self._now(),
        )
        await self._journal.submit(command, partial(self._suspended, command)).wait()

    def try_settlement(self, account_id: str) -> None:
        """Have the account look for something to settle now."""
        self._nudge(account_id)

    async def load(self, key: str, account_id: str | None = None) -> Any:
        """Return what was saved under `key`, or None."""
        return await self._journal.ask(Get(account_id=_owner(account_id), key=check_value_key(key)))

    async def save(self, key: str, value: Any, account_id: str | None = None) -> None:
        """Keep a JSON value durably; None deletes it."""
        owner = _owner(account_id)
        check_value_key(key)
        kept = decode_json(_as_json(value, f"value for {key!r}"))
        # what the engine as a whole remembers is its leader's to change
        lease = (not owner and self._sharing.lead_token) or ""
        try:
            await self._journal.ask(Put(account_id=owner, key=key, value=kept, lease=lease))
        except LeaseLost:
            raise LeadershipLost(self._sharing.worker) from None

    async def lead(self) -> None:
        """Wait until this worker alone runs the engine."""
        worker = self._sharing.worker
        await self._sharing.lead(lambda: self._observer.observe(StandingBy(worker=worker)))

    # what follows from a record, even if whoever made it no longer waits

    def _received(self, entry: Enqueue, entered: Entered, number: int) -> None:
        self._ring(entry.account_id, entry.direction, entered, number)
        if not entered.replay:
            self._observer.observe(
                SettlementReceived(account_id=entry.account_id, settlement_id=entry.entry_id, amount=entry.amount)
            )

    def _suspended(self, command: Suspend, applied: Applied, _: int) -> None:
        if applied.changed:
            self._observer.observe(MoneyUnattributed(settlement_id=command.settlement_id, amount=command.amount))


def _above_zero(amount: Decimal) -> Decimal:
    checked = check_amount(amount, "settlement amount")
    if checked == 0:
        raise InvalidAmount("settlement amount", "it is zero")
    return checked


def _owner(account_id: str | None) -> str:
    """Return whose an engine value is: the account's, or "" for the engine as a whole."""
    return "" if not account_id else check_account_id(account_id)


def _as_json(value: Any, what: str) -> str:
    try:
        return encode_json(value)
    except ValueError as problem:
        raise LocalError(f"cannot use this {what}: {problem}; nothing was recorded or sent") from None

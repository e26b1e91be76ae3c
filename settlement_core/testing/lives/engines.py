"""Engines of both contracts on the lives' ledger. They keep nothing themselves: a cursor is saved through the core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

import anyio

from settlement_core.abc import AccountServices, Pending, Rejected, Settled, Verdict
from settlement_core.testing.lives.ledger import EXPIRES_S, Fate, Ledger, Tx
from settlement_core.testing.lives.network import AnsweredError, Network, NoAnswer
from settlement_core.testing.lives.script import ACCOUNTS, SIDES, Place, Setting
from settlement_core.testing.lives.witness import Witness
from settlement_core.values.amounts import subtract
from settlement_core.values.errors import ConnectorError, SettlementFailed, SuspenseConflict, UnknownAccount
from settlement_core.values.records import Payment

__all__ = ["engine_of"]

_LOOKS = 100
"""How often a minimal engine asks for a transaction until it gives up."""

_SCAN_S = (5.0, 600.0)
"""Between two looks for payments: at first, and at most, as long as none are found."""


@dataclass(slots=True)
class _OnLedger:
    """What both engines do: find payments, and tell the peer's engine where to pay."""

    worker: str
    side: str
    services: AccountServices
    ledger: Ledger
    network: Network
    witness: Witness
    setting: Setting
    numbers: count[int]

    @property
    def asset_scale(self) -> int | None:
        """The finest the ledger pays."""
        return self.setting.ledger_scale

    async def setup_account(self, account_id: str) -> None:
        """Ask the peer's engine where to pay."""
        answer = await self.services.send_message(account_id, {"ask": "address"})
        if answer not in SIDES or answer == self.side:
            raise ConnectorError(f"the peer would be paid at {answer!r:.50}")

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Tell where to pay."""
        del account_id, message
        return self.side

    async def run_scan(self) -> None:
        """Credit every final payment; the cursor moves once all up to it are durable."""
        cursor = await self.services.load("cursor") or 0
        pause_s = _SCAN_S[0]
        while True:
            try:
                page = await self._ask_ledger(Place.SCAN, lambda: self.ledger.events(self.side, 0))
            except (NoAnswer, AnsweredError):
                page = []
            news = [(seq, tx) for seq, tx in page if seq > cursor]
            # one that is known already, and all in the wrong order: a ledger's feed may do both
            for _, tx in reversed([*[pair for pair in page if pair[0] <= cursor][-1:], *news]):
                await self._credit(tx)
            if news:
                cursor = max(seq for seq, _ in news)
                await self.services.save("cursor", cursor)
                pause_s = _SCAN_S[0]
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, _SCAN_S[1])

    async def _credit(self, tx: Tx) -> None:
        if tx.memo in ACCOUNTS:
            try:
                await self.services.credit_settlement(tx.memo, tx.amount, tx.tx_id)
            except UnknownAccount:
                pass
            except SuspenseConflict:
                return  # a person dismissed it, and will find out that it is ours
            else:
                return
        await self.services.report_unattributed(tx.tx_id, tx.amount, {"memo": tx.memo})

    async def _ask_ledger(self, place: Place, look: Callable[[], Any]) -> Any:
        return await self.network.call(self.side, place, lambda reply: reply(look()))

    async def _make(self, account: str, amount: Decimal, attempt_id: str) -> Tx:
        """Return a new transaction, whose id is another each time."""
        height = await self._ask_ledger(Place.LOOK_UP, self.ledger.now)
        tx = Tx(
            tx_id=f"tx{next(self.numbers)}",
            to=_peer_of(self.side),
            memo=account,
            amount=subtract(amount, Decimal(1)) if self.setting.piecemeal and amount > 2 else amount,
            expires_at=height + EXPIRES_S,
            attempt_id=attempt_id,
        )
        self.witness.prepared(self.worker, attempt_id, tx.tx_id, tx.expires_at)
        return tx

    async def _send(self, tx: Tx) -> None:
        def arrive(reply: Callable[[object], None]) -> None:
            self.ledger.submit(tx)
            reply("taken")

        await self.network.call(self.side, Place.SUBMIT, arrive, fails=lambda: self.ledger.failing.add(tx.tx_id))

    async def _look_up(self, tx_id: str, expires_at: float) -> Fate:
        fate: Fate = await self._ask_ledger(Place.LOOK_UP, lambda: self.ledger.fate(tx_id, expires_at))
        return fate


class _Verifiable(_OnLedger):
    """Leaves nothing to a person."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Make a transaction."""
        tx = await self._make(account_id, amount, attempt_id)
        facts = {"tx": tx.tx_id, "account": account_id, "attempt": attempt_id, "expires_at": tx.expires_at}
        return Payment(tx.amount, facts)

    async def submit(self, payment: Payment) -> None:
        """Send it."""
        facts = _facts(payment)
        self.witness.submits(self.worker, facts["account"], facts["attempt"], payment)
        await self._send(
            Tx(
                facts["tx"],
                _peer_of(self.side),
                facts["account"],
                payment.amount,
                facts["expires_at"],
                facts["attempt"],
            )
        )

    async def verify(self, payment: Payment) -> Verdict:
        """Believe the ledger."""
        facts = _facts(payment)
        match await self._look_up(facts["tx"], facts["expires_at"]):
            case Fate.FINAL:
                return Settled(payment.amount)
            case Fate.REFUSED:
                return Rejected("refused or expired")
            case Fate.UNKNOWN:
                self.witness.may_submit(self.worker, payment)
                return Pending(2.0, resubmit=True)
            case _:
                return Pending(5.0)


class _Minimal(_OnLedger):
    """Pays and waits for the ledger; an answer that it does not get leaves the amount in doubt."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        attempt_id = self.witness.settles(self.worker, account_id, amount)
        self.witness.paying.add(attempt_id)
        try:
            tx = await self._make(account_id, amount, attempt_id)
            await self._send(tx)
            for _ in range(_LOOKS):
                match await self._look_up(tx.tx_id, tx.expires_at):
                    case Fate.FINAL:
                        return tx.amount
                    case Fate.REFUSED:
                        raise SettlementFailed("refused or expired")
                await anyio.sleep(2.0)
            raise TimeoutError("the ledger never made up its mind")
        finally:
            self.witness.paying.discard(attempt_id)


def engine_of(
    *,
    worker: str,
    side: str,
    ledger: Ledger,
    network: Network,
    witness: Witness,
    setting: Setting,
    numbers: count[int],
) -> Callable[[AccountServices], Any]:
    """Return the `ConnectEngine` of one worker."""
    kind = _Verifiable if setting.verifiable[SIDES.index(side)] else _Minimal

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[_OnLedger]:
        if setting.leading:
            await services.lead()
            witness.leads(worker)
        engine = kind(worker, side, services, ledger, network, witness, setting, numbers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run_scan, name=f"scan of {worker}")
            yield engine
            tasks.cancel_scope.cancel()

    return connect


def _peer_of(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]


def _facts(payment: Payment) -> dict[str, Any]:
    assert isinstance(payment.reference, dict)
    return payment.reference

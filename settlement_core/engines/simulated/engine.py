"""The engine for the simulated ledger, and the one to copy: it can be killed at any instruction.

Outgoing, the payment is fixed before anything happens, carries an id of ours, and may be submitted any number of
times; what became of it is only ever believed from the ledger. Incoming, a durable cursor moves past an entry only
after its credit is durable, so every entry is credited at least once, and its settlement id makes that exactly once.

Absence is evidence only from a replica that holds the range in question. Each answer of the ledger tells what its
replica holds: a payment counts as unknown, and the cursor moves, only within that.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import anyio
import anyio.to_thread

from settlement_core.abc import AccountServices, Pending, Rejected, Settled, Verdict
from settlement_core.engines.simulated.ledger import SimulatedLedger, open_ledger
from settlement_core.engines.simulated.messages import (
    PaymentDetails,
    PeerError,
    error_answer,
    is_question,
    read_details,
)
from settlement_core.engines.simulated.records import (
    IncomingEntry,
    LedgerBroken,
    LedgerIncomplete,
    LedgerRefused,
    LedgerUnavailable,
    Transfer,
    TransferState,
)
from settlement_core.values.backoff import Backoff
from settlement_core.values.errors import LocalError, SuspenseConflict, UnknownAccount
from settlement_core.values.records import Payment

__all__ = ["SimulatedEngine", "simulated_engine"]

# In a payment's reference, beside the transfer.
_SINCE = "since"

# What the engine keeps through the core: under an account …
_PEER_DETAILS = "peer-details"
_OWN_MEMO = "own-memo"
# … and for itself
_LEDGER = "ledger"
_CURSOR = "incoming-cursor"
_ACCOUNT_OF_MEMO = "account-of-memo:"

# Entries credited side by side, and perhaps once more after a crash.
_PAGE = 100

# One connection, so more threads would only wait for each other; two, so that a delayed reply delays one.
_THREADS = 2

_READ_BACKOFF = Backoff(first_s=0.1, max_s=30.0)

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def simulated_engine(
    path: str | Path,
    address: str,
    *,
    poll_interval_s: float = 0.1,
    asset: str = "",
    clock: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
) -> Callable[[AccountServices], AbstractAsyncContextManager[SimulatedEngine]]:
    """Return the `ConnectEngine` that settles from and to one address of the ledger in a file.

    Args:
        path: the ledger's file, which must exist.
        address: ours on the ledger, which must exist. All accounts share it; memos tell them apart.
        poll_interval_s: seconds between two looks for incoming entries, and for a transfer's state while the
            ledger makes blocks by hand.
        asset: the label of what is settled in, such as "EUR".
        clock: the ledger's time in seconds.
        chance: random numbers in [0, 1), for jitter.
    """

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[SimulatedEngine]:
        ledger = await anyio.to_thread.run_sync(partial(open_ledger, path, clock=clock))
        try:
            engine = SimulatedEngine(services, ledger, address, poll_interval_s=poll_interval_s, chance=chance)
            engine.asset = asset
            await engine.check_ledger()
            # An exception of the scan leaves through this task group: a deaf engine must not go on paying.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(engine.run_incoming_scan, name=f"incoming scan of {address}")
                yield engine
                tasks.cancel_scope.cancel()
        finally:
            ledger.close()

    return connect


class SimulatedEngine:
    """Settles over a simulated ledger; get it from `simulated_engine`.

    A payment's reference is the whole transfer, whose id is the attempt's, and the height since which it can be on the
    ledger. Everything durable is kept through the
    core's services, never here.
    """

    asset = ""

    def __init__(
        self,
        services: AccountServices,
        ledger: SimulatedLedger,
        address: str,
        *,
        poll_interval_s: float,
        chance: Callable[[], float],
    ) -> None:
        self.asset_scale = ledger.settings.asset_scale
        self._services = services
        self._ledger = ledger
        self._address = address
        self._poll_interval_s = poll_interval_s
        self._chance = chance
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._memo_lock = anyio.Lock()

    def __repr__(self) -> str:
        return f"<SimulatedEngine at address {self._address!r} of {self._ledger!r}>"

    # outgoing

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Fix the payment. Without effect, so it may raise: if the peer does not say where to pay, we ask later."""
        peer = await self._peer_details(account_id)
        held = await self._in_thread(self._ledger.held)
        transfer = Transfer(
            tx_id=attempt_id, source=self._address, destination=peer.address, amount=amount, memo=peer.memo
        )
        return Payment(amount, {**transfer.to_json(), _SINCE: held.height})

    async def submit(self, payment: Payment) -> None:
        """Hand the transfer to the ledger, which applies an id at most once however often it comes."""
        await self._in_thread(self._ledger.submit, _transfer_of(payment))

    async def verify(self, payment: Payment) -> Verdict:
        """Believe the ledger, and only what is final."""
        transfer = _transfer_of(payment)
        status = await self._in_thread(self._ledger.lookup, transfer.tx_id)
        if status.transfer is None and _since(payment) not in status.held:
            # it may be in a block that this replica has not got yet, or has got no more
            problem = f"holds blocks {status.held.lowest} to {status.held.height}, not {_since(payment)}"
            raise LedgerIncomplete(f"what became of transaction {transfer.tx_id!r}", problem)
        if status.transfer not in {None, transfer}:
            # Somebody else's money under our id. Neither "settled" nor "pay again" would be true.
            raise LedgerBroken(f"transaction {transfer.tx_id!r} on the ledger is not the one we prepared")
        match status.state:
            case TransferState.CONFIRMED:
                return Settled(transfer.amount)
            case TransferState.FAILED:
                return Rejected(status.reason)
            case TransferState.UNKNOWN:
                # Lost on its way, vanished in a reorganisation, or still under way: never a failure.
                return Pending(self._block_time_s, resubmit=True)
            case TransferState.PENDING | TransferState.INCLUDED:
                return Pending(self._block_time_s)

    @property
    def _block_time_s(self) -> float:
        return self._ledger.settings.block_time_s or self._poll_interval_s

    # incoming

    async def run_incoming_scan(self) -> None:
        """Credit everything that ever arrives, in pages; return never.

        Nothing but a ledger that does not answer is retried here: any other exception ends the engine.
        """
        cursor = await self._services.load(_CURSOR) or 0
        failures = 0
        while True:
            try:
                entries = await self._next_entries(cursor)
            except LedgerUnavailable as error:
                failures += 1
                delay_s = _READ_BACKOFF.delay_s(failures, self._chance())
                _log.warning("cannot look for incoming payments: %s; next try in %.1f s", error, delay_s)
                await anyio.sleep(delay_s)
                continue
            failures = 0
            if entries:
                await self._credit_page(entries)
                cursor = max(cursor, entries[-1].seq)
                # After the credits: a crash in between repeats the page, under the same settlement ids.
                await self._services.save(_CURSOR, cursor)
            if len(entries) < _PAGE:
                await anyio.sleep(self._poll_interval_s)

    async def _next_entries(self, cursor: int) -> list[IncomingEntry]:
        """Return what follows the cursor; raise `LedgerIncomplete` if there is a gap that may hold money."""
        page = await self._in_thread(self._ledger.incoming, self._address, after_seq=cursor, limit=_PAGE)
        if page.first_seq > cursor + 1:
            problem = f"holds those from {page.first_seq} on"
            raise LedgerIncomplete(f"incoming entries from {cursor + 1} on", problem)
        return page.entries

    async def _credit_page(self, entries: list[IncomingEntry]) -> None:
        # Side by side, so that the core makes all of them durable in one go.
        async with anyio.create_task_group() as credits_:
            for entry in entries:
                credits_.start_soon(self._credit, entry)

    async def _credit(self, entry: IncomingEntry) -> None:
        """Credit an entry to the account its memo belongs to, or to nobody yet: a stranger must not block us."""
        # Not the transaction alone: one ledger event, one settlement id.
        settlement_id = f"{entry.tx_id}:{entry.seq}"
        account_id = await self._services.load(_ACCOUNT_OF_MEMO + entry.memo)
        if account_id is not None:
            try:
                await self._services.credit_settlement(account_id, entry.amount, settlement_id)
            except UnknownAccount:
                pass
            except SuspenseConflict as conflict:
                # an operator decided before we knew better: it is credited once, where the operator said
                _log.warning("entry %s was found to be account %r's: %s", settlement_id, account_id, conflict)
                return
            else:
                return
        details = {"transaction": entry.tx_id, "source": entry.source, "memo": entry.memo, "account": account_id}
        await self._services.report_unattributed(settlement_id, entry.amount, details)

    # the peer

    async def setup_account(self, account_id: str) -> None:
        """Learn where the peer wants to be paid, and tell it where we do. Raises until it answers."""
        await self._peer_details(account_id)

    async def close_account(self, account_id: str) -> None:
        """Forget where the peer was paid. Our memo stays for ever: the peer may still pay with it."""
        await self._services.save(_PEER_DETAILS, None, account_id)

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer the peer's engine. Repeated messages get the same answer."""
        if not is_question(message):
            return error_answer("this engine only knows messages of type paymentDetails")
        try:
            details = await self._checked_details(message)
        except LocalError as error:
            return error_answer(str(error))
        if details is not None:
            await self._services.save(_PEER_DETAILS, details.to_json(), account_id)
        return (await self._own_details(account_id)).to_json()

    async def _peer_details(self, account_id: str) -> PaymentDetails:
        """Return where the peer wants to be paid, asking it if it has not said. Raises PeerError, ConnectorError."""
        saved = await self._services.load(_PEER_DETAILS, account_id)
        if saved is not None:
            return cast("PaymentDetails", read_details(saved))
        question = (await self._own_details(account_id)).to_json()
        answer = await self._services.send_message(account_id, question)
        try:
            details = await self._checked_details(answer)
        except LocalError as error:
            # no more of the answer than this: it may be anything, of any length
            raise PeerError(account_id, f"{error}; its answer was {answer!r:.200}") from error
        if details is None:
            raise PeerError(account_id, "its answer holds none")
        await self._services.save(_PEER_DETAILS, details.to_json(), account_id)
        return details

    async def _checked_details(self, message: Any) -> PaymentDetails | None:
        """Return the details a peer told, if they could be paid; raise a LocalError if not."""
        details = read_details(message)
        if details is None:
            return None
        if details.address == self._address:
            raise LedgerRefused(f"address {details.address!r} is the one who is to pay")
        if not await self._in_thread(self._ledger.has_address, details.address):
            raise LedgerRefused(f"address {details.address!r} does not exist")
        return details

    async def _own_details(self, account_id: str) -> PaymentDetails:
        """Return where we want to be paid for this account, for ever the same."""
        async with self._memo_lock:
            memo = await self._services.load(_OWN_MEMO, account_id)
            if memo is None:
                memo = secrets.token_hex(16)
                # First, so that no peer can ever know a memo whose account we do not; not even of another worker.
                await self._services.save(_ACCOUNT_OF_MEMO + memo, account_id)
                await self._services.save(_OWN_MEMO, memo, account_id)
        return PaymentDetails(self._address, memo)

    # the ledger

    async def check_ledger(self) -> None:
        """Raise a LocalError unless this is the ledger, and the address, that our saved cursor and memos belong to."""
        if not await self._in_thread(self._ledger.has_address, self._address):
            raise LedgerRefused(f"our address {self._address!r} does not exist; open it on the ledger first")
        found = {"ledger_id": self._ledger.ledger_id, "address": self._address}
        saved = await self._services.load(_LEDGER)
        if saved not in (None, found):
            raise LedgerRefused(f"this store belongs to {saved}, not to {found}; use another store")
        if saved is None:
            await self._services.save(_LEDGER, found)

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the ledger without holding up the event loop. A call once begun is never cut in half."""
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._threads)


def _transfer_of(payment: Payment) -> Transfer:
    reference = cast("dict[str, Any]", payment.reference)
    return Transfer.from_json({name: value for name, value in reference.items() if name != _SINCE})


def _since(payment: Payment) -> int:
    """Return the height at which a payment was prepared: it is in no earlier block."""
    height: int = cast("dict[str, Any]", payment.reference).get(_SINCE, 0)
    return height

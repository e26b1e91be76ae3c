"""Incoming: every payment to our address in a final block is credited once, or kept for a person to assign.

A durable cursor of heights and hashes moves past a block only after everything in it is durable, so a crash repeats
some blocks, under the same settlement ids: chain, transaction and, for tokens, the number of the log among its
transaction's. That number stays the same when the transaction moves to another block; the node's own `logIndex`
does not. Whose a payment is, is decided once and written down before it is acted upon: a peer that becomes known
between two tries must not have the same money both credited and waiting for a person.

Ether that a contract passes on is in no transaction's own value, so it is not seen here.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import anyio

from settlement_core.abc import AccountServices
from settlement_core.engines.ethereum.chain import Block, Chain, Receipt
from settlement_core.engines.ethereum.rpc import NodeError, NodeRefused, NodeUnavailable
from settlement_core.engines.ethereum.state import State
from settlement_core.engines.ethereum.transactions import amount_of
from settlement_core.engines.ethereum.watching import NODE_BACKOFF
from settlement_core.values.errors import IdempotencyConflict, SuspenseConflict, UnknownAccount

__all__ = ["IncomingScan", "Senders"]

_CURSOR = "incoming-cursor"
_OWNERS = "incoming-owners"
_REORGANISED = "reorganised"

_CHECKPOINTS = 128
"""Scanned heights whose hashes are remembered, to find where the chain parted from what was scanned."""

_REMEMBERED = 256
"""Payments whose owners are remembered: more than one step covers, but for a range that holds more."""

_FULL_BLOCKS = 20
"""Blocks read with all their transactions at once."""

_log = logging.getLogger(__name__)


class Senders(Protocol):
    """Whose an address is."""

    async def account_of(self, address: str) -> str | None:
        """Return the account of the peer that pays from this address (lower case), or None."""
        ...


@dataclass(frozen=True, slots=True)
class Deposit:
    """One payment to us. `settlement_id` is its own for ever."""

    settlement_id: str
    sender: str
    units: int
    transaction: str
    block: int


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A scanned height; without a hash there was no block to know."""

    height: int
    block_hash: str


class IncomingScan:
    """Credits what arrives at one address in one asset."""

    def __init__(
        self,
        *,
        chain: Chain,
        scale: int,
        senders: Senders,
        services: AccountServices,
        state: State,
        poll_interval_s: float,
        block_range: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._chain = chain
        self._scale = scale
        self._senders = senders
        self._services = services
        self._state = state
        self._poll_interval_s = poll_interval_s
        self._widest = min(block_range, _FULL_BLOCKS) if chain.token is None else block_range
        self._range = self._widest
        self._chance = chance
        self._trail: list[_Checkpoint] = []

    # where it stands

    async def read_cursor(self) -> int | None:
        """Take up where an earlier run ended; return the newest block it has seen, or None if there was no such run."""
        self._state.reorganised = await self._services.load(_REORGANISED) or ""
        saved = await self._services.load(_CURSOR)
        if saved is None:
            return None
        self._trail = [_Checkpoint(height, block_hash) for height, block_hash in saved]
        self._state.scanned = self._trail[-1].height
        # the first scan may have been told to begin in the future
        return max((point.height for point in self._trail if point.block_hash), default=-1)

    async def begin(self, start_block: int | None, *, final: int) -> None:
        """Decide, durably and once, where the scan begins: at a block, or after the one that is final now."""
        height = final if start_block is None else start_block - 1
        block = (await self._chain.headers([height]))[0] if height >= 0 else None
        await self._save([_Checkpoint(height, "" if block is None else block.block_hash)])

    async def _save(self, trail: list[_Checkpoint]) -> None:
        trail = trail[-_CHECKPOINTS:]
        await self._services.save(_CURSOR, [[point.height, point.block_hash] for point in trail])
        self._trail = trail
        self._state.scanned = trail[-1].height

    # the scan

    async def run(self) -> None:
        """Credit everything that ever arrives; return never. Nothing but a node that fails is survived here."""
        failures = 0
        while True:
            try:
                await self.scan_once()
            except NodeError as error:
                failures += 1
                if self._state.scan_trouble != str(error):
                    _log.warning("cannot look for incoming payments: %s", error)
                self._state.scan_trouble = str(error)
                await anyio.sleep(NODE_BACKOFF.delay_s(failures, self._chance()))
                continue
            failures, self._state.scan_trouble = 0, ""
            await anyio.sleep(self._poll_interval_s)

    async def scan_once(self) -> None:
        """Credit everything up to the block that is final now."""
        final = (await self._chain.look()).final
        while self._trail[-1].height < final:
            first = self._trail[-1].height + 1
            last = min(self._trail[-1].height + self._range, final)
            found = await self._read(first, last)
            if found is None:
                await self._walk_back()
                continue
            deposits, block_hash = found
            await self._take(deposits)
            # after the credits: a crash in between repeats the range, under the same settlement ids
            await self._save([*self._trail, _Checkpoint(last, block_hash)])
            self._range = min(self._range * 2, self._widest)

    async def _read(self, first: int, last: int) -> tuple[list[Deposit], str] | None:
        """Return a range's deposits and its last block's hash, or None if it does not follow what was scanned."""
        read = self._ether if self._chain.token is None else self._tokens
        return await read(first, last)

    def _follows(self, block: Block) -> bool:
        return self._trail[-1].block_hash in {"", block.parent_hash}

    async def _ether(self, first: int, last: int) -> tuple[list[Deposit], str] | None:
        blocks = await self._chain.blocks(range(first, last + 1))
        if not self._follows(blocks[0]):
            return None
        for before, after in itertools.pairwise(blocks):
            _same(before.block_hash, after.parent_hash)
        candidates = [
            (block, transaction)
            for block in blocks
            for transaction in block.transactions
            if transaction.to == self._chain.address != transaction.sender and transaction.value > 0
        ]
        receipts = await self._receipts([transaction.tx_hash for _, transaction in candidates], last)
        deposits = []
        for (block, transaction), receipt in zip(candidates, receipts, strict=True):
            _same(receipt.block_hash, block.block_hash)
            if receipt.succeeded:
                settlement_id = f"{self._chain.chain_id}:{transaction.tx_hash}"
                sender, tx_hash = transaction.sender, transaction.tx_hash
                deposits.append(Deposit(settlement_id, sender, transaction.value, tx_hash, block.number))
        return deposits, blocks[-1].block_hash

    async def _tokens(self, first: int, last: int) -> tuple[list[Deposit], str] | None:
        start, end = await self._ends(first, last)
        if not self._follows(start):
            return None
        try:
            hashes = await self._chain.incoming_transfers(first, last)
        except NodeRefused:
            # the node finds it too much, perhaps: a smaller range may do
            self._range = max(self._range // 2, 1)
            raise
        receipts = await self._receipts(hashes, last)
        # what was read in between belongs to one chain only if that is still the same one
        for before, after in zip((start, end), await self._ends(first, last), strict=True):
            _same(before.block_hash, after.block_hash)
        return [deposit for receipt in receipts for deposit in self._deposits(receipt)], end.block_hash

    async def _ends(self, first: int, last: int) -> tuple[Block, Block]:
        start, end = await self._chain.headers([first, last])
        if start is None or end is None:
            raise NodeUnavailable(f"the node has no block {first if start is None else last}, which should be final")
        return start, end

    async def _receipts(self, hashes: list[str], last: int) -> list[Receipt]:
        found = await self._chain.final_receipts(hashes, final=last)
        for tx_hash, receipt in zip(hashes, found, strict=True):
            if receipt is None:
                raise NodeUnavailable(f"the node has no receipt of transaction {tx_hash} in a final block")
        return [receipt for receipt in found if receipt is not None]

    def _deposits(self, receipt: Receipt) -> list[Deposit]:
        found = []
        for log in receipt.logs:
            transfer = log.transfer() if log.address == self._chain.token else None
            if transfer is None:
                continue
            sender, receiver, units = transfer
            if receiver == self._chain.address != sender and units > 0:
                settlement_id = f"{self._chain.chain_id}:{receipt.tx_hash}:{log.index}"
                found.append(Deposit(settlement_id, sender, units, receipt.tx_hash, receipt.block))
        return found

    # crediting

    async def _take(self, deposits: list[Deposit]) -> None:
        """Credit deposits, or keep them for a person: no stranger and no oddity may hold up the others."""
        if not deposits:
            return
        owners = await self._decide(deposits)
        gone: list[Deposit] = []
        # side by side, so that the core makes all of them durable in one go
        async with anyio.create_task_group() as tasks:
            for deposit in deposits:
                account_id = owners[deposit.settlement_id]
                if account_id is not None:
                    tasks.start_soon(self._credit, deposit, account_id, gone)
        kept = [deposit for deposit in deposits if owners[deposit.settlement_id] is None] + gone
        details = {d.settlement_id: self._details(d, owners[d.settlement_id]) for d in kept}
        if gone:
            # should the account come back before the cursor has moved: it is a person's to decide by now
            await self._remember(owners | dict.fromkeys((d.settlement_id for d in gone), None), len(deposits))
        async with anyio.create_task_group() as tasks:
            for deposit in kept:
                tasks.start_soon(self._keep, deposit, details[deposit.settlement_id])

    async def _decide(self, deposits: list[Deposit]) -> dict[str, str | None]:
        """Return whose each deposit is, as it was first decided."""
        known: dict[str, str | None] = dict(await self._services.load(_OWNERS) or [])
        fresh = [deposit for deposit in deposits if deposit.settlement_id not in known]
        for deposit in fresh:
            known[deposit.settlement_id] = await self._senders.account_of(deposit.sender)
        if fresh:
            await self._remember(known, len(deposits))
        return known

    async def _remember(self, owners: dict[str, str | None], at_least: int) -> None:
        latest = list(owners.items())[-max(_REMEMBERED, at_least) :]
        await self._services.save(_OWNERS, [[settlement_id, owner] for settlement_id, owner in latest])

    async def _credit(self, deposit: Deposit, account_id: str, gone: list[Deposit]) -> None:
        """Credit a deposit; if the account is gone, say so."""
        amount = amount_of(deposit.units, self._scale)
        try:
            await self._services.credit_settlement(account_id, amount, deposit.settlement_id)
        except UnknownAccount:
            gone.append(deposit)
        except SuspenseConflict as conflict:
            # an operator decided before we knew better: it is credited once, where the operator said
            _log.warning("transaction %s was found to be account %r's: %s", deposit.transaction, account_id, conflict)
        except IdempotencyConflict as problem:
            # it can only come with another amount if blocks that were final were replaced
            _log.critical("transaction %s pays another amount than it did: %s", deposit.transaction, problem)

    async def _keep(self, deposit: Deposit, details: dict[str, Any]) -> None:
        """Keep a deposit for a person to assign."""
        amount = amount_of(deposit.units, self._scale)
        try:
            await self._services.report_unattributed(deposit.settlement_id, amount, details)
        except SuspenseConflict as problem:
            _log.critical("transaction %s pays another amount than it did: %s", deposit.transaction, problem)

    def _details(self, deposit: Deposit, account_id: str | None) -> dict[str, Any]:
        asset = {"chain_id": self._chain.chain_id, "token": self._chain.token, "account": account_id}
        return {**asset, **asdict(deposit), "units": str(deposit.units)}

    # reorganisations

    async def _walk_back(self) -> None:
        """Return to the last scanned block that the chain still has."""
        left = self._trail
        last = left[-1].height
        while left:
            (block,) = await self._chain.headers([left[-1].height]) if left[-1].height >= 0 else [None]
            if not left[-1].block_hash or (block is not None and block.block_hash == left[-1].block_hash):
                break
            left = left[:-1]
        # beyond what we remember: everything from there on is read again, and what is credited stays credited once
        left = left or [_Checkpoint(max(self._trail[0].height - 1, -1), "")]
        text = (
            f"blocks after {left[-1].height} up to {last}, which had been taken for final, were replaced: they are "
            "read again; compare what was credited from them with the chain"
        )
        _log.critical("%s", text)
        await self._services.save(_REORGANISED, text)
        self._state.reorganised = text
        await self._save(left)


def _same(before: str, after: str) -> None:
    if before != after:
        raise NodeUnavailable("the chain changed while it was read; it is read again")

"""Incoming: every payment to our address in a final block is credited once, or kept for a person to assign.

A durable cursor of heights and hashes moves past a block only after everything in it is durable, so a crash repeats
some blocks, under the same settlement ids: chain, transaction and, for tokens, the number of the log among its
transaction's. That number stays the same when the transaction moves to another block; the node's own `logIndex`
does not. Whose a payment is, is decided once and written down before it is acted upon: a peer that becomes known
between two tries must not have the same money both credited and waiting for a person.

Ether that a contract passes on is in no transaction's own value, so it is not seen here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Protocol

import anyio

from settlement_core.abc import AccountServices
from settlement_core.engines.ethereum.chain import Chain, View
from settlement_core.engines.ethereum.deposits import Deposit, DepositReader
from settlement_core.engines.ethereum.reconciling import Reconciliation
from settlement_core.engines.ethereum.rpc import NodeError
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

_log = logging.getLogger(__name__)


class Senders(Protocol):
    """Whose an address is."""

    async def account_of(self, address: str) -> str | None:
        """Return the account of the peer that pays from this address (lower case), or None."""
        ...


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
        minimum: Decimal,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._chain = chain
        self._scale = scale
        self._senders = senders
        self._services = services
        self._state = state
        self._poll_interval_s = poll_interval_s
        self._reader = DepositReader(chain, block_range=block_range)
        self._reconciliation = Reconciliation(chain, scale=scale, state=state)
        self._minimum = minimum
        self._chance = chance
        self._trail: list[_Checkpoint] = []
        self._replaced: _Checkpoint | None = None
        """The newest of the blocks that had been taken for final and were replaced."""

    # where it stands

    async def read_cursor(self) -> int | None:
        """Take up where an earlier run ended; return the newest block it has seen, or None if there was no such run."""
        replaced = await self._services.load(_REORGANISED)
        if isinstance(replaced, dict):
            self._replaced = _Checkpoint(replaced["height"], replaced["hash"])
            self._state.reorganised = replaced["text"]
        saved = await self._services.load(_CURSOR)
        if saved is None:
            return None
        # before there was a balance, the trail was all
        saved = saved if isinstance(saved, dict) else {"trail": saved, "balance": None}
        self._trail = [_Checkpoint(height, block_hash) for height, block_hash in saved["trail"]]
        self._reconciliation.expected = None if saved["balance"] is None else int(saved["balance"])
        self._state.scanned = self._trail[-1].height
        # the first scan may have been told to begin in the future
        return max((point.height for point in self._trail if point.block_hash), default=-1)

    async def begin(self, start_block: int | None, *, final: int) -> None:
        """Decide, durably and once, where the scan begins: at a block, or after the one that is final now."""
        height = final if start_block is None else start_block - 1
        block = (await self._chain.headers([height]))[0] if height >= 0 else None
        await self._save([_Checkpoint(height, "" if block is None else block.block_hash)])

    async def _save(self, trail: list[_Checkpoint]) -> None:
        trail, expected = trail[-_CHECKPOINTS:], self._reconciliation.expected
        cursor = {
            "trail": [[point.height, point.block_hash] for point in trail],
            "balance": None if expected is None else str(expected),
        }
        await self._services.save(_CURSOR, cursor)
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
        view = await self._chain.look()
        while self._trail[-1].height < view.final:
            at = self._trail[-1]
            found = await self._reader.read(at.height + 1, view.final, parent=at.block_hash)
            if found is None:
                await self._walk_back(view)
                continue
            await self._chain.check_depth(found.last, found.block_hash, view)
            await self._take(found.deposits)
            self._reconciliation.add(found.change)
            # after the credits: a crash in between repeats the range, under the same settlement ids
            await self._save([*self._trail, _Checkpoint(found.last, found.block_hash)])
        await self._check_replaced()
        if await self._reconciliation.check(self._trail[-1].height):
            await self._save(self._trail)

    # crediting

    async def _take(self, deposits: list[Deposit]) -> None:
        """Credit deposits, or keep them for a person: no stranger and no oddity may hold up the others."""
        if not deposits:
            return
        owners = await self._decide(deposits)
        deposits = [deposit for deposit in deposits if not self._ignore(deposit, owners[deposit.settlement_id])]
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

    def _ignore(self, deposit: Deposit, account_id: str | None) -> bool:
        """Tell whether a payment is a stranger's, and too small to be worth anybody's time."""
        if account_id is not None or amount_of(deposit.units, self._scale) >= self._minimum:
            return False
        count, units = self._state.ignored
        self._state.ignored = (count + 1, units + deposit.units)
        _log.info("transaction %s of %s is below incoming_minimum: ignored", deposit.transaction, deposit.sender)
        return True

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

    async def _walk_back(self, view: View) -> None:
        """Return to the last scanned block that the chain still has."""
        left = self._trail
        last = left[-1].height
        (other,) = await self._chain.headers([last])
        if other is not None:
            # nothing was replaced if only this answer was that of a node on another branch
            await self._chain.check_depth(last, other.block_hash, view)
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
        self._replaced = self._replaced or self._trail[-1]
        at = {"height": self._replaced.height, "hash": self._replaced.block_hash}
        await self._services.save(_REORGANISED, {"text": text, **at})
        self._state.reorganised = text
        self._reconciliation.forget()
        await self._save(left)

    async def _check_replaced(self) -> None:
        """Take back that blocks were replaced once they are on the chain again: one node was wrong for a while."""
        if self._replaced is None or self._replaced.height > self._trail[-1].height:
            return
        (block,) = await self._chain.headers([self._replaced.height])
        if block is None or block.block_hash != self._replaced.block_hash:
            return
        _log.warning("block %d is what it was before it seemed replaced", self._replaced.height)
        await self._services.save(_REORGANISED, None)
        self._replaced, self._state.reorganised = None, ""

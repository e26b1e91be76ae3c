"""The watcher drives what was submitted to its end: it finds proofs, broadcasts again, raises fees and fills gaps.

It alone knows which nonces are at which stage, so it needs no account's task to be alive. Everything it broadcasts is
durable first. It reads the chain once per poll; a node that fails, lags or is on another chain is waited for.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio

from settlement_core.abc import AccountServices
from settlement_core.engines.ethereum.chain import Chain, View
from settlement_core.engines.ethereum.config import EthereumConfig
from settlement_core.engines.ethereum.nonces import KEPT, NonceBook, Outcome, Result, Slot
from settlement_core.engines.ethereum.outgoing import fees_now, foreign_nonces, gas_limit, known_too_high
from settlement_core.engines.ethereum.proofs import Prover
from settlement_core.engines.ethereum.rpc import NodeError, NodeRefused
from settlement_core.engines.ethereum.state import State
from settlement_core.engines.ethereum.transactions import Effect, Fees, Signed, bumped, replacing, sign
from settlement_core.values.backoff import Backoff
from settlement_core.values.errors import SettlementFailed

__all__ = ["NODE_BACKOFF", "Watcher"]

NODE_BACKOFF = Backoff(first_s=0.2, max_s=30.0)
"""Delays before a node that does not answer, or not usefully, is asked again."""

_ALARM = "alarm"

_PRESSED = 50
"""Transactions looked after at once: those behind them cannot apply before them anyway."""

_PROVEN = 20
"""Nonces whose receipts are asked for at once."""

_log = logging.getLogger(__name__)


class Watcher:
    """Looks after the nonces of one key."""

    def __init__(
        self,
        config: EthereumConfig,
        *,
        chain: Chain,
        book: NonceBook,
        prover: Prover,
        state: State,
        services: AccountServices,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._chain = chain
        self._book = book
        self._prover = prover
        self._state = state
        self._services = services
        self._chance = chance
        self._gaps: dict[int, float] = {}
        self._unproven: tuple[int, float] | None = None
        """The nonce that the node calls used and whose end is unproven, and since when."""
        self._blocked_since: float | None = None

    async def read_alarm(self) -> None:
        """Take up the alarm of an earlier run, unless the operator says that its cause is known."""
        alarm = await self._services.load(_ALARM)
        if alarm is not None and alarm["nonce"] < self._config.known_nonces_below:
            await self._services.save(_ALARM, None)
        elif alarm is not None:
            self._state.alarm = alarm["text"]

    async def run(self) -> None:
        """Watch; return never. Nothing but a node that fails is survived here."""
        failures = 0
        while True:
            try:
                await self.watch_once()
            except NodeError as error:
                failures += 1
                delay_s = NODE_BACKOFF.delay_s(failures, self._chance())
                if self._state.trouble != str(error):
                    _log.warning("cannot look at the chain: %s; payments wait until it answers", error)
                self._state.trouble = str(error)
                await anyio.sleep(delay_s)
                continue
            if failures:
                _log.info("the node answers again after %d failures", failures)
            failures, self._state.trouble = 0, ""
            await anyio.sleep(self._config.poll_interval_s)

    async def watch_once(self) -> None:
        """Look at the chain, and do what follows from it."""
        view = await self._chain.look()
        self._check_earlier_nonces(view)
        await self._finish_proven(view)
        await self._restore_final(view)
        await self._press(view)
        await self._fill_gaps(view)
        await self._wake(view)

    async def _wake(self, view: View) -> None:
        """Ring the accounts that rest for a reason that has passed."""
        state = self._state
        ready = {a for a, need in state.short.items() if view.balance >= need.wei and view.token_balance >= need.units}
        for account_id in ready:
            del state.short[account_id]
        if not (state.suspicion or state.alarm):
            ready |= state.held_up
            state.held_up.clear()
        if state.priced_out and await self._fees(view) is not None:
            ready |= state.priced_out
            state.priced_out.clear()
        for account_id in sorted(ready):
            self._services.try_settlement(account_id)

    # proofs

    async def _finish_proven(self, view: View) -> None:
        """Finish every nonce whose end is final, in their order."""
        address, known = self._config.key.address, self._config.known_nonces_below
        suspicion = known_too_high(known, view, self._book, address=address)
        if view.pending_nonce > known:
            suspicion = suspicion or foreign_nonces(view, self._book, address=address)
        while self._book.floor < (end := min(self._book.next, view.nonce)):
            nonces = range(self._book.floor, min(end, self._book.floor + _PROVEN))
            try:
                outcomes, found = await self._outcomes(nonces, view)
            except NodeError as error:
                await self._doubt(nonces[0], str(error))
                raise
            if not outcomes:
                suspicion = suspicion or found
                await self._doubt(nonces[0], found or "no final block of the node holds its transaction")
                break
            for nonce in nonces:
                if nonce not in outcomes:
                    break
                await self._finish(self._slot_of(nonce), outcomes[nonce])
        # at once, and only now: it must not seem to be gone while it is looked for again
        self._state.suspicion = suspicion

    def _slot_of(self, nonce: int) -> Slot:
        return self._book.get(nonce) or _hole(nonce, self._book.since)

    async def _outcomes(self, nonces: range, view: View) -> tuple[dict[int, Outcome], str]:
        """Return the outcomes that are proven, the first nonce's among them; without it none, and what is suspicious.

        If none of our transactions used the first nonce, finds out who did.
        """
        first, slots = nonces[0], [slot for nonce in nonces if (slot := self._book.get(nonce)) is not None]
        outcomes, mined = await self._prover.prove(slots, view)
        if first in outcomes:
            return outcomes, ""
        if first in mined:
            return {}, ""
        slot = self._book.get(first)
        since = self._book.since if slot is None else slot.since
        outcome = await self._prover.search(first, slot, since=since, view=view)
        if outcome is not None:
            return {**outcomes, first: outcome}, ""
        return {}, (
            f"nonce {first} seems to be used by a transaction that was not made here; nothing new is paid until "
            "that is final, or undone"
        )

    async def _doubt(self, nonce: int, found: str) -> None:
        """Set a nonce aside that is used, says the node, and whose end it cannot prove for very long."""
        now = anyio.current_time()
        if self._unproven is None or self._unproven[0] != nonce:
            self._unproven = (nonce, now)
        if now - self._unproven[1] < self._config.doubt_after_s:
            return
        slot = self._slot_of(nonce)
        text = (
            f"nonce {nonce} has been used for {self._config.doubt_after_s:g} s, says the node, and cannot prove by "
            f"what ({found}): what became of its payment is in doubt. Look it up on another node, and resolve it"
        )
        _log.critical("%s", text)
        first_hash = slot.hashes[0] if slot.hashes else ""
        await self._finish(slot, Outcome(Result.DOUBTFUL, first_hash, units=0, fee=0, block=0, reason=text))

    async def _finish(self, slot: Slot, outcome: Outcome) -> None:
        if outcome.tx_hash and outcome.tx_hash not in slot.hashes:
            await self._raise_alarm(slot, outcome)
        await self._book.finish(slot, outcome)
        self._state.stuck.pop(slot.nonce, None)
        self._gaps.pop(slot.nonce, None)
        _log.info("nonce %d ended: %s, transaction %s", slot.nonce, outcome.result, outcome.tx_hash)
        if slot.account_id:
            self._services.try_settlement(slot.account_id)

    async def _raise_alarm(self, slot: Slot, outcome: Outcome) -> None:
        """Stop paying, durably and before anything follows from it: our key is in other hands as well."""
        text = (
            f"nonce {slot.nonce} of address {self._config.key.address} was used by transaction {outcome.tx_hash}, "
            "which was not made here: its key is in use elsewhere. Nothing new is paid. Once it is accounted "
            f"for and the key is safe, say -o known_nonces_below={slot.nonce + 1}"
        )
        if slot.nonce < self._config.known_nonces_below:
            return
        await self._services.save(_ALARM, {"nonce": slot.nonce, "text": text})
        self._state.alarm = text
        _log.critical("%s", text)

    async def _restore_final(self, view: View) -> None:
        """Broadcast again what was final, should the chain have dropped it nevertheless."""
        nonces = range(max(view.nonce, self._book.floor - KEPT), self._book.floor)
        slots = [slot for nonce in nonces if (slot := self._book.get(nonce)) is not None]
        # what is in doubt is an operator's to decide: it may be queued anew by now
        applied = [
            (slot, slot.outcome.tx_hash)
            for slot in slots
            if slot.outcome is not None and slot.outcome.result is not Result.DOUBTFUL
        ]
        known = await self._chain.known([tx_hash for _, tx_hash in applied])
        for (slot, tx_hash), there in zip(applied, known, strict=True):
            raw = None if there else slot.raw_of(tx_hash)
            if raw is not None:
                _log.error("final nonce %d is on the chain no more; its transaction is broadcast again", slot.nonce)
                await self._chain.broadcast(raw)

    # broadcasting

    async def _press(self, view: View) -> None:
        """Have the latest transaction of every nonce in the node's pool, and the next one at a fee that is enough."""
        waiting = [
            slot for _, slot in self._book.unfinished(view.nonce) if slot is not None and slot.latest is not None
        ]
        waiting = waiting[:_PRESSED]
        if waiting and waiting[0].nonce == view.nonce:
            waiting[0] = await self._bump(waiting[0], view)
        latest = [(slot, slot.latest) for slot in waiting if slot.latest is not None]
        known = await self._chain.known([signed.tx_hash for _, signed in latest])
        for (slot, signed), there in zip(latest, known, strict=True):
            refusal = "" if there else await self._chain.broadcast(signed.raw)
            if refusal:
                # its gas may not be enough, by an estimate that was wrong or is by now
                refusal = await self._with_more_gas(slot, signed, view) or refusal
                self._state.stuck[slot.nonce] = refusal
            else:
                self._state.stuck.pop(slot.nonce, None)

    async def _bump(self, slot: Slot, view: View) -> Slot:
        """Return the slot with a replacement at a higher fee if its transaction has waited for long; durable."""
        last = slot.latest
        assert last is not None
        if view.head.number - last.block < self._config.bump_after_blocks:
            return slot
        now = await self._fees(view)
        fees = None if now is None else bumped(last.fees, now=now, cap=self._config.max_fee_per_gas)
        if fees is None:
            return slot
        gas = max(last.gas, await self._gas(slot, fees, otherwise=last.gas))
        after = await self._replace(slot, last, self._signed(slot, fees, gas, view))
        _log.info("nonce %d waits since block %d: its fee is raised to %d wei", slot.nonce, last.block, fees.max_fee)
        return after

    async def _with_more_gas(self, slot: Slot, last: Signed, view: View) -> str:
        """Replace a transaction that the node refuses if it needs more gas; return why that is refused, too, or ""."""
        now = await self._fees(view)
        gas = await self._gas(slot, last.fees, otherwise=last.gas)
        if now is None or gas <= last.gas:
            return ""
        # a node that never had it asks for no higher fee, but another one may have it
        fees = replacing(last.fees, now=now, cap=self._config.max_fee_per_gas) or last.fees
        after = await self._replace(slot, last, self._signed(slot, fees, gas, view))
        _log.warning("nonce %d is refused with %d units of gas: it is signed again with %d", slot.nonce, last.gas, gas)
        return "" if after.latest is None else await self._chain.broadcast(after.latest.raw)

    async def _gas(self, slot: Slot, fees: Fees, *, otherwise: int) -> int:
        """Return the gas that a slot's next transaction is to have, within the bounds of the settings."""
        effect = self._effect(slot)
        gas = await self._chain.estimate_gas(effect.to_call(fees))
        if isinstance(gas, NodeRefused):
            return max(otherwise, gas_limit(0, effect))
        return min(gas_limit(gas, effect), max(self._config.max_gas, gas_limit(0, effect)))

    def _effect(self, slot: Slot) -> Effect:
        """Return what a slot's next transaction does."""
        return Effect.nothing(self._config.key.address) if slot.withdrawn else slot.effect(self._chain.token)

    async def _replace(self, slot: Slot, last: Signed, signed: Signed) -> Slot:
        """Return the slot with its latest transaction replaced, durably; as it is, if another is the latest by now."""

        def replaced(known: Slot | None) -> Slot | None:
            if known is None or known.latest != last or known.outcome is not None:
                return known
            if known.withdrawn:
                return replace(known, fillers=(*known.fillers, signed))
            return replace(known, payments=(*known.payments, signed))

        after = await self._book.change(slot.nonce, replaced)
        assert after is not None
        return after

    # gaps

    async def _fill_gaps(self, view: View) -> None:
        """Withdraw what was prepared and never submitted, once it has held up others for long enough."""
        held_up = max(
            (nonce for nonce, slot in self._book.unfinished() if slot is not None and slot.latest), default=-1
        )
        now = anyio.current_time()
        for nonce, slot in list(self._book.unfinished(view.nonce)):
            if (slot is not None and slot.latest is not None) or nonce > held_up or self._state.alarm:
                self._gaps.pop(nonce, None)
                continue
            if now - self._gaps.setdefault(nonce, now) < self._config.gap_patience_s:
                continue
            fees = await self._fees(view)
            if fees is None:
                return
            empty = replace(slot or self._slot_of(nonce), withdrawn=True)
            filler = self._signed(empty, fees, await self._gas(empty, fees, otherwise=0), view)
            filled = await self._book.change(nonce, partial(self._withdrawn, nonce=nonce, filler=filler))
            if filled is not None and filled.withdrawn:
                _log.warning("nonce %d was never submitted and holds up others: it is used up without a payment", nonce)
                await self._chain.broadcast(filled.fillers[-1].raw)

    def _withdrawn(self, slot: Slot | None, *, nonce: int, filler: Signed) -> Slot:
        slot = slot or _hole(nonce, self._book.since)
        if slot.submitted or slot.withdrawn or slot.outcome is not None:
            return slot
        return replace(slot, withdrawn=True, fillers=(filler,))

    def _signed(self, slot: Slot, fees: Fees, gas: int, view: View) -> Signed:
        return sign(
            self._config.key,
            self._effect(slot),
            chain_id=self._config.chain_id,
            nonce=slot.nonce,
            gas=gas,
            fees=fees,
            block=view.head.number,
        )

    def _check_earlier_nonces(self, view: View) -> None:
        """Tell if a nonce that is not ours to fill is free again, and holds up ours."""
        slot = self._book.get(view.nonce)
        doubtful = slot is not None and slot.outcome is not None and slot.outcome.result is Result.DOUBTFUL
        # those that others had pending when this key was first used here
        waits = doubtful or view.nonce < self._book.first
        if not waits or view.pending_nonce > view.nonce:
            self._blocked_since, self._state.blocked = None, ""
            return
        now = anyio.current_time()
        if self._blocked_since is None:
            self._blocked_since = now
        if now - self._blocked_since >= self._config.gap_patience_s and not self._state.blocked:
            whose = "a payment that is in doubt" if doubtful else "somebody else before this key was first used here"
            self._state.blocked = (
                f"nonce {view.nonce} of address {self._config.key.address}, used by {whose}, is in no block and not in "
                "the node's pool any more: no later payment applies before it. Send that transaction again, or any "
                "other one with that nonce, such as one of nothing to the address itself"
            )
            _log.critical("%s", self._state.blocked)

    async def _fees(self, view: View) -> Fees | None:
        tip = await self._chain.tip()
        try:
            return fees_now(view, tip, cap=self._config.max_fee_per_gas)
        except SettlementFailed:
            return None


def _hole(nonce: int, since: int) -> Slot:
    """Return the slot of a nonce that the store forgot."""
    return Slot(nonce=nonce, account_id="", attempt_id="", to="", units=0, since=since)

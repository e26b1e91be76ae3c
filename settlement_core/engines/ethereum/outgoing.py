"""Outgoing: one attempt, one nonce, one payment, and no verdict but by proof.

`prepare` allocates the nonce and signs, durably; `submit` is the core's word that it keeps the payment, so from then
on the watcher (`watching.py`) may broadcast it, again after every restart and reorganisation, and with higher fees;
`verify` tells what the watcher has found proof of, and asks the node nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from settlement_core.abc import InDoubt, Pending, Rejected, Settled, Verdict
from settlement_core.engines.ethereum.chain import Chain, View
from settlement_core.engines.ethereum.config import EthereumConfig
from settlement_core.engines.ethereum.nonces import COSTLY, NonceBook, Outcome, Result, Slot
from settlement_core.engines.ethereum.proofs import Prover
from settlement_core.engines.ethereum.rpc import NodeError, NodeRefused
from settlement_core.engines.ethereum.state import Shortage, State
from settlement_core.engines.ethereum.transactions import (
    MARKS,
    Effect,
    Fees,
    Signed,
    amount_of,
    current_fees,
    least_gas,
    marked,
    sign,
    units_of,
)
from settlement_core.values.errors import LocalError, RemoteError, SettlementFailed
from settlement_core.values.records import Payment

__all__ = ["Addresses", "Outgoing", "PaymentWithdrawn"]

MAX_COSTLY = 3
"""Payments in a row that only cost a fee, after which the account is paused."""


class Addresses(Protocol):
    """Where peers are paid."""

    async def set_up(self, account_id: str) -> None:
        """Learn the peer's address, if it is not known; raises while that cannot be."""
        ...

    async def address_of(self, account_id: str) -> str | None:
        """Return the peer's address in lower case, or None if it has not told it yet."""
        ...


class PaymentWithdrawn(RemoteError):
    """An earlier payment of the attempt is being taken out of the way; another is prepared once it is."""

    def __init__(self, attempt_id: str, nonce: int) -> None:
        super().__init__(
            f"attempt {attempt_id!r} was prepared with nonce {nonce} and not submitted in time, so that is used up "
            "without a payment; it is prepared anew once that is final"
        )


@dataclass(frozen=True, slots=True)
class _Quote:
    """What one payment would take now."""

    effect: Effect
    gas: int
    fees: Fees
    view: View


class Outgoing:
    """Pays peers from one key."""

    def __init__(
        self,
        config: EthereumConfig,
        *,
        scale: int,
        chain: Chain,
        book: NonceBook,
        prover: Prover,
        peers: Addresses,
        state: State,
    ) -> None:
        self._config = config
        self._scale = scale
        self._chain = chain
        self._book = book
        self._prover = prover
        self._peers = peers
        self._state = state

    # prepare

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        """Sign a payment and give it a nonce of its own; the same attempt gets the same one again.

        Raises `SettlementFailed` where nothing can be paid now: no address, no funds, fees above the cap, an alarm.
        The account is rung once that has changed.
        """
        try:
            return await self._prepare(account_id, amount, attempt_id)
        except NodeError:
            self._state.held_up.add(account_id)
            raise

    async def _prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        slot = self._book.find(attempt_id)
        if slot is not None and not (slot.withdrawn and slot.outcome and slot.outcome.result is not Result.PAID):
            if slot.withdrawn and slot.outcome is None:
                raise PaymentWithdrawn(attempt_id, slot.nonce)
            return self._payment(slot)
        units = units_of(amount, self._scale)
        if units == 0 or amount < self._config.minimum or self._is_dust(account_id, units):
            return None
        if self._state.alarm or self._state.suspicion:
            self._state.held_up.add(account_id)
            raise SettlementFailed(self._state.alarm or self._state.suspicion)
        to = await self._address_of(account_id)
        mark = secrets.randbelow(MARKS)
        effect = Effect.of_payment(to=to, units=units, token=self._chain.token)
        quote = await self._quote(account_id, effect, units, mark)
        await self._refuse_foreign_nonces(quote.view)
        blank = Slot(
            nonce=0,
            account_id=account_id,
            attempt_id=attempt_id,
            to=to,
            units=units,
            since=quote.view.head.number,
            mark=mark,
        )
        return self._payment(await self._book.allocate(lambda nonce: self._signed(replace(blank, nonce=nonce), quote)))

    def _is_dust(self, account_id: str, units: int) -> bool:
        """Tell whether so little has moved nothing before, of a token that is known to keep a part of what it moves."""
        ended = [(slot, outcome) for slot, outcome in self._book.finished() if slot.account_id == account_id]
        keeps = any(outcome.result is Result.PAID and outcome.units < slot.units for slot, outcome in ended)
        return keeps and any(outcome.result is Result.EMPTY and units <= slot.units for slot, outcome in ended)

    async def _address_of(self, account_id: str) -> str:
        to = await self._peers.address_of(account_id)
        problem = ""
        if to is None:
            # a store that failed over may have kept that the account was set up, and forgotten with what
            try:
                await self._peers.set_up(account_id)
                to = await self._peers.address_of(account_id)
            except RemoteError as error:
                problem = f": {error}"
        if to is None:
            raise SettlementFailed(f"the peer of account {account_id!r} has not told its address yet{problem}")
        return to

    def _signed(self, slot: Slot, quote: _Quote) -> Slot:
        signed = sign(
            self._config.key,
            quote.effect,
            chain_id=self._config.chain_id,
            nonce=slot.nonce,
            gas=quote.gas,
            fees=quote.fees,
            block=quote.view.head.number,
        )
        return replace(slot, payments=(signed,))

    async def _quote(self, account_id: str, effect: Effect, units: int, mark: int) -> _Quote:
        view = await self._chain.look()
        cap = self._config.max_fee_per_gas
        fees = fees_now(view, await self._chain.tip(), cap=cap)
        if fees is None:
            self._state.priced_out.add(account_id)
            raise SettlementFailed(f"gas costs more than the {cap} wei that max_fee_per_gas allows; payments wait")
        fees = marked(fees, mark, cap=cap)
        gas = await self._chain.estimate_gas(effect.to_call(fees))
        limit = self._config.max_gas if isinstance(gas, NodeRefused) else gas_limit(gas, effect)
        cost = min(limit, self._config.max_gas) * fees.max_fee
        need = Shortage(cost + effect.value, units if self._chain.token else 0)
        self._refuse_shortage(account_id, need, view)
        if isinstance(gas, NodeRefused):
            raise SettlementFailed(f"the payment would fail now: {gas.text}")
        if limit > self._config.max_gas:
            raise SettlementFailed(
                f"the payment would use {limit} gas, more than the {self._config.max_gas} of max_gas"
            )
        await self._refuse_failure(effect, fees, limit)
        return _Quote(effect, limit, fees, view)

    async def _refuse_failure(self, effect: Effect, fees: Fees, gas: int) -> None:
        """Raise if the payment, exactly as it will be made, would fail now, or the token would only say that it did.

        An estimate alone may be wrong, and there are tokens that return false where others revert.
        """
        if self._chain.token is None:
            return
        said = await self._chain.simulate({**effect.to_call(fees), "gas": hex(gas)})
        if isinstance(said, NodeRefused):
            raise SettlementFailed(f"the payment would fail now: {said.text}")
        # no answer at all is that of tokens older than the standard
        if said != "0x" and int(said, 16) == 0:
            raise SettlementFailed("the payment would fail now: the token answers false")

    def _refuse_shortage(self, account_id: str, need: Shortage, view: View) -> None:
        """Raise unless the balance covers this payment beside all that are under way."""
        wei, units = view.balance, view.token_balance
        for _, slot in self._book.unfinished(view.nonce):
            if slot is None or not slot.payments:
                continue
            wei -= slot.payments[-1].max_cost + slot.effect(self._chain.token).value
            units -= slot.units if self._chain.token else 0
        if need.wei <= wei and need.units <= units:
            self._state.short.pop(account_id, None)
            return
        # what is missing beside what there is now
        self._state.short[account_id] = Shortage(
            view.balance + max(need.wei - wei, 0), view.token_balance + max(need.units - units, 0)
        )
        what = f"{need.units} units of the token and " if need.units else ""
        has = f"{max(units, 0)} units and " if need.units else ""
        raise SettlementFailed(
            f"address {self._config.key.address} lacks funds: the payment takes {what}{need.wei} wei with its fee, "
            f"and {has}{max(wei, 0)} wei are free; it is tried again once there is more"
        )

    async def _refuse_foreign_nonces(self, view: View) -> None:
        """Raise if nonces were used that we know nothing of; leave them out if the operator does."""
        known = self._config.known_nonces_below
        if known >= view.pending_nonce > self._book.next:
            await self._book.skip_to(view.pending_nonce)
        address = self._config.key.address
        problem = known_too_high(known, view, self._book, address=address) or foreign_nonces(
            view, self._book, address=address
        )
        if problem:
            raise SettlementFailed(problem)

    # submit and verify

    async def submit(self, payment: Payment) -> None:
        """Broadcast what was prepared; from now on the watcher does, too. Raises why the node does not take it."""
        told = self._slot_of(payment)
        slot = self._book.get(told.nonce)
        if slot is None and told.nonce < self._book.floor:
            return
        if self._state.alarm and not (slot is not None and slot.submitted):
            raise SettlementFailed(self._state.alarm)
        slot = await self._book.change(told.nonce, lambda known: _submitted(known, told))
        assert slot is not None
        if slot.attempt_id != told.attempt_id or slot.outcome is not None or not slot.submitted:
            return
        refusal = await self._chain.broadcast(slot.payments[-1].raw)
        if refusal:
            self._state.stuck[slot.nonce] = refusal
            raise NodeError(f"the node does not take nonce {slot.nonce} now: {refusal}; it is offered again")

    async def verify(self, payment: Payment) -> Verdict:
        """Tell what there is proof of."""
        told = self._slot_of(payment)
        slot = self._book.get(told.nonce)
        if slot is None and told.nonce < self._book.floor:
            return await self._look_up(told)
        if slot is None:
            return Pending(self._config.poll_interval_s, resubmit=True)
        if slot.outcome is None:
            untold = slot.attempt_id == told.attempt_id and not slot.submitted and not slot.withdrawn
            return Pending(self._config.poll_interval_s, resubmit=untold)
        outcome = slot.outcome
        if slot.attempt_id != told.attempt_id:
            # the store forgot that the nonce was given out, and it was given out again
            if outcome.tx_hash not in slot.hashes or outcome.tx_hash in told.hashes:
                return await self._look_up(told)
            return Rejected(f"nonce {told.nonce} was used by transaction {outcome.tx_hash}, for another payment")
        return self._verdict(slot, outcome)

    def _verdict(self, slot: Slot, outcome: Outcome) -> Verdict:
        if outcome.result is Result.PAID:
            return Settled(amount_of(outcome.units, self._scale))
        if outcome.result is Result.DOUBTFUL:
            return InDoubt(outcome.reason)
        in_a_row = self._book.costly_in_a_row(slot.account_id, until=slot.nonce)
        if outcome.result not in COSTLY or in_a_row < MAX_COSTLY:
            return Rejected(outcome.reason)
        return Rejected(f"{outcome.reason}; payments in a row that only cost a fee: {in_a_row}", pause=True)

    async def _look_up(self, told: Slot) -> Verdict:
        """Tell what became of a payment so old that its slot is forgotten."""
        view = await self._chain.look()
        outcomes, mined = await self._prover.prove([told], view)
        outcome = outcomes.get(told.nonce)
        if outcome is None and not mined:
            outcome = await self._prover.search(told.nonce, told, since=told.since, view=view)
        return Pending(self._config.poll_interval_s) if outcome is None else self._verdict(told, outcome)

    # the payment as the core keeps it

    def _payment(self, slot: Slot) -> Payment:
        reference = {
            "chain_id": self._config.chain_id,
            "from": self._config.key.address,
            "token": self._chain.token,
            "account_id": slot.account_id,
            "attempt_id": slot.attempt_id,
            "nonce": slot.nonce,
            "to": slot.to,
            "units": str(slot.units),
            "since": slot.since,
            "mark": slot.mark,
            # the first only, so that the same attempt gives the same payment; later ones are in the slot
            "transactions": [slot.payments[0].to_json()],
        }
        return Payment(amount_of(slot.units, self._scale), reference)

    def _slot_of(self, payment: Payment) -> Slot:
        reference: Any = payment.reference
        found = {"chain_id": reference["chain_id"], "from": reference["from"], "token": reference["token"]}
        ours = {"chain_id": self._config.chain_id, "from": self._config.key.address, "token": self._chain.token}
        if found != ours:
            raise LocalError(
                f"this payment was made on {found}, and this engine settles on {ours}; it stays open until an engine "
                "with its settings serves this store again"
            )
        return Slot(
            nonce=reference["nonce"],
            account_id=reference["account_id"],
            attempt_id=reference["attempt_id"],
            to=reference["to"],
            units=int(reference["units"]),
            since=reference["since"],
            mark=reference.get("mark"),
            payments=tuple(Signed.from_json(signed) for signed in reference["transactions"]),
        )


def foreign_nonces(view: View, book: NonceBook, *, address: str) -> str:
    """Return what is wrong if the key was used by somebody else, or by us in a life that the store has forgotten."""
    if view.pending_nonce <= book.next:
        return ""
    return (
        f"address {address} has used nonces up to {view.pending_nonce - 1}, of which those from {book.next} on were "
        "not given out here: either its key is in use elsewhere, or this store is older than the last payments. "
        "Nothing new is paid. Once all of them are accounted for, say "
        f"-o known_nonces_below={view.pending_nonce}"
    )


def known_too_high(known: int, view: View, book: NonceBook, *, address: str) -> str:
    """Return what is wrong if the operator claims to know of nonces that have yet to be used: nobody can."""
    used = max(view.pending_nonce, book.next)
    if known <= used:
        return ""
    return (
        f"known_nonces_below={known} is higher than the next nonce of address {address}, {used}: it would hide that "
        f"somebody else uses the key. Nothing new is paid until it is at most {used}"
    )


def fees_now(view: View, tip: int, *, cap: int) -> Fees | None:
    """Return today's fees, or None if they are above the cap."""
    if view.head.base_fee is None:
        raise SettlementFailed("the chain has no base fee (EIP-1559), which this engine needs")
    return current_fees(base_fee=view.head.base_fee, tip=tip, cap=cap)


def gas_limit(estimate: int, effect: Effect) -> int:
    """Return a gas limit for a cost that may have changed a little by the time it is paid; never too low to send."""
    least = least_gas(effect)
    return least if estimate <= least else estimate * 5 // 4


def _submitted(known: Slot | None, told: Slot) -> Slot:
    """Return the slot once the core has noted its payment, taking over one that the store forgot."""
    slot = known or told
    if slot.attempt_id != told.attempt_id or slot.withdrawn or slot.outcome is not None:
        return slot
    return replace(slot, submitted=True)

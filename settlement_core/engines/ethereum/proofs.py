"""What became of a nonce, by proof alone: a transaction in a final block of the canonical chain.

That a transaction of ours cannot be found proves nothing: nodes forget, lag and reindex. Only the transaction that
*did* use the nonce proves that no other ever can. If it is none that we know of, it is searched for, block by block.
"""

from __future__ import annotations

from collections.abc import Sequence

from settlement_core.engines.ethereum.chain import Chain, Receipt, Transaction
from settlement_core.engines.ethereum.nonces import Outcome, Result, Slot
from settlement_core.engines.ethereum.transactions import Effect

__all__ = ["Prover", "judge"]

_PAGE = 20
"""Full blocks asked for at once."""

_PAGES = 50
"""Pages searched in one go, so that nothing else waits for long."""


class Prover:
    """Finds proofs on one chain for one key."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._searched: dict[int, int] = {}

    async def prove(self, slots: Sequence[Slot], *, final: int) -> tuple[dict[int, Outcome], set[int]]:
        """Return the outcomes, by nonce, of those slots of which a transaction we signed is in a final block.

        Also returns the nonces of all slots of which one is in any block.
        """
        of_hash = {tx_hash: slot for slot in slots for tx_hash in slot.hashes}
        mined = [receipt for receipt in await self._chain.receipts(list(of_hash)) if receipt is not None]
        proven = await self._chain.proofs(mined, final=final)
        outcomes = {
            of_hash[receipt.tx_hash].nonce: self._judge(of_hash[receipt.tx_hash], receipt) for receipt in proven
        }
        return outcomes, {of_hash[receipt.tx_hash].nonce for receipt in mined}

    async def search(self, nonce: int, slot: Slot | None, *, since: int, final: int) -> Outcome | None:
        """Return how a nonce ended that was used by none of the transactions we know; None if that is not final yet.

        Args:
            nonce: the nonce.
            slot: what we signed for it, if we know.
            since: the block to begin with.
            final: the newest final block.
        """
        spender = await self._find(nonce, since=since, final=final)
        if spender is None:
            return None
        (receipt,) = await self._chain.final_receipts([spender.tx_hash], final=final)
        if receipt is None:
            self._searched.pop(nonce, None)  # it is in another block by now
            return None
        return self._judge_unknown(slot, spender, receipt)

    async def _find(self, nonce: int, *, since: int, final: int) -> Transaction | None:
        """Return the transaction of ours that has this nonce, going on where the last search ended."""
        start = self._searched.get(nonce, max(since, 0))
        for first in range(start, min(final + 1, start + _PAGE * _PAGES), _PAGE):
            numbers = range(first, min(first + _PAGE, final + 1))
            for block in await self._chain.blocks(numbers):
                for transaction in block.transactions:
                    if transaction.sender == self._chain.address and transaction.nonce == nonce:
                        self._searched[nonce] = block.number
                        return transaction
            self._searched[nonce] = numbers.stop
        return None

    def _judge(self, slot: Slot, receipt: Receipt) -> Outcome:
        return judge(slot, receipt, address=self._chain.address, token=self._chain.token)

    def _judge_unknown(self, slot: Slot | None, spender: Transaction, receipt: Receipt) -> Outcome:
        if slot is not None and slot.to and spender.to is not None:
            effect = Effect(spender.to, spender.value, spender.data)
            if effect == slot.effect(self._chain.token):
                # the same payment with another fee: somebody hurried it up with our key, or the store forgot that we
                # did. The peer has been paid by it, once, as by any of ours.
                return self._judge(slot, receipt)
        return Outcome(
            Result.FOREIGN,
            receipt.tx_hash,
            units=0,
            fee=0,
            block=receipt.block,
            reason=f"nonce {spender.nonce} was used by transaction {receipt.tx_hash}, which was not made here",
        )


def judge(slot: Slot, receipt: Receipt, *, address: str, token: str | None) -> Outcome:
    """Return what a final transaction of a slot did."""

    def ended(result: Result, units: int = 0, reason: str = "") -> Outcome:
        return Outcome(result, receipt.tx_hash, units, receipt.fee, receipt.block, reason)

    if any(receipt.tx_hash == filler.tx_hash for filler in slot.fillers):
        return ended(Result.WITHDRAWN, reason=f"it was withdrawn by transaction {receipt.tx_hash} and never applied")
    if not receipt.succeeded:
        return ended(Result.FAILED, reason=f"transaction {receipt.tx_hash} was reverted; only its fee is lost")
    if token is None:
        return ended(Result.PAID, slot.units)
    transfers = (log.transfer() for log in receipt.logs if log.address == token)
    moved = sum(
        units for sender, receiver, units in filter(None, transfers) if (sender, receiver) == (address, slot.to)
    )
    if moved == 0:
        return ended(Result.FAILED, reason=f"transaction {receipt.tx_hash} moved none of the token")
    return ended(Result.PAID, min(moved, slot.units))

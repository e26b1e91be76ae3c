"""What became of a nonce, by proof alone: a transaction in a final block of the canonical chain.

That a transaction of ours cannot be found proves nothing: nodes forget, lag and reindex. Only the transaction that
*did* use the nonce proves that no other ever can. If it is none that we know of, it is searched for, block by block.
What a node says of a single transaction only tells in which block to look. The proof is that block: all of its
transactions and receipts, which its header's hash commits to (`blocks.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from settlement_core.engines.ethereum.blocks import Block, Receipt, Transaction, check_links
from settlement_core.engines.ethereum.chain import Chain, View
from settlement_core.engines.ethereum.nonces import Outcome, Result, Slot
from settlement_core.engines.ethereum.transactions import Effect, mark_of

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

    async def prove(self, slots: Sequence[Slot], view: View) -> tuple[dict[int, Outcome], set[int]]:
        """Return the outcomes, by nonce, of those slots of which a transaction we signed is in a final block.

        Also returns the nonces of all slots of which one is in any block, in the node's opinion.
        """
        of_hash = {tx_hash: slot for slot in slots for tx_hash in slot.hashes}
        places = [place for place in await self._chain.places(list(of_hash)) if place is not None]
        outcomes: dict[int, Outcome] = {}
        for number in sorted({place.block for place in places if place.block <= view.final}):
            (block,) = await self._chain.blocks([number])
            await self._chain.check_depth(number, block.block_hash, view)
            ours = [place.tx_hash for place in places if place.block == number]
            for transaction, receipt in await self._of_block(block, ours):
                slot = of_hash[transaction.tx_hash]
                outcomes[slot.nonce] = self._judge(slot, receipt)
        return outcomes, {of_hash[place.tx_hash].nonce for place in places}

    async def _of_block(self, block: Block, hashes: Sequence[str]) -> list[tuple[Transaction, Receipt]]:
        """Return those of the transactions that are in the block, with their receipts."""
        if not any(transaction.tx_hash in hashes for transaction in block.transactions):
            return []
        receipts = await self._chain.receipts(block)
        return [
            (transaction, receipt)
            for transaction, receipt in zip(block.transactions, receipts, strict=True)
            if transaction.tx_hash in hashes
        ]

    async def search(self, nonce: int, slot: Slot | None, *, since: int, view: View) -> Outcome | None:
        """Return how a nonce ended that none of the transactions we know seems to have used; None if that is not final.

        Args:
            nonce: the nonce.
            slot: what we signed for it, if we know.
            since: the block to begin with.
            view: which tells the newest final block.
        """
        found = await self._find(nonce, since=since, view=view)
        if found is None:
            return None
        ((spender, receipt),) = await self._of_block(found[0], [found[1].tx_hash])
        if slot is not None and spender.tx_hash in slot.hashes:
            return self._judge(slot, receipt)
        return self._judge_unknown(slot, spender, receipt)

    async def _find(self, nonce: int, *, since: int, view: View) -> tuple[Block, Transaction] | None:
        """Return the transaction of ours that has this nonce, going on where the last search ended."""
        start = self._searched.get(nonce, max(since, 0))
        for first in range(start, min(view.final + 1, start + _PAGE * _PAGES), _PAGE):
            numbers = range(first, min(first + _PAGE, view.final + 1))
            blocks = await self._chain.blocks(numbers)
            check_links(blocks)
            await self._chain.check_depth(blocks[-1].number, blocks[-1].block_hash, view)
            for block in blocks:
                for transaction in block.transactions:
                    if transaction.nonce == nonce and transaction.signer() == self._chain.address:
                        self._searched[nonce] = block.number
                        return block, transaction
            self._searched[nonce] = numbers.stop
        return None

    def _judge(self, slot: Slot, receipt: Receipt) -> Outcome:
        return judge(slot, receipt, address=self._chain.address, token=self._chain.token)

    def _judge_unknown(self, slot: Slot | None, spender: Transaction, receipt: Receipt) -> Outcome:
        result = Result.FOREIGN
        reason = f"nonce {spender.nonce} was used by transaction {receipt.tx_hash}, which was not made here"
        if slot is not None and slot.to and spender.to is not None:
            effect = Effect(spender.to, spender.value, spender.data)
            if receipt.succeeded and effect == slot.effect(self._chain.token):
                if slot.mark is not None and mark_of(spender.max_fee) == slot.mark:
                    # one of ours that the store forgot: the same payment with another fee
                    return self._judge(slot, receipt)
                result = Result.DOUBTFUL
                reason += ", and which pays the same peer the same amount: nobody here can tell for which debt"
        return Outcome(result, receipt.tx_hash, units=0, fee=0, block=receipt.block, reason=reason)


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
        return ended(
            Result.EMPTY, reason=f"transaction {receipt.tx_hash} moved none of the token; only its fee is lost"
        )
    return ended(Result.PAID, min(moved, slot.units))

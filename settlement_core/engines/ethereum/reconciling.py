"""Compares our balance on the chain with what all transactions make it: what arrived unseen must not go unnoticed.

Ether that a contract passes on, a validator's withdrawal, or a token that changes balances without a `Transfer` is in
nothing that the scan reads. Nothing is credited here. A difference is an alarm, and the comparison goes on from it.
"""

from __future__ import annotations

import logging

from settlement_core.engines.ethereum.chain import Chain
from settlement_core.engines.ethereum.state import State
from settlement_core.engines.ethereum.transactions import amount_of

__all__ = ["Reconciliation"]

_EVERY_BLOCKS = 50
"""Final blocks between two comparisons."""

_log = logging.getLogger(__name__)


class Reconciliation:
    """What our balance should be after the scanned blocks.

    Attributes:
        expected: wei, or units of the token; None until there is a balance to begin with.
    """

    def __init__(self, chain: Chain, *, scale: int, state: State) -> None:
        self._chain = chain
        self._scale = scale
        self._state = state
        self._checked = -_EVERY_BLOCKS
        self.expected: int | None = None

    def add(self, change: int | None) -> None:
        """Count what scanned blocks changed; None if that is not known."""
        self.expected = None if change is None or self.expected is None else self.expected + change

    def forget(self) -> None:
        """Begin anew: scanned blocks were replaced."""
        self.expected, self._checked = None, -_EVERY_BLOCKS

    async def check(self, height: int) -> bool:
        """Compare after the newest scanned block, if it is time; return whether `expected` is another one now."""
        if height < 0 or height - self._checked < _EVERY_BLOCKS:
            return False
        found = await self._chain.balance_at(height)
        # one answer may be wrong; and nodes forget the balances of old blocks
        if found is None or (found != self.expected and found != await self._chain.balance_at(height)):
            return False
        self._checked = height
        if found == self.expected:
            return False
        if self.expected is not None:
            self._tell(found - self.expected, height)
        self.expected = found
        return True

    def _tell(self, difference: int, height: int) -> None:
        amount = amount_of(abs(difference), self._scale)
        self._state.unexplained = (
            f"up to block {height} address {self._chain.address} had {amount:f} {'more' if difference > 0 else 'less'} "
            "than its transactions explain, such as by a contract that passes ether on: nothing was credited for it. "
            "Compare the address's history with what was credited"
        )
        _log.critical("%s", self._state.unexplained)

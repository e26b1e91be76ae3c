"""Incoming: the peer paid us over the ledger, and the connector is told until it has heard.

A credit keeps its amount and its idempotency key for ever; only a person can have it offered under another.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import anyio

from settlement_core.abc import Acknowledged, Refused, Unanswered
from settlement_core.core.lane import Lane
from settlement_core.values.amounts import Quantity
from settlement_core.values.backoff import Backoff
from settlement_core.values.commands import Claim
from settlement_core.values.errors import InvariantError
from settlement_core.values.events import CreditAcknowledged, CreditHeld
from settlement_core.values.records import Attempt, Direction, Step

__all__ = ["IncomingLane"]

MAX_INTEGER = 2**63 - 1
"""Connectors count in 64-bit integers of their own scale."""


class IncomingLane(Lane):
    """Credits what the peer paid."""

    __slots__ = ()
    direction = Direction.INCOMING

    @property
    def backoff(self) -> Backoff:
        """The delays between offers of the same credit."""
        return self.context.config.credit_backoff

    def bound(self, claim: Claim) -> Claim:
        """Claim what the connector can count: by the cap, or else by 63 bits of its scale, if that is known.

        Whatever the cap, the integer that is sent stays within 63 bits, unless no scale is known at all, not even the
        ledger's: then nothing is known of what anybody counts in.
        """
        config = self.context.config
        scale, cap = config.connector_scale, config.credit_cap
        if cap is None and scale is not None:
            cap = Quantity(str(MAX_INTEGER), scale).to_amount()
        is_counted = scale is not None or self.context.engine.asset_scale is not None
        return replace(claim, scale=scale, cap=cap, max_integer=MAX_INTEGER if is_counted else None)

    async def take_step(self, step: Step) -> None:
        """Nothing has to be set up before money that is here already is credited."""
        raise AssertionError(step)

    async def perform(self, attempt: Attempt, *, fresh: bool) -> None:
        """Offer the credit to the connector until it takes it, or refuses it for good."""
        del fresh  # a credit from before a restart is offered again like any other
        started = anyio.current_time()
        while await self._is_our_turn():
            try:
                await self.confirm()
                self.doing = "crediting"
                outcome: object = await self.context.connector.credit(
                    self.account_id, attempt.amount, attempt.attempt_id
                )
            finally:
                self.context.crediting.end()
            match outcome:
                case Acknowledged():
                    await self.close(attempt, attempt.amount, partial(self._acknowledged, attempt, started))
                    self.succeeded()
                    return
                case Refused(reason):
                    held = CreditHeld(
                        account_id=self.account_id,
                        attempt_id=attempt.attempt_id,
                        amount=attempt.amount,
                        reason=reason,
                    )
                    await self.park(attempt, reason, partial(self.context.observe, held))
                    self.succeeded()
                    return
                case Unanswered(reason):
                    await self.rest(self.failed(reason), reason)
                case _:
                    raise InvariantError(
                        f"the connector broke its contract for credit {attempt.attempt_id!r}: it returned {outcome!r}; "
                        f"nothing was recorded, account {self.account_id!r} halts with the attempt open"
                    )

    async def _is_our_turn(self) -> bool:
        """Wait for our turn, which whoever asked gives back; False, without it, if we stop instead."""
        self.doing = "waiting for its turn"
        await self.context.crediting.begin()
        if self.stopping:
            self.context.crediting.end()
            return False
        return True

    def _acknowledged(self, attempt: Attempt, started: float) -> None:
        self.context.observe(
            CreditAcknowledged(
                account_id=self.account_id,
                attempt_id=attempt.attempt_id,
                amount=attempt.amount,
                took_s=anyio.current_time() - started,
            )
        )

"""Incoming: the peer paid us over the ledger, and the connector is told until it has heard.

A credit keeps its amount and its idempotency key for ever; only an operator can have it offered under another. A
connector that is known to forget keys is not offered a credit that it may have taken and forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import partial

import anyio

from settlement_core.abc import Acknowledged, CreditOutcome, Refused, Unanswered
from settlement_core.core.credit_answers import Answers, ask_answers, keep_answers, read_answers
from settlement_core.core.crediting import Turn
from settlement_core.core.lane import Lane
from settlement_core.core.offers import Offers
from settlement_core.values.amounts import ZERO, Quantity, check_amount, floor, plain
from settlement_core.values.backoff import Backoff
from settlement_core.values.commands import Claim, Overview
from settlement_core.values.errors import InvalidAmount, InvariantError
from settlement_core.values.events import CreditAcknowledged, CreditBlocked, CreditedLess, CreditHeld
from settlement_core.values.records import Attempt, Direction, Step
from settlement_core.values.texts import whole_text

__all__ = ["IncomingLane"]

MAX_INTEGER = 2**63 - 1
"""Connectors count in 64-bit integers of their own scale."""


_TOO_LATE = object()


class IncomingLane(Lane):
    """Credits what the peer paid."""

    __slots__ = ()
    direction = Direction.INCOMING

    @property
    def backoff(self) -> Backoff:
        """The delays between offers of the same credit."""
        return self.context.config.credit_backoff

    def bound(self, claim: Claim) -> Claim:
        """Claim what the connector can count: by the cap, or else by 63 bits of its scale, if set or learned.

        Whatever the cap, the integer that is sent stays within 63 bits, unless no scale is known at all, not even the
        ledger's: then nothing is known of what anybody counts in.
        """
        config = self.context.config
        scales = (config.connector_scale, self.context.connector_scales.get(self.account_id))
        scale, cap = min((known for known in scales if known is not None), default=None), config.credit_cap
        if cap is None and scale is not None:
            cap = Quantity(str(MAX_INTEGER), scale).to_amount()
        is_counted = scale is not None or self.context.engine.asset_scale is not None
        return replace(claim, scale=scale, cap=cap, max_integer=MAX_INTEGER if is_counted else None)

    async def take_step(self, step: Step) -> None:
        """Nothing has to be set up before money that is here already is credited."""
        raise AssertionError(step)

    async def perform(self, attempt: Attempt, *, fresh: bool) -> None:
        """Offer the credit to the connector until it takes it, refuses it for good, or may have forgotten its key."""
        started = anyio.current_time()
        offers = await self._offers_of(attempt, fresh=fresh)
        blocked = False
        asked = anyio.current_time()
        while (turn := await self._take_turn()) is not None:
            began, wall = anyio.current_time(), self.context.now()
            outcome = await self._offer(attempt, offers, turn)
            if outcome is _TOO_LATE:
                await self._hold(attempt, offers.why_held(), offers)
                return
            if isinstance(outcome, Refused) and outcome.maybe_proxy and await self._was_credited_before():
                if not blocked:
                    blocked = True
                    self._tell_blocked(attempt, outcome.reason)
                outcome = Unanswered(outcome.reason)
            self.context.connector_silent = isinstance(outcome, Unanswered)
            match outcome:
                case Acknowledged():
                    await self._book(attempt, outcome, started)
                    self._forget_answers(attempt, offers)
                    return
                case Refused(reason):
                    await self._hold_refused(attempt, reason, offers)
                    return
                case Unanswered(reason, _, retry_after_s):
                    self._add(attempt, offers, outcome, began=began, wall=wall)
                    delay_s = max(self.failed(reason), retry_after_s or 0.0)
                    # the next turn may be waited for as long as this one, and tries are never more than an hour apart
                    longest_s = self.backoff.max_s - (anyio.current_time() - asked)
                    delay_s = min(delay_s, max(longest_s, self.backoff.first_s))
                    if offers.is_too_late(anyio.current_time() + delay_s):
                        await self._hold(attempt, offers.why_held(), offers)
                        return
                    await self.rest(delay_s, reason)
                    asked = anyio.current_time()
                case _:
                    raise self._broken(attempt, f"it returned {outcome!r}")
        if fresh and not offers.sent:
            # no connector can know its key, so the next run need not wonder
            await self.close(attempt, ZERO)

    async def _offers_of(self, attempt: Attempt, *, fresh: bool) -> Offers:
        call_s: float = getattr(self.context.connector, "timeout_s", 0.0)
        offers = Offers(memory_s=self.context.config.connector_memory_s, call_s=call_s)
        if not fresh:
            kept = read_answers(await self.context.journal.ask(ask_answers(self.account_id)), attempt.attempt_id)
            offers.answers = kept or offers.answers
        if self.reopened and attempt.resolved_by:
            offers.answers.add(f"released by {attempt.resolved_by}: {attempt.reason}", wall=self.context.now())
        # who released it has said that it may be offered from now on
        if not fresh and not self.reopened:
            offers.assume_earlier(claimed_wall=attempt.claimed_at, wall=self.context.now(), at=anyio.current_time())
        return offers

    async def _offer(self, attempt: Attempt, offers: Offers, turn: Turn) -> object:
        """Return what the connector answers, or `_TOO_LATE` without asking if it may have forgotten the key."""
        answered = False
        try:
            await self.confirm()
            # no await between this and the call
            if offers.is_too_late(anyio.current_time()):
                return _TOO_LATE
            self.doing = "crediting"
            with turn.scope:
                turn.scope.deadline = offers.end
                outcome = await self.context.connector.credit(self.account_id, attempt.amount, attempt.attempt_id)
                answered = not isinstance(outcome, Unanswered)
                return _whole(outcome)
            if anyio.current_time() >= offers.end:
                return Unanswered("no answer before the connector may have forgotten the key")
            return Unanswered("no answer while many others waited for one; given up for now")
        finally:
            self.context.crediting.end(turn, answered=answered)

    async def _was_credited_before(self) -> bool:
        """Tell whether the connector ever acknowledged a credit of this account."""
        if self.account_id in self.context.connector_scales:
            return True  # by an answer that credited less, maybe nothing
        found = await self.context.journal.ask(Overview(account_id=self.account_id))
        return any(account.incoming.settled > 0 for account in found)

    async def _hold_refused(self, attempt: Attempt, reason: str, offers: Offers) -> None:
        before = offers.history()
        offers.answers.add(reason, wall=self.context.now())
        await self._hold(attempt, f"{reason}; before that {before}" if before else reason, offers, event_says=reason)

    async def _hold(self, attempt: Attempt, reason: str, offers: Offers, *, event_says: str = "") -> None:
        """Park the credit, with all that helps to decide about it; an event may say less."""
        held = CreditHeld(
            account_id=self.account_id,
            attempt_id=attempt.attempt_id,
            amount=attempt.amount,
            reason=event_says or reason,
        )
        self._keep_answers(attempt, offers.answers)
        await self.park(attempt, reason, partial(self.context.observe, held))
        self.succeeded()

    def _add(self, attempt: Attempt, offers: Offers, answer: Unanswered, *, began: float, wall: float) -> None:
        if offers.add(answer.reason, began=began, wall=wall, sent=answer.sent):
            self._keep_answers(attempt, offers.answers)

    def _forget_answers(self, attempt: Attempt, offers: Offers) -> None:
        if str(offers.answers):
            self._keep_answers(attempt, None)

    def _keep_answers(self, attempt: Attempt, answers: Answers | None) -> None:
        """Have the store keep the answers so far, for whoever offers or decides about the credit later."""
        self.context.journal.submit(keep_answers(self.account_id, attempt.attempt_id, answers))

    async def _book(self, attempt: Attempt, answer: Acknowledged, started: float) -> None:
        """Record what was credited; the rest is queued, until it adds up to what the connector can count."""
        credited = attempt.amount if answer.credited is None else self._within(answer, attempt)
        less = credited < attempt.amount
        floored = less and answer.scale is not None and credited == floor(attempt.amount, answer.scale)
        if floored and answer.scale is not None:
            self._learn(attempt, credited, answer.scale)
        await self.close(attempt, credited, partial(self._acknowledged, attempt, credited, started))
        if credited > 0 or not less:
            self.succeeded()
        if less and not floored:
            # at once it might answer the same again and again
            reason = f"the connector credited {credited:f} of {attempt.amount:f}"
            await self.rest(self.failed(reason), reason)

    def _learn(self, attempt: Attempt, credited: Decimal, scale: int) -> None:
        """Claim down to this scale from now on. What is claimed so can only be cut at a smaller one, so this ends."""
        known = self.context.connector_scales.get(self.account_id)
        if known is None:
            self.context.observe(
                CreditedLess(
                    account_id=self.account_id,
                    attempt_id=attempt.attempt_id,
                    offered=attempt.amount,
                    credited=credited,
                    scale=scale,
                )
            )
        self.context.connector_scales[self.account_id] = scale if known is None else min(known, scale)

    def _within(self, answer: Acknowledged, attempt: Attempt) -> Decimal:
        try:
            credited = check_amount(answer.credited, "credited amount")
        except InvalidAmount as problem:
            raise self._broken(attempt, f"it credited {answer.credited!r:.100}: {problem.problem}") from None
        if credited > attempt.amount:
            raise self._broken(attempt, f"it credited {credited:f}, more than it was offered")
        return plain(credited)

    def _broken(self, attempt: Attempt, found: str) -> InvariantError:
        return InvariantError(
            f"the connector broke its contract for credit {attempt.attempt_id!r}: {found}; "
            f"nothing was recorded, account {self.account_id!r} halts with the attempt open"
        )

    async def _take_turn(self) -> Turn | None:
        """Wait for our turn, which whoever asked gives back; None if we stop instead."""
        self.doing = "waiting for its turn"
        turn = await self.context.crediting.begin(retry=self._failures > 0)
        if self.stopping:
            self.context.crediting.end(turn, answered=False)
            return None
        return turn

    def _tell_blocked(self, attempt: Attempt, reason: str) -> None:
        self.context.observe(
            CreditBlocked(
                account_id=self.account_id, attempt_id=attempt.attempt_id, amount=attempt.amount, reason=reason
            )
        )

    def _acknowledged(self, attempt: Attempt, credited: Decimal, started: float) -> None:
        if credited > 0:
            self.context.observe(
                CreditAcknowledged(
                    account_id=self.account_id,
                    attempt_id=attempt.attempt_id,
                    amount=credited,
                    took_s=anyio.current_time() - started,
                )
            )


def _whole(outcome: CreditOutcome) -> CreditOutcome:
    """Return what the connector answered with its words as every store can keep them."""
    return replace(outcome, reason=whole_text(outcome.reason)) if isinstance(outcome, Refused | Unanswered) else outcome

"""Outgoing: the connector asked us to settle, and the engine pays over its ledger.

A minimal engine is asked once per attempt; whatever is not a plain answer leaves the attempt in doubt. A verifiable
engine's payment is durable before it is first submitted, and only the ledger's final word ends it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import anyio

from settlement_core.abc import InDoubt, Pending, Rejected, Settled, SettlementEngine, VerifiableEngine
from settlement_core.core.effects import Failed, perform
from settlement_core.core.lane import Lane
from settlement_core.values.amounts import ZERO, check_amount
from settlement_core.values.backoff import DAY_S, HOUR_S, Backoff
from settlement_core.values.commands import Applied, Claim, FinishStep, Note, Overview, Pause
from settlement_core.values.errors import EngineError, InvalidAmount, SettlementFailed, UnknownAttempt
from settlement_core.values.events import (
    AccountPaused,
    AccountReady,
    EngineMisbehaved,
    PaymentNoted,
    PaymentRejected,
    SettlementInDoubt,
    SettlementRecorded,
    StepDormant,
    StepFailed,
)
from settlement_core.values.json_text import decode_json, encode_json
from settlement_core.values.records import Attempt, Direction, Payment, Step
from settlement_core.values.texts import whole_text

if TYPE_CHECKING:
    from settlement_core.core.context import Context

__all__ = ["OutgoingLane"]

MAX_REASON = 500
"""Characters of an engine's reason that are kept with each attempt."""

# An engine that says "ask again at once" must not spin.
_SHORTEST_PENDING_S = 0.01


class OutgoingLane(Lane):
    """Settles what we owe the peer, and sets the account up first."""

    __slots__ = ("_began", "_step_fails_since", "_untried", "dormant")
    direction = Direction.OUTGOING

    def __init__(self, account_id: str, context: Context, *, lease: str) -> None:
        super().__init__(account_id, context, lease=lease)
        self._untried = ""
        """The attempt that we claimed first, and of which nothing was submitted yet."""
        self._step_fails_since: float | None = None
        self.dormant = False
        """Whether a step has failed for a day in an account that owes nothing: it is still tried, without notice."""

    @property
    def backoff(self) -> Backoff:
        """The delays between tries to pay."""
        return self.context.config.settle_backoff

    @property
    def halted_by_doubts(self) -> bool:
        """Tell whether nothing new is paid until an operator has looked."""
        return self.context.doubts.stopped

    def bound(self, claim: Claim) -> Claim:
        """Claim down to the ledger's scale: what is finer stays queued until it adds up."""
        return replace(claim, scale=self.context.engine.asset_scale)

    async def perform(self, attempt: Attempt, *, fresh: bool) -> None:
        """Pay the attempt by whichever contract the engine fulfils."""
        self._began = anyio.current_time()
        engine = self.context.engine
        if fresh:
            self._untried = attempt.attempt_id
        if engine.verifiable is not None:
            await self._pay_verifiably(engine.verifiable, attempt)
        elif fresh:
            assert engine.minimal is not None
            await self._settle(engine.minimal, attempt)
        else:
            when = f"the account halted ({self.halted_before})" if self.halted_before else "an earlier run ended"
            await self._doubt(attempt, f"it was under way when {when}, and this engine cannot look it up")

    # the minimal contract

    async def _settle(self, engine: SettlementEngine, attempt: Attempt) -> None:
        await self.confirm()
        self.doing = "settling"
        answer = await perform(lambda: engine.settle(self.account_id, attempt.amount), misbehaved=self._misbehaved)
        if isinstance(answer, Failed):
            failed = answer.words_if_only(SettlementFailed)
            if failed is not None:
                await self._record(attempt, ZERO, shortfall=f"nothing was settled: {failed}")
            else:
                answer.log_unknown(f"account {self.account_id} attempt {attempt.attempt_id}: settle")
                await self._doubt(attempt, f"settle did not answer but raised {answer.reason}")
            return
        settled = self._within(answer, attempt, limit=attempt.amount, did="settled")
        await self._record(attempt, settled, shortfall=_shortfall(settled, of=attempt.amount))

    async def _doubt(self, attempt: Attempt, reason: str) -> None:
        doubt = SettlementInDoubt(
            account_id=self.account_id, attempt_id=attempt.attempt_id, amount=attempt.amount, reason=reason
        )
        self.context.doubts.doubted()
        await self.park(attempt, reason, partial(self.context.observe, doubt))

    # the verifiable contract

    async def _pay_verifiably(self, engine: VerifiableEngine, attempt: Attempt) -> None:
        payment = attempt.payment
        if payment is None:
            payment = await self._prepare(engine, attempt)
            if payment is None or self.stopping:
                return
            if not await self._note(attempt, payment):
                return
            # else an earlier worker may have submitted it, and the store have forgotten that: ask the ledger first
            if self._untried == attempt.attempt_id:
                await self._submit(engine, payment)
        await self._await_verdict(engine, attempt, payment)

    async def _note(self, attempt: Attempt, payment: Payment) -> bool:
        """Make the payment durable before anything can move; False if the attempt is to be claimed again."""
        note = Note(account_id=self.account_id, attempt_id=attempt.attempt_id, payment=payment, lease=self.lease)
        noted = PaymentNoted(account_id=self.account_id, attempt_id=attempt.attempt_id, amount=payment.amount)
        try:
            await self.context.journal.submit(note, lambda *_: self.context.observe(noted)).wait()
        except UnknownAttempt:
            return False  # the store forgot it, so its money is in the queue again
        return True

    async def _prepare(self, engine: VerifiableEngine, attempt: Attempt) -> Payment | None:
        """Return the payment to note, or None once the attempt has been dealt with otherwise for now."""
        self.doing = "preparing"
        answer = await perform(
            lambda: engine.prepare(self.account_id, attempt.amount, attempt.attempt_id), misbehaved=self._misbehaved
        )
        if answer is None:
            await self._record(attempt, ZERO, shortfall="the engine finds it not worth paying yet", expected=True)
            return None
        if isinstance(answer, Failed):
            failed = answer.words_if_only(SettlementFailed)
            if failed is not None:
                await self._record(attempt, ZERO, shortfall=f"nothing was prepared: {failed}")
            else:
                reason = f"prepare raised {answer.reason}"
                await self.rest(self.failed(reason), reason)
            return None
        if not isinstance(answer, Payment):
            raise self._broken(attempt, f"prepare returned {type(answer).__name__}, not a Payment")
        amount = self._within(answer.amount, attempt, limit=attempt.amount, did="prepared a payment of")
        if amount == 0:
            raise self._broken(attempt, "prepare returned a payment of nothing")
        try:
            reference = decode_json(encode_json(answer.reference))
        except ValueError as problem:
            raise self._broken(attempt, f"prepare returned a reference we cannot keep: {problem}") from None
        return Payment(amount, reference)

    async def _submit(self, engine: VerifiableEngine, payment: Payment) -> None:
        """Hand the payment over. What that raises tells nothing for certain: the verdict does."""
        await self.confirm()
        self._untried = ""
        self.doing = "submitting"
        answer = await perform(lambda: engine.submit(payment), misbehaved=self._misbehaved)
        if isinstance(answer, Failed):
            answer.log_unknown(f"account {self.account_id} attempt {self.attempt_id}: submit")
            self.error = f"submit raised {answer.reason}"

    async def _await_verdict(self, engine: VerifiableEngine, attempt: Attempt, payment: Payment) -> None:
        while not self.stopping:
            self.doing = "verifying"
            verdict = await perform(lambda: engine.verify(payment), misbehaved=self._misbehaved)
            match verdict:
                case Settled(amount):
                    settled = self._within(amount, attempt, limit=payment.amount, did="verified as settled")
                    # what was not part of the payment can be paid at once: only a payment cut short must wait
                    await self._record(attempt, settled, shortfall=_shortfall(settled, of=payment.amount))
                    return
                case Rejected(words, pause):
                    reason = whole_text(words)
                    if pause:
                        await self._pause(reason)
                    self.context.observe(
                        PaymentRejected(
                            account_id=self.account_id,
                            attempt_id=attempt.attempt_id,
                            amount=payment.amount,
                            reason=reason,
                        )
                    )
                    await self._record(attempt, ZERO, shortfall=f"the payment was rejected: {reason}")
                    return
                case Pending(retry_after_s, resubmit):
                    if resubmit:
                        await self._submit(engine, payment)
                    await self.wait(self._pending_s(retry_after_s, attempt), doing="pending")
                case InDoubt(words):
                    await self._doubt(attempt, whole_text(words))
                    return
                case Failed():
                    reason = f"verify raised {verdict.reason}"
                    await self.rest(self.failed(reason), reason)
                case _:
                    raise self._broken(attempt, f"verify returned {type(verdict).__name__}, not a verdict")

    async def _pause(self, reason: str) -> None:
        """Begin nothing more in the account until an operator resumes it."""
        pause = Pause(account_id=self.account_id, paused=True, reason=reason, by="the engine", at=self.context.now())
        paused = AccountPaused(account_id=self.account_id, reason=reason)
        await self.context.journal.submit(pause, lambda result, _: self._tell_paused(result, paused)).wait()

    def _tell_paused(self, result: Applied, paused: AccountPaused) -> None:
        if result.changed:
            self.context.observe(paused)

    # what both share

    async def _record(
        self, attempt: Attempt, settled: Decimal, *, shortfall: str | None = None, expected: bool = False
    ) -> None:
        """Close the attempt; if it fell short, wait until the rest is worth another try."""
        told = partial(self._recorded, attempt, settled)
        await self.close(attempt, settled, told, reason=(shortfall or "")[:MAX_REASON])
        if settled > 0:
            self.context.doubts.settled()
            self.succeeded()
        if shortfall is not None:
            await self.rest(self.failed(shortfall, expected=expected), shortfall, deaf=False)

    def _recorded(self, attempt: Attempt, settled: Decimal) -> None:
        self.context.observe(
            SettlementRecorded(
                account_id=self.account_id,
                attempt_id=attempt.attempt_id,
                attempted=attempt.amount,
                amount=settled,
                took_s=anyio.current_time() - self._began,
            )
        )

    def _within(self, amount: object, attempt: Attempt, *, limit: Decimal, did: str) -> Decimal:
        try:
            checked = check_amount(amount, "amount from the engine")
        except InvalidAmount as problem:
            raise self._broken(attempt, f"{did} {amount!r:.100}: {problem.problem}") from None
        if checked > limit:
            raise self._broken(attempt, f"{did} {checked:f}, more than the {limit:f} it may")
        return checked

    def _pending_s(self, retry_after_s: object, attempt: Attempt) -> float:
        if not isinstance(retry_after_s, int | float) or not math.isfinite(retry_after_s) or retry_after_s < 0:
            raise self._broken(attempt, f"verify asked to be called again after {retry_after_s!r} seconds")
        return min(max(retry_after_s, _SHORTEST_PENDING_S), HOUR_S)

    def _broken(self, attempt: Attempt, found: str) -> EngineError:
        return EngineError(
            f"the engine broke its contract for attempt {attempt.attempt_id!r} of {attempt.amount:f}: {found}; "
            f"nothing was recorded, account {self.account_id!r} halts with the attempt open"
        )

    def _misbehaved(self, reason: str) -> None:
        self.context.observe(
            EngineMisbehaved(account_id=self.account_id, doing=self.doing, reason=reason, attempt_id=self.attempt_id)
        )

    # the account itself

    async def take_step(self, step: Step) -> None:
        """Have the engine set the account up, or tear it down; settlement waits for it."""
        engine = self.context.engine
        call = engine.setup_account if step is Step.SET_UP else engine.close_account
        if call is not None:
            self.doing = step.value
            answer = await perform(lambda: call(self.account_id), misbehaved=self._misbehaved)
            if isinstance(answer, Failed):
                await self._rest_before(step, answer.reason)
                return
        finished = FinishStep(account_id=self.account_id, step=step, lease=self.lease)
        ready = AccountReady(account_id=self.account_id, step=step)
        await self.context.journal.submit(finished, lambda *_: self.context.observe(ready)).wait()
        self._step_fails_since, self.dormant = None, False
        self.succeeded()

    async def _rest_before(self, step: Step, reason: str) -> None:
        if self._step_fails_since is None:
            self._step_fails_since = anyio.current_time()
        if anyio.current_time() - self._step_fails_since >= DAY_S and not await self._owes():
            await self._rest_dormant(step, reason)
            return
        self.dormant = False
        delay_s = self.failed(f"{step} failed: {reason}")
        self.context.observe(
            StepFailed(account_id=self.account_id, step=step, reason=reason, failures=self._failures, delay_s=delay_s)
        )
        # a new request does not make the peer answer sooner, but being asked for the set-up again may
        await self.wait(delay_s, doing=f"backing off before {step}")

    async def _owes(self) -> bool:
        """Tell whether money waits for the step."""
        found = await self.context.journal.ask(Overview(account_id=self.account_id))
        return any(account.outgoing.queued > 0 for account in found)

    async def _rest_dormant(self, step: Step, reason: str) -> None:
        """Wait as long as a back-off may be; only the first time is an event."""
        if not self.dormant:
            self.dormant = True
            self.context.observe(StepDormant(account_id=self.account_id, step=step, reason=reason))
        self.context.outages[self.direction].leave(self)
        # no money waits for it, so it is not counted among what is tried again
        self._failures, self.error = 0, f"{step} failed: {reason}"
        await self.wait(self.backoff.max_s, doing=f"dormant: {step} fails")


def _shortfall(settled: Decimal, *, of: Decimal) -> str | None:
    return f"only {settled:f} of {of:f} was settled" if settled < of else None

"""Cores that are broken on purpose, each in one way that costs money."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from settlement_core.abc import Acknowledged, Unanswered, VerifiableEngine
from settlement_core.core.effects import Failed, perform
from settlement_core.core.incoming import IncomingLane
from settlement_core.core.lane import Lane
from settlement_core.core.outgoing import OutgoingLane
from settlement_core.core.services import Services
from settlement_core.core.sharing import Sharing
from settlement_core.core.supervisor import Supervisor
from settlement_core.values.amounts import ZERO
from settlement_core.values.books import AccountBooks
from settlement_core.values.commands import Claim, Claimed, Close
from settlement_core.values.records import Attempt, Direction, Payment

__all__ = ["MUTANTS"]

Plant = Callable[[pytest.MonkeyPatch], None]

MUTANTS: dict[str, Plant] = {}


def mutant(plant: Plant) -> Plant:
    """List one."""
    MUTANTS[plant.__name__] = plant
    return plant


@mutant
def submitted_before_it_is_noted(patch: pytest.MonkeyPatch) -> None:
    """The payment reaches the ledger before the store has it."""
    note = OutgoingLane._note

    async def submit_then_note(lane: OutgoingLane, attempt: Attempt, payment: Payment) -> bool:
        engine = lane.context.engine.verifiable
        assert engine is not None
        await lane._submit(engine, payment)
        return await note(lane, attempt, payment)

    patch.setattr(OutgoingLane, "_note", submit_then_note)


@mutant
def never_noted(patch: pytest.MonkeyPatch) -> None:
    """The payment is not kept at all."""

    async def note(lane: OutgoingLane, attempt: Attempt, payment: Payment) -> bool:
        return True

    patch.setattr(OutgoingLane, "_note", note)


@mutant
def resubmitted_after_a_restart_without_asking(patch: pytest.MonkeyPatch) -> None:
    """What an earlier run prepared is submitted before the ledger is asked."""
    await_verdict = OutgoingLane._await_verdict

    async def submit_first(lane: OutgoingLane, engine: VerifiableEngine, attempt: Attempt, payment: Payment) -> None:
        if attempt.payment is not None:
            await lane._submit(engine, payment)
        await await_verdict(lane, engine, attempt, payment)

    patch.setattr(OutgoingLane, "_await_verdict", submit_first)


@mutant
def a_failed_submit_counts_as_rejected(patch: pytest.MonkeyPatch) -> None:
    """A lost reply frees the money, which is paid again."""

    async def pay(lane: OutgoingLane, engine: VerifiableEngine, attempt: Attempt) -> None:
        payment = attempt.payment or await lane._prepare(engine, attempt)
        if payment is None or not await lane._note(attempt, payment):
            return
        await lane.confirm()
        if attempt.payment is None:
            answer = await perform(lambda: engine.submit(payment), misbehaved=lane._misbehaved)
            if isinstance(answer, Failed):
                await lane._record(attempt, ZERO, shortfall="it failed")
                return
        await lane._await_verdict(engine, attempt, payment)

    patch.setattr(OutgoingLane, "_pay_verifiably", pay)


@mutant
def an_exception_of_settle_counts_as_unpaid(patch: pytest.MonkeyPatch) -> None:
    """An unclear outcome is paid again."""

    async def doubt(lane: OutgoingLane, attempt: Attempt, reason: str) -> None:
        await lane._record(attempt, ZERO, shortfall=reason)

    patch.setattr(OutgoingLane, "_doubt", doubt)


@mutant
def an_exception_of_settle_counts_as_paid(patch: pytest.MonkeyPatch) -> None:
    """An unclear outcome is taken for a payment: the debt is lost."""

    async def doubt(lane: OutgoingLane, attempt: Attempt, reason: str) -> None:
        await lane._record(attempt, attempt.amount)

    patch.setattr(OutgoingLane, "_doubt", doubt)


@mutant
def closed_with_all_when_part_was_paid(patch: pytest.MonkeyPatch) -> None:
    """What is left over is forgotten."""
    close = Lane.close

    async def close_all(lane: Lane, attempt: Attempt, settled: Any, *tell: Any) -> None:
        await close(lane, attempt, attempt.amount if settled else settled, *tell)

    patch.setattr(Lane, "close", close_all)


@mutant
def a_fresh_key_for_every_offer(patch: pytest.MonkeyPatch) -> None:
    """An unanswered credit is offered again under another key."""

    class Fresh:
        def __init__(self, connector: Any) -> None:
            self.connector = connector
            self.send_message = connector.send_message
            self.seen: set[str] = set()

        async def credit(self, account_id: str, amount: Any, key: str) -> Any:
            again = key in self.seen
            self.seen.add(key)
            return await self.connector.credit(account_id, amount, str(uuid.uuid4()) if again else key)

    perform_ = IncomingLane.perform

    async def fresh(lane: IncomingLane, attempt: Attempt, *, fresh: bool) -> None:
        if not isinstance(lane.context.connector, Fresh):
            lane.context.connector = Fresh(lane.context.connector)
        await perform_(lane, attempt, fresh=fresh)

    patch.setattr(IncomingLane, "perform", fresh)


@mutant
def an_unanswered_credit_is_merged_into_the_next(patch: pytest.MonkeyPatch) -> None:
    """As the original did."""

    async def merge(lane: IncomingLane, attempt: Attempt, *, fresh: bool) -> None:
        await lane.confirm()
        outcome = await lane.context.connector.credit(lane.account_id, attempt.amount, attempt.attempt_id)
        await lane.close(attempt, attempt.amount if isinstance(outcome, Acknowledged) else ZERO)
        if isinstance(outcome, Unanswered):
            await lane.rest(lane.failed(outcome.reason), outcome.reason)

    patch.setattr(IncomingLane, "perform", merge)


@mutant
def a_refused_credit_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """Instead of waiting for a person."""

    async def drop(lane: Lane, attempt: Attempt, reason: str, *tell: Any) -> None:
        await lane.close(attempt, attempt.amount)

    patch.setattr(IncomingLane, "park", drop)


@mutant
def the_lease_is_not_looked_at_before_an_effect(patch: pytest.MonkeyPatch) -> None:
    """A worker goes on with accounts that others have taken meanwhile."""

    async def confirm(lane: Lane) -> None:
        return

    patch.setattr(Lane, "confirm", confirm)


@mutant
def records_show_no_lease(patch: pytest.MonkeyPatch) -> None:
    """The store cannot refuse who has lost the account."""
    claiming, closing = Lane._claiming, Lane._closing

    def no_claiming(lane: Lane, attempt_id: str) -> Claim:
        return replace(claiming(lane, attempt_id), lease="")

    def no_closing(lane: Lane, attempt_id: str, settled: Any) -> Close:
        return replace(closing(lane, attempt_id, settled), lease="")

    patch.setattr(Lane, "_claiming", no_claiming)
    patch.setattr(Lane, "_closing", no_closing)


@mutant
def an_engine_that_is_to_be_led_runs_anywhere(patch: pytest.MonkeyPatch) -> None:
    """Two workers number their transactions alike."""

    async def lead(sharing: Sharing, standing_by: Callable[[], None]) -> None:
        return

    patch.setattr(Sharing, "lead", lead)


@mutant
def a_paused_account_goes_on(patch: pytest.MonkeyPatch) -> None:
    """What a person said is kept, and ignored."""
    patch.setattr(AccountBooks, "paused", property(lambda account: False))


@mutant
def claimed_again_under_a_new_id_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """What was open is queued again at the start, although it may have been paid."""
    work_on = Lane._work_on

    async def reclaim(lane: Lane, answer: Claimed) -> None:
        if answer.fresh or lane.direction is Direction.INCOMING:
            await work_on(lane, answer)
        else:
            await lane.close(answer.attempt, ZERO)

    patch.setattr(Lane, "_work_on", reclaim)


@mutant
def what_is_open_is_never_looked_at_again(patch: pytest.MonkeyPatch) -> None:
    """Nothing resumes at the start."""

    async def recover(supervisor: Supervisor, context: Any, leases: Any) -> None:
        supervisor.recovered = True

    patch.setattr(Supervisor, "_recover", recover)


@mutant
def a_payment_is_credited_under_another_id_each_time(patch: pytest.MonkeyPatch) -> None:
    """A ledger that repeats an event has it credited twice."""
    credit = Services.credit_settlement

    async def anew(services: Services, account_id: str, amount: Any, settlement_id: str | None = None) -> None:
        await credit(services, account_id, amount)

    patch.setattr(Services, "credit_settlement", anew)

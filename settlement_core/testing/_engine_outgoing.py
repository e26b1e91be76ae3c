"""What `check_engine` claims of an engine that pays: each function is one promise, its name and docstring say which."""

from __future__ import annotations

import contextlib
import uuid
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from settlement_core.abc import Rejected, Settled, Verdict
from settlement_core.testing._engine_cuts import Cut, Way
from settlement_core.testing._engine_ledger import button
from settlement_core.testing._engine_lives import Life, Trial
from settlement_core.values.amounts import ZERO, add, subtract
from settlement_core.values.errors import SettlementError
from settlement_core.values.records import Payment

if TYPE_CHECKING:
    from settlement_core.testing.engine_check import Check


# in peace, and struck at every moment


async def pays_exactly_once_in_peace(check: Check) -> None:
    """What is owed is paid once, to the last digit, also if the account's set-up is repeated; the books say so."""

    async def act(trial: Trial) -> None:
        async def owe(life: Life) -> None:
            for _ in range(2):
                await life.open_account()
            await _talk(life)
            await life.owe()

        trace = await trial.live(owe)
        await _expect_paid_once(trial, "in peace")
        account = trial.books()
        assert account is not None
        assert not account.outgoing.parked, "in peace: settle did not answer, and the settlement is in doubt"
        check.trace = trace
        await trial.live(Life.owe)
        await _expect_paid_once(trial, "after a restart in peace")

    await check.on_a_fresh_ledger(act)


async def pays_once_although_it_is_cancelled(check: Check) -> None:
    """A call that is cancelled, anywhere in it, ends promptly and by its cancellation; what it did is found out."""
    await _strike_everywhere(check, Way.CANCEL)


async def pays_once_although_it_crashes(check: Check) -> None:
    """Whatever the store and the ledger have at any moment is enough to go on from."""
    await _strike_everywhere(check, Way.CRASH)


async def pays_once_although_it_is_shut_down(check: Check) -> None:
    """A shutdown in the middle of any call leaves nothing behind that a restart does not find."""
    await _strike_everywhere(check, Way.SHUT_DOWN)


async def pays_once_although_a_call_fails(check: Check) -> None:
    """A call that does not get through, or whose answer does not, decides nothing about the money."""
    for moment in check.peace.calls_that_fail():
        await _strike(check, Cut(Way.LOSE, moment))


async def pays_once_although_the_store_forgets(check: Check) -> None:
    """A store that fails over may forget a noted payment: another one is prepared for the same attempt.

    The ledger must take the two for the same, or refuse one of them.
    """
    for moment in check.moments():
        # before anything is submitted, there is nothing to be forgotten
        if moment.call == "verify" or (moment.call == "submit" and moment.wait):
            await _strike(check, Cut(Way.FORGET, moment))


async def _strike_everywhere(check: Check, way: Way) -> None:
    for moment in check.moments():
        await _strike(check, Cut(way, moment))


async def _strike(check: Check, cut: Cut) -> None:
    """Live until the cut, then again in peace: all is paid, once."""

    async def act(trial: Trial) -> None:
        async def owe(life: Life) -> None:
            await _talk(life)
            await life.owe()

        try:
            watch = await trial.live(owe, cut=cut)
            check.lives += watch.struck_at is not None
            await trial.live(Life.owe)
        except AssertionError as problem:
            raise type(problem)(f"{cut}: {problem}") from problem
        await _expect_paid_once(trial, f"{cut}")

    await check.on_a_fresh_ledger(act)


async def _talk(life: Life) -> None:
    """Have the engine handle a message, if it can, so that this can be struck, too."""
    if hasattr(life.engine, "handle_message"):
        await life.open_account()
        with contextlib.suppress(SettlementError):  # it may well not like it
            await life.core.handle_message(life.trial.account_id, b'{"type":"check"}')


async def _expect_paid_once(trial: Trial, when: str) -> None:
    """Hold the books against the ledger, once nothing is on its way any more."""
    paid, account = await trial.paid(), trial.books()
    assert account is not None
    books = account.outgoing
    owed, known = books.entered, add(books.settled, books.parked)
    found = f"paid {paid:f} for a settlement of {owed:f}"
    _expect_exact(paid, owed)
    assert paid <= owed, f"{when}: {found}: what may have been paid already was paid again"
    assert books.settled <= paid, f"{when}: {found}, of which the books say {books.settled:f} was settled"
    assert paid <= known, f"{when}: {found}, of which the books know only {known:f}: the rest would be paid again"
    assert paid == owed or books.parked, f"{when}: {found}"


def _expect_exact(paid: Decimal, asked: Decimal) -> None:
    rounded = 0 < subtract(paid, asked).copy_abs() < asked / 1000
    assert not rounded, f"paid {paid:f} for {asked:f}: an amount was rounded on its way"


async def expect_as_said(trial: Trial, payment: Payment, verdict: Verdict) -> None:
    """Hold a final verdict against the ledger."""
    paid = await trial.paid()
    _expect_exact(paid, payment.amount)
    match verdict:
        case Rejected():
            assert paid == 0, f"verify said Rejected of a payment of {paid:f} that then applied"
        case Settled(amount):
            # less is as bad as more: the core pays the difference again
            less = amount < paid <= payment.amount
            assert not less, f"verify said Settled({amount:f}) of a payment by which the ledger moved {paid:f}"


# with faults of the ledger itself


async def pays_once_although_a_request_is_lost(check: Check) -> None:
    """A submission that never arrives, and is not answered, is found missing and submitted again."""
    await _press_and_owe(check, "lose_next_request", "after a lost request")


async def pays_once_although_a_reply_is_lost(check: Check) -> None:
    """A submission that arrives, but is not answered, has not failed."""
    await _press_and_owe(check, "lose_next_reply", "after a lost reply")


async def pays_once_in_the_end_after_a_rejection(check: Check) -> None:
    """Money that the ledger refused to move for good is paid by another payment, once."""
    await _press_and_owe(check, "reject_next", "after a rejected payment")


async def pays_once_through_a_reorganisation(check: Check) -> None:
    """A payment that the ledger throws back before it is final is neither settled nor lost."""
    await _press_and_owe(check, "reorganise", "after a reorganisation", after_submit=True)


async def _press_and_owe(check: Check, name: str, when: str, *, after_submit: bool = False) -> None:
    async def act(trial: Trial) -> None:
        press = button(trial.ledger, name)
        assert press is not None
        # a minimal engine is in the middle of paying only as long as `settle` is
        if not after_submit:
            await trial.live(Life.open_account)
            await press()
        try:
            await trial.live(Life.owe, after_submit=press if after_submit else None)
            await trial.live(Life.owe)
        except AssertionError as problem:
            raise AssertionError(f"{when}: {problem}") from problem
        await _expect_paid_once(trial, when)

    await check.on_a_fresh_ledger(act)


# what only an engine that can be asked must do


async def prepares_without_effect(check: Check) -> None:
    """`prepare` moves nothing, and what it returns is JSON."""

    async def act(trial: Trial) -> None:
        async def prepare(life: Life) -> None:
            await life.open_account()
            await life.prepare()

        await trial.live(prepare)
        paid = await trial.paid()
        assert paid == 0, f"prepare alone paid {paid:f}: it must have no effect"

    await check.on_a_fresh_ledger(act)


async def verifies_what_was_never_submitted(check: Check) -> None:
    """Such a payment is Pending with `resubmit`, after a restart, too; or Rejected, and then can never apply."""

    async def act(trial: Trial) -> None:
        payments: list[Payment] = []
        verdicts: list[Verdict] = []

        async def prepare(life: Life) -> None:
            await life.open_account()
            payments.append(await life.prepare())
            verdicts.append(await life.final_word(payments[0], submitting=False))

        async def verify(life: Life) -> None:
            verdicts.append(await life.final_word(payments[0], submitting=False))
            for verdict in verdicts:
                assert not isinstance(verdict, Settled), "verify said Settled of a payment that was never submitted"
            await life.submit(payments[0])
            verdicts.append(await life.final_word(payments[0]))

        await trial.live(prepare)
        await trial.live(verify)
        for verdict in verdicts:
            await expect_as_said(trial, payments[0], verdict)

    await check.on_a_fresh_ledger(act)


async def submits_twice_and_pays_once(check: Check) -> None:
    """The identical payment may be submitted any number of times, also once it is final, and after a restart."""

    async def act(trial: Trial) -> None:
        payments: list[Payment] = []
        verdicts: list[Verdict] = []

        async def submit(life: Life) -> None:
            await life.open_account()
            payments.append(await life.prepare())
            await life.submit(payments[0])
            await submit_again(life)

        async def submit_again(life: Life) -> None:
            await life.submit(payments[0])
            verdicts.append(await life.final_word(payments[0]))

        for again in (submit, submit_again):
            await trial.live(again)
            await expect_as_said(trial, payments[0], verdicts[-1])
            paid, amount = await trial.paid(), payments[0].amount
            assert paid <= amount, f"paid {paid:f} by a payment of {amount:f}: submitted twice, it pays twice"

    await check.on_a_fresh_ledger(act)


async def prepares_twice_and_pays_once(check: Check) -> None:
    """Two payments prepared for the same attempt are the same to the ledger, or it refuses one of them."""

    async def act(trial: Trial) -> None:
        attempt_id, amounts = str(uuid.uuid4()), []

        async def pay(life: Life) -> None:
            await life.open_account()
            first, second = await life.prepare(attempt_id), await life.prepare(attempt_id)
            amounts.append(max(first.amount, second.amount))
            await life.submit(first)
            if second != first:
                await life.submit(second)
            await life.final_word(first)

        await trial.live(pay)
        paid = await trial.paid()
        _expect_exact(paid, amounts[0])
        assert paid <= amounts[0], (
            f"paid {paid:f} for one attempt of {amounts[0]:f} that was prepared twice: every prepare makes a "
            "transaction of its own; derive it from the attempt's id"
        )

    await check.on_a_fresh_ledger(act)


async def rejects_for_good(check: Check) -> None:
    """What was once Rejected is so for ever, also after a restart; submitted again, it does not apply."""

    async def act(trial: Trial) -> None:
        payments = []

        async def be_rejected(life: Life) -> None:
            await life.open_account()
            payments.append(await life.prepare())
            press = button(trial.ledger, "reject_next")
            assert press is not None
            await press()
            await life.submit(payments[0])
            verdict = await life.final_word(payments[0])
            assert isinstance(verdict, Rejected), f"verify said {verdict} of a payment that the ledger refused for good"

        async def stay_rejected(life: Life) -> None:
            for _ in range(2):
                verdict = await life.insist("a verdict", partial(life.engine.verify, payments[0]))
                assert isinstance(verdict, Rejected), f"verify said Rejected, and after a restart {verdict}"
                await life.submit(payments[0])
                await trial.make_final()

        await trial.live(be_rejected)
        await trial.live(stay_rejected)
        paid = await trial.paid()
        assert paid == ZERO, f"verify said Rejected of a payment of {paid:f} that then applied"

    await check.on_a_fresh_ledger(act)

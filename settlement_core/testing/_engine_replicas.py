"""What `check_engine` claims of an engine whose ledger answers from replicas that do not all hold everything.

Absence is evidence only from a source that has just shown that it holds the range in question. Each promise has the
engine ask a replica that does not hold what happened, and then one that does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from settlement_core.abc import Pending, Rejected, Verdict
from settlement_core.testing._engine_incoming import expect_credited_once
from settlement_core.testing._engine_ledger import button
from settlement_core.testing._engine_lives import Life, Trial
from settlement_core.testing._engine_outgoing import expect_as_said
from settlement_core.values.records import Payment

if TYPE_CHECKING:
    from settlement_core.testing.engine_check import Check

_ALWAYS: Final = 1.0
_HALF: Final = 0.5
"""Shares of the engine's look-ups that the replica answers. With a half, two look-ups of one decision often differ."""

_LOOKS: Final = 30
"""Verdicts asked for, a block or more after each: enough for a payment to expire."""

_LOOKING_S: Final = 2.0
"""Seconds an engine has to be misled."""

_PAUSE_S: Final = 0.02


# outgoing


async def ends_no_payment_that_a_lagging_replica_does_not_hold(check: Check) -> None:
    """The replica that is asked stands before the submission: that it has no such payment proves nothing."""
    await _pay(check, "fall_behind", _ALWAYS, "a replica that lags behind")


async def ends_no_payment_that_a_pruned_replica_does_not_hold(check: Check) -> None:
    """The replica that is asked has dropped the payment's blocks: that it has no such payment proves nothing."""
    await _pay(check, "prune", _ALWAYS, "a replica that has pruned the payment's blocks")


async def ends_no_payment_between_two_replicas(check: Check) -> None:
    """One look-up is answered by a replica that is up to date, the next by one that lags.

    The height of the one says nothing about what is absent from the other.
    """
    await _pay(check, "fall_behind", _HALF, "two replicas, of which one lags behind")


async def _pay(check: Check, name: str, share: float, source: str) -> None:
    """Apply a payment, have the engine verify it through replicas, also after a restart, and then as it is."""

    async def act(trial: Trial) -> None:
        payments: list[Payment] = []
        verdicts: list[Verdict] = []

        async def pay(life: Life) -> None:
            await life.open_account()
            payments.append(await life.prepare())
            if name == "fall_behind":
                await _press(trial, name, share)
            await life.submit(payments[0])
            await trial.make_final()
            if name == "prune":
                await _press(trial, name, share)
            await look(life)

        async def look(life: Life) -> None:
            with anyio.move_on_after(_LOOKING_S):
                await _look(life, payments[0], source)

        async def conclude(life: Life) -> None:
            await _press(trial, "catch_up")
            verdicts.append(await life.final_word(payments[0]))

        for scenario in (pay, look, conclude):
            await trial.live(scenario)
        await expect_as_said(trial, payments[0], verdicts[0])
        paid, amount = await trial.paid(), payments[0].amount
        assert paid <= amount, f"paid {paid:f} by a payment of {amount:f}: the ledger was asked through {source}"

    await check.on_a_fresh_ledger(act)


async def _look(life: Life, payment: Payment, source: str) -> None:
    """Verify often, as the core does; raise AssertionError if a payment that applied is taken for rejected."""
    for _ in range(_LOOKS):
        verdict: Any = None
        try:
            verdict = await life.engine.verify(payment)
        except Exception:  # noqa: BLE001 - an engine may well refuse to say anything
            verdict = None
        if isinstance(verdict, Rejected):
            paid = await life.trial.paid()
            assert paid == 0, (
                f"verify said Rejected of a payment of {paid:f} that had applied, having asked {source}: absence is "
                "evidence only from a source that has just shown that it holds the range in question"
            )
            return
        if isinstance(verdict, Pending) and verdict.resubmit:
            await life.submit(payment)
        await life.trial.make_final()
        await anyio.sleep(_PAUSE_S)


# incoming


async def loses_no_credit_to_a_lagging_replica(check: Check) -> None:
    """What is paid while the replica that is asked does not hold it yet is credited once it does."""

    async def act(trial: Trial) -> None:
        async def earn(life: Life) -> None:
            await life.open_account()
            await _press(trial, "fall_behind", _ALWAYS)
            await trial.be_paid(life.amount)
            await anyio.sleep(_LOOKING_S)
            await _press(trial, "catch_up")
            await life.until_credited()

        await _earn(trial, earn, through="a replica that lagged behind")

    await check.on_a_fresh_ledger(act)


async def loses_no_credit_to_a_pruned_replica(check: Check) -> None:
    """What was paid before the blocks that the replica holds is not taken for credited, nor for never paid."""

    async def act(trial: Trial) -> None:
        async def begin(life: Life) -> None:
            await life.open_account()
            begun.append(life)

        async def earn(life: Life) -> None:
            # this one it holds: it must not hide the one before
            await trial.be_paid(life.amount)
            await anyio.sleep(_LOOKING_S)
            await _press(trial, "catch_up")
            await life.until_credited()

        begun: list[Life] = []
        await trial.live(begin)
        await trial.be_paid(begun[0].amount)
        await _press(trial, "prune", _ALWAYS)
        await _earn(trial, earn, through="a replica that had pruned the payment's blocks")

    await check.on_a_fresh_ledger(act)


async def loses_no_credit_between_two_replicas(check: Check) -> None:
    """The cursor never moves to the height of one replica for what another one did not hold."""

    async def act(trial: Trial) -> None:
        async def earn(life: Life) -> None:
            await life.open_account()
            await _press(trial, "fall_behind", _HALF)
            for _ in range(3):
                await trial.be_paid(life.amount)
                await anyio.sleep(_LOOKING_S / 3)
            await _press(trial, "catch_up")
            await life.until_credited()

        await _earn(trial, earn, through="two replicas, of which one lagged behind")

    await check.on_a_fresh_ledger(act)


async def _earn(trial: Trial, scenario: Callable[[Life], Awaitable[None]], *, through: str) -> None:
    """Live the scenario; say what an engine that loses a credit in it has believed."""
    try:
        await trial.live(scenario)
    except AssertionError as problem:
        raise type(problem)(
            f"{problem}; it had looked through {through}: a cursor moves past a range only if the source has just "
            "shown that it holds all of it"
        ) from problem
    await expect_credited_once(trial, f"having looked through {through}")


async def _press(trial: Trial, name: str, *share: float) -> None:
    press = button(trial.ledger, name)
    assert press is not None
    with anyio.CancelScope(shield=True):
        await partial(press, *share)()

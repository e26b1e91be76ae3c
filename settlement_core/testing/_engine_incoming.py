"""What `check_engine` claims of an engine that is paid, written to, or has peers that misbehave: one promise each."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio

from settlement_core.testing._engine_cuts import Cut, Way
from settlement_core.testing._engine_ledger import button
from settlement_core.testing._engine_lives import Life, Trial
from settlement_core.values import commands as c
from settlement_core.values.errors import ConnectorError, MessageNotHandled, MessageRejected, SettlementError

if TYPE_CHECKING:
    from settlement_core.testing.engine_check import Check


GARBAGE: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    1.5e300,
    "",
    "hello",
    [],
    {},
    {"type": None},
    {"type": "check"},
    {"type": ["list"], "address": {"of": "no type"}},
    {"data": "x" * 10_000},
    {"\u0000": "\uffff\U0001f4b8"},
    json.loads("[" * 50 + "]" * 50),
)
"""JSON that no engine expects."""

_LOOK_S = 0.05


async def credits_what_came_while_it_was_down(check: Check) -> None:
    """A payment that arrived while the engine was not running is credited at its next start, once."""

    async def act(trial: Trial) -> None:
        amounts: list[Decimal] = []

        async def begin(life: Life) -> None:
            await life.open_account()
            amounts.append(life.amount)

        await trial.live(begin)
        await trial.be_paid(amounts[0])
        await trial.live(Life.until_credited)
        await expect_credited_once(trial, "paid while the engine was down")

    await check.on_a_fresh_ledger(act)


async def credits_once_although_it_crashes(check: Check) -> None:
    """What the ledger tells again after a restart, or a crash between any two steps, is not credited again."""

    async def peace(trial: Trial) -> None:
        traces.append(await trial.live(Life.earn))
        await trial.live(_earn_more)
        await expect_credited_once(trial, "after a restart in peace")

    traces: list[Any] = []
    await check.on_a_fresh_ledger(peace)
    for way in (Way.CRASH, Way.CANCEL):
        for moment in traces[0].moments():
            await _strike(check, Cut(way, moment))


async def _strike(check: Check, cut: Cut) -> None:
    async def act(trial: Trial) -> None:
        try:
            watch = await trial.live(Life.earn, cut=cut)
            check.lives += watch.struck_at is not None
            await trial.live(Life.earn)
            await trial.live(_earn_more)
        except AssertionError as problem:
            raise type(problem)(f"{cut}: {problem}") from problem
        await expect_credited_once(trial, f"{cut}")

    await check.on_a_fresh_ledger(act)


async def _earn_more(life: Life) -> None:
    """Be paid once more: whoever is credited for it has also looked at what came before."""
    await life.trial.be_paid(life.amount)
    await life.until_credited()


async def expect_credited_once(trial: Trial, when: str) -> None:
    credited = trial.connector.credited[trial.account_id]
    found = f"{when}: credited {credited:f} of the {trial.earned:f} that the peer paid"
    assert credited <= trial.earned, f"{found}: give every ledger event its own settlement id, for ever the same"
    assert credited == trial.earned, found


async def is_not_stopped_by_a_stranger(check: Check) -> None:
    """Money of unknown owner is reported, and kept for a person; what comes behind it is credited."""

    async def act(trial: Trial) -> None:
        async def earn(life: Life) -> None:
            await life.open_account()
            press = button(trial.ledger, "pay_us_as_stranger")
            assert press is not None
            await press(life.amount)
            await life.earn()
            life.waiting_for = "the report of what a stranger paid"
            while not await life.core.ask(c.Suspense()):  # noqa: ASYNC110 - the store rings for nobody
                await anyio.sleep(_LOOK_S)

        try:
            await trial.live(earn)
        except AssertionError as problem:
            raise AssertionError(f"after a stranger's payment: {problem}") from problem
        await expect_credited_once(trial, "after a stranger's payment")

    await check.on_a_fresh_ledger(act)


async def answers_any_message(check: Check) -> None:
    """Any JSON is answered with JSON, or refused with a `SettlementError`, in time; and the engine goes on."""

    async def act(trial: Trial) -> None:
        async def hear(life: Life) -> None:
            await life.open_account()
            for message in GARBAGE:
                await _expect_an_answer(life, message)
            await life.owe()

        watch = await trial.live(hear)
        for name, error in watch.raised:
            if name == "handle_message" and not isinstance(error, SettlementError):
                raise AssertionError(
                    f"handle_message broke with {type(error).__name__} ({error}) on a message that means nothing: "
                    "answer with an error the peer can read"
                )

    await check.on_a_fresh_ledger(act)


async def _expect_an_answer(life: Life, message: Any) -> None:
    told = f"message {json.dumps(message):.60}"
    before = anyio.current_time()
    try:
        await life.core.handle_message(life.trial.account_id, json.dumps(message).encode())
    except MessageRejected:
        return
    except MessageNotHandled as refused:
        deadline_s = life.core.config.message_deadline_s
        if anyio.current_time() - before >= deadline_s:
            told = f"{told} was not answered within the {deadline_s:g} s that connectors wait"
            raise AssertionError(told) from refused
        if "unusable" in str(refused):
            raise AssertionError(f"{told} was answered with something that is not JSON: {refused}") from refused


async def keeps_accounts_apart(check: Check) -> None:
    """Peers that do not answer, or answer nonsense, hold up their own accounts only."""

    async def act(trial: Trial) -> None:
        async def owe(life: Life) -> None:
            for account_id in trial.answers:
                await life.core.create_account(account_id)
                await life.core.request_settlement(account_id, life.amount, "the settlement")
            await life.owe()

        name = trial.account_id
        trial.answers = {f"{name}-{number}": _saying(message) for number, message in enumerate(GARBAGE)}
        trial.answers[f"{name}-silent"] = _say_nothing
        try:
            await trial.live(owe)
        except AssertionError as problem:
            raise AssertionError(f"beside accounts whose peers answer nonsense: {problem}") from problem

    await check.on_a_fresh_ledger(act)


def _saying(message: Any) -> Any:
    return lambda: json.dumps(message).encode()


def _say_nothing() -> NoReturn:
    raise ConnectorError("the peer does not answer")

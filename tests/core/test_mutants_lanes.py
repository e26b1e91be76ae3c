"""What operators see of accounts at moments at which nothing moves: they must not be shown what is over, or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, NoReturn

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.core.lane import LaneStatus
from settlement_core.values import events as e
from settlement_core.values.commands import Claim, Close, Command, FinishStep, Note, Result
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.records import Payment
from tests.core.stores import FlakyStore
from tests.core.test_mutants import lane, owe
from tests.core.worlds import D, Ears, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


class Away(FlakyStore):
    """Does not answer from the first command of a kind on, until it is back."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind: type | None = kind

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply, unless the kind is among them."""
        if self.kind is not None and any(isinstance(command, self.kind) for command in commands):
            raise StoreUnavailable("gone")
        return super().apply(commands)


class SettingUp(VerifiableEngine):
    """Sets accounts up, at once."""

    async def setup_account(self, account_id: str) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("kind", "doing", "has_attempt"),
    [
        (FinishStep, "set_up", False),
        (Claim, "claiming", False),
        (Note, "preparing", True),
        (Close, "recording", True),
    ],
)
async def test_an_account_that_waits_for_its_store_is_shown_at_what_it_does(
    kind: type, doing: str, has_attempt: bool
) -> None:
    """With the attempt that it is about; once the store is back all is settled."""
    store = Away(kind)
    world = World((SettingUp if kind is FinishStep else VerifiableEngine)(MemoryLedger()), store=store)
    async with world.core() as core:
        # nobody waits for the answers
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(1):
                tasks.start_soon(owe, core)
                await anyio.sleep_forever()
            (seen,) = [seen for seen in core.lanes() if seen.direction == "outgoing"]
            assert replace(seen, attempt_id="") == lane(doing)
            assert bool(seen.attempt_id) is has_attempt
            store.kind = None
        await until(lambda: world.account().outgoing.settled == 5)


async def test_an_account_is_shown_from_the_moment_its_request_is_told() -> None:
    """It has only just been started then, and has done nothing yet."""
    seen: list[LaneStatus] = []

    class Looking(Ears):
        def observe(self, event: e.Event) -> None:
            if isinstance(event, e.SettlementRequested):
                seen.extend(core.lanes())

    world = World(MinimalEngine(), ears=Looking())
    async with world.core() as core:
        await core.create_account("alice")
        await until(lambda: core.statistics().recovered and core.lanes() == [])
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: world.account().outgoing.settled == 5)
    assert seen == [lane("starting")]


async def test_an_account_that_takes_leave_after_its_last_payment_is_shown_with_no_attempt() -> None:
    """Its attempt is over; what fails now is taking leave."""

    class Clinging(MinimalEngine):
        async def close_account(self, account_id: str) -> NoReturn:
            raise OSError("peer is away")

    world = World(Clinging(takes_s=2.0))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.engine.calls != [])
        await core.delete_account("alice")
        await until(lambda: bool(world.ears.of(e.StepFailed)))
        (seen,) = core.lanes()
        error = "tear_down failed: OSError: peer is away"
        # at once, and once more since it was told to go on while it paid
        assert replace(seen, next_try_in_s=None) == lane("backing off before tear_down", failures=2, error=error)
    assert world.account().outgoing.settled == 5


async def test_a_failure_that_was_made_good_is_not_shown_any_more() -> None:
    """The account could not be set up at first; now it settles, and nothing is wrong."""

    class Slow(MinimalEngine):
        refusals = 1

        async def setup_account(self, account_id: str) -> None:
            if self.refusals:
                self.refusals -= 1
                raise OSError("peer is away")

    world = World(Slow(takes_s=9.0))
    async with world.core() as core:
        await owe(core)
        await until(lambda: world.engine.calls != [])
        (attempt,) = world.attempts()
        (seen,) = core.lanes()
        assert seen == lane("settling", attempt_id=attempt.attempt_id)
        await until(lambda: world.account().outgoing.settled == 5)


@pytest.mark.parametrize(
    ("call", "doing"), [("prepare", "preparing"), ("submit", "submitting"), ("verify", "verifying")]
)
async def test_what_an_engine_raises_while_a_payment_is_cut_is_told(call: str, doing: str) -> None:
    """With the attempt and what was being done for it: beside our cancellation nobody else would hear of it."""

    class Careless(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
            await self._break_when_cut("prepare")
            return await super().prepare(account_id, amount, attempt_id)

        async def submit(self, payment: Payment) -> None:
            await self._break_when_cut("submit")
            await super().submit(payment)

        async def verify(self, payment: Payment) -> Any:
            await self._break_when_cut("verify")
            return await super().verify(payment)

        async def _break_when_cut(self, now: str) -> None:
            if now == call:
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class() as cut:
                    raise BaseExceptionGroup("both", [cut, RuntimeError("while cleaning up")]) from None

    world = World(Careless(MemoryLedger()), config=CoreConfig(shutdown_s=1))
    async with world.core() as core:
        await owe(core)
        await anyio.sleep(1)
    (attempt,) = world.attempts()
    told = e.EngineMisbehaved(
        account_id="alice", doing=doing, reason="RuntimeError: while cleaning up", attempt_id=attempt.attempt_id
    )
    assert world.ears.of(e.EngineMisbehaved) == [told]
    assert world.account().outgoing.open == 5

"""The history ends after its retention of use, and nothing that money depends on ends with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from settlement_core.archive import archive_to, read_archive
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.values.backoff import DAY_S
from settlement_core.values.commands import History
from settlement_core.values.events import ArchiveFailed, HistoryRetired
from settlement_core.values.records import Attempt
from tests.core.worlds import D, MinimalEngine, World, until

pytestmark = pytest.mark.anyio

MONTH = CoreConfig(key_retention_s=7 * DAY_S, history_retention_s=30 * DAY_S)


async def pay_and_credit(core: Core, world: World, number: int) -> None:
    """Have one payment and one credit done."""
    await core.request_settlement("alice", D(5), f"invoice-{number}")
    await world.services[-1].credit_settlement("alice", D(3), f"0x{number}")
    await until(lambda: world.connector.total() == 3 * number and sum(world.engine.paid) == 5 * number)


async def in_real_time(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does: virtual time goes on meanwhile."""
    while not condition():
        await anyio.to_thread.run_sync(time.sleep, 0.001)


async def listed(core: Core) -> list[Attempt]:
    """Return the history."""
    return await core.ask(History(limit=1000))


async def test_history_ends_after_its_retention_and_settlement_ids_stay_known() -> None:
    """A month later all of it has left, the sums are as they were, and a second report credits nothing."""
    world = World(MinimalEngine(), config=MONTH)
    async with world.core() as core:
        await core.create_account("alice")
        await pay_and_credit(core, world, 1)
        await anyio.sleep(29 * DAY_S)
        assert len(await listed(core)) == 2
        # a reading of the clock is kept for each day only
        await anyio.sleep(3 * DAY_S)
        assert await listed(core) == []
        await world.services[-1].credit_settlement("alice", D(3), "0x1")
        await anyio.sleep(DAY_S)
        assert world.connector.total() == 3
        account = world.account()
        assert (account.outgoing.settled, account.outgoing.retired) == (D(5), D(5))
        assert (account.incoming.settled, account.incoming.retired) == (D(3), D(3))
        await pay_and_credit(core, world, 2)
        assert len(await listed(core)) == 2
    assert sum(event.attempts for event in world.ears.of(HistoryRetired)) == 2


async def test_downtime_and_a_clock_that_was_set_do_not_end_the_history() -> None:
    """Only seconds of use count, as for idempotency keys."""
    world = World(MinimalEngine(), config=MONTH)
    async with world.core() as core:
        await core.create_account("alice")
        await pay_and_credit(core, world, 1)
        await anyio.sleep(2 * DAY_S)
    async with open_core(
        world.connect,
        store=world.store,
        connector=world.connector,
        config=MONTH,
        now=lambda: 1_000_000.0 + 365 * DAY_S + anyio.current_time(),
    ) as core:
        await anyio.sleep(2 * DAY_S)
        assert len(await listed(core)) == 2


async def test_history_is_kept_for_ever_if_nobody_wants_it_to_end() -> None:
    """With no retention."""
    world = World(MinimalEngine(), config=CoreConfig(history_retention_s=None))
    async with world.core() as core:
        await core.create_account("alice")
        await pay_and_credit(core, world, 1)
        await anyio.sleep(200 * DAY_S)
        assert len(await listed(core)) == 2


async def test_more_than_a_page_leaves_beside_what_stays() -> None:
    """An attempt in doubt at the very beginning keeps nothing else from leaving."""
    world = World(MinimalEngine(), config=MONTH)

    async def lose(_: D) -> D:
        raise RuntimeError("answer lost")

    world.engine.script.append(lose)
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "lost")
        await until(lambda: len(world.engine.calls) == 1)
        for number in range(1, 451):
            await world.services[-1].credit_settlement("alice", D(3), f"0x{number}")
            await until(lambda: world.connector.total() == 3 * number)  # noqa: B023 - it is asked at once
        assert len(await listed(core)) == 451
        await anyio.sleep(33 * DAY_S)
        (left,) = await listed(core)
        assert left.amount == 1


async def test_what_leaves_is_archived_first_and_stays_while_it_cannot_be(tmp_path: Path) -> None:
    """A full disk loses nothing: the attempts leave, archived once, when there is room."""
    archive = archive_to(tmp_path)
    full = True

    def keep(attempts: Sequence[Attempt]) -> None:
        if full:
            raise OSError(28, "No space left on device")
        archive(attempts)

    config = CoreConfig(key_retention_s=7 * DAY_S, history_retention_s=30 * DAY_S, archive=keep)
    world = World(MinimalEngine(), config=config)
    async with world.core() as core:
        await core.create_account("alice")
        await pay_and_credit(core, world, 1)
        await anyio.sleep(33 * DAY_S)
        await in_real_time(lambda: bool(world.ears.of(ArchiveFailed)))
        before = await listed(core)
        assert len(before) == 2
        full = False
        await in_real_time(lambda: world.attempts() == [])
    assert list(read_archive(tmp_path)) == before


async def test_a_pile_of_dust_is_paid_without_waiting_for_more() -> None:
    """Its claims sum it up, bite by bite, and the lane goes on until what makes a unit is paid."""
    world = World(MinimalEngine(), config=CoreConfig(connector_scale=0, max_entries=2))
    async with world.core() as core:
        await core.create_account("alice")
        for number in range(100):
            await world.services[-1].credit_settlement("alice", D("0.01"), f"0x{number}")
        await until(lambda: world.connector.total() == 1)
        assert world.account().incoming.queued == 0


async def test_payment_whose_key_is_still_used_is_not_archived_again_and_again() -> None:
    """It stays until its key is forgotten, and is given to the archive once, when it leaves."""
    given: list[str] = []

    def keep(attempts: Sequence[Attempt]) -> None:
        given.extend(attempt.attempt_id for attempt in attempts)

    config = CoreConfig(key_retention_s=7 * DAY_S, history_retention_s=30 * DAY_S, archive=keep)
    world = World(MinimalEngine(), config=config)
    async with world.core() as core:
        await core.create_account("alice")
        for _ in range(12):
            await core.request_settlement("alice", D(5), "invoice-7")
            await anyio.sleep(3 * DAY_S)
        assert world.engine.paid == [D(5)]
        assert len(await listed(core)) == 1
        await in_real_time(lambda: world.attempts() == [])
    assert len(given) == 1

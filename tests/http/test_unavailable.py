"""503: whatever keeps us from recording a request, its client hears in time that it may repeat it, and pays once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from settlement_core.core.core import open_core
from settlement_core.http.app import LifespanApp, create_app
from settlement_core.values.errors import StoreBroken
from tests.core.stores import FlakyStore, unavailable
from tests.core.worlds import D, MinimalEngine, World, until
from tests.http.asgi import KNOWN, OCTETS, Answer, Client, books, serving

pytestmark = pytest.mark.anyio

DEADLINE_S = 4.0
"""Connectors give up, and repeat under another key, after five seconds."""


@asynccontextmanager
async def serving_flaky(world: World, store: FlakyStore) -> AsyncIterator[Client]:
    """Run one life of the core on a store that fails on command."""
    async with open_core(
        world.connect, store=store, connector=world.connector, observer=world.ears, chance=lambda: 0.0
    ) as core:
        yield Client(create_app(core, access=KNOWN), core)


def assert_come_again(answer: Answer) -> None:
    """Check that a client is told to repeat, and when."""
    assert answer.status == 503
    assert answer.header("retry-after") == "1"
    assert answer.detail()


async def test_while_the_store_is_away_every_request_is_503_within_the_deadline() -> None:
    """All four endpoints, after exactly 4 s."""
    store, world = FlakyStore(), World(MinimalEngine())
    async with serving_flaky(world, store) as client:
        await client.create()
        store.failures = unavailable(1000)
        requests: list[Any] = [
            lambda: client.create("bob"),
            lambda: client.settle("1", 0, "a"),
            lambda: client.request("DELETE", "/accounts/alice"),
            lambda: client.request("POST", "/accounts/alice/messages", OCTETS, body=b"[0]"),
        ]
        for request in requests:
            began = anyio.current_time()
            answer = await request()
            assert anyio.current_time() - began == pytest.approx(DEADLINE_S)
            assert_come_again(answer)
        store.failures = []
    assert world.engine.calls == []


@pytest.mark.parametrize("apply_first", [False, True])
async def test_the_same_request_after_the_store_came_back_is_one_settlement(*, apply_first: bool) -> None:
    """It was answered 503 and repeated until it was taken, whether or not the store had applied what it failed on."""
    store, world = FlakyStore(apply_first=apply_first), World(MinimalEngine())
    async with serving_flaky(world, store) as client:
        await client.create()
        await until(lambda: client.core.statistics().recovered and not client.core.statistics().active_lanes)
        store.failures = unavailable(12)
        statuses = []
        for _ in range(100):
            answer = await client.settle("5", 0, "one key")
            statuses.append(answer.status)
            if answer.status == 201:
                break
            assert_come_again(answer)
            await anyio.sleep(1)
        assert set(statuses[:-1]) == {503}
        assert (answer.status, answer.json()) == (201, {"amount": "5", "scale": 0})
        assert (await client.settle("5", 0, "one key")).status == 201
        await until(lambda: world.engine.paid != [])
        await anyio.sleep(3600)
    assert world.engine.paid == [D(5)]
    (accounts, _, _, _) = books(store.inner)
    assert accounts[0].outgoing.entered == accounts[0].outgoing.settled == 5


async def test_a_request_whose_first_commit_lost_its_answer_is_still_settled() -> None:
    """The store had it, but failed to say so: applied again it is a replay, yet nobody else will have it paid."""
    store, world = FlakyStore(apply_first=True), World(MinimalEngine())
    async with serving_flaky(world, store) as client:
        await client.create()
        await until(lambda: client.core.statistics().recovered and not client.core.statistics().active_lanes)
        store.failures = unavailable(1)
        assert (await client.settle("5", 0, "one key")).status == 201
        await until(lambda: world.engine.paid != [])
    assert world.engine.paid == [D(5)]


async def test_request_given_up_in_a_failing_batch_is_recorded_only_if_it_was_before_the_503() -> None:
    """503 says that it is not known. A store that had not recorded it does not record it later."""
    for apply_first, paid in ((False, D(0)), (True, D(5))):
        store, world = FlakyStore(apply_first=apply_first), World(MinimalEngine())
        async with serving_flaky(world, store) as client:
            await client.create()
            await until(lambda client=client: client.core.statistics().recovered and not client.core.lanes())  # type: ignore[misc]
            store.failures = unavailable(12)
            answer = await client.settle("5", 0, "one key")
            assert "not known yet, repeating it with the same key is safe" in answer.detail()
            await until(lambda store=store: store.failures == [])  # type: ignore[misc]
            await anyio.sleep(60)
        assert sum(world.engine.paid) == paid


async def test_a_full_journal_is_503_at_once_and_records_nothing() -> None:
    """With room for ten commands and a store that is away, the eleventh request does not even wait."""
    store, world = FlakyStore(), World(MinimalEngine())
    async with serving_flaky(world, store) as client:
        await client.create()
        await until(lambda: client.core.statistics().recovered and not client.core.statistics().active_lanes)
        client.core._context.journal._max_pending = 10
        store.failures = unavailable(1000)
        answers: list[Answer] = []

        async def settle(number: int) -> None:
            answers.append(await client.settle("1", 0, f"key {number}"))

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(settle, number)
            await until(lambda: client.core.statistics().journal.pending == 10, within_s=1)
            began = anyio.current_time()
            answer = await client.settle("1", 0, "one too many")
            assert anyio.current_time() == began
            assert_come_again(answer)
            assert answer.detail() == "10 commands already wait for the store; nothing was recorded, try again later"
        assert [answer.status for answer in answers] == [503] * 10
        store.failures = []
        await anyio.sleep(600)
        assert (await client.settle("1", 0, "one too many")).status == 201
        await until(lambda: world.engine.paid != [])
        await anyio.sleep(600)
    assert world.engine.paid == [D(1)], "the ten were answered 503 and are not carried out"


async def test_once_shutting_down_every_request_is_503_and_records_nothing() -> None:
    """While a payment under way is still let to end."""
    world = World(MinimalEngine(takes_s=5))
    async with serving(world) as client:
        await client.create()
        await client.settle("5", 0, "a")
        await anyio.sleep(1)
        client.core.refuse_new_work()
        kept = books(world.store)
        for answer in (
            await client.settle("1", 0, "b"),
            await client.settle("5", 0, "a"),
            await client.create("bob"),
            await client.request("DELETE", "/accounts/alice"),
            await client.request("POST", "/accounts/alice/messages", OCTETS, body=b"[0]"),
        ):
            assert_come_again(answer)
            assert answer.detail() == "shutting down; nothing was recorded, try again later"
        assert books(world.store) == kept
    assert world.account().outgoing.settled == 5


async def test_a_store_broken_for_good_is_503_for_who_waits() -> None:
    """The client may come again, perhaps to the next life; the real cause ends the core."""
    store, world = FlakyStore(), World(MinimalEngine())
    answers: list[Answer] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with serving_flaky(world, store) as client:
            await client.create()
            store.failures = [StoreBroken("the disk image is malformed")]
            with anyio.CancelScope(shield=True):
                answers.append(await client.settle("1", 0, "a"))
            await anyio.sleep_forever()
    assert caught.group_contains(StoreBroken, match="malformed")
    assert_come_again(answers[0])
    assert "may not have been recorded, try again later" in answers[0].detail()
    assert world.engine.calls == []


async def test_a_message_the_engine_is_too_slow_for_is_500_before_connectors_repeat_it() -> None:
    """After exactly 4 s, and a failing one at once; one it does not want is 400."""

    class Slow(MinimalEngine):
        async def handle_message(self, account_id: str, message: object) -> object:
            if message == "fail":
                raise ZeroDivisionError("oops")
            if message == "unwritable":
                return float("nan")
            await anyio.sleep(100)
            return message

    world = World(Slow())
    async with serving(world) as client:
        await client.create()

        async def send(body: bytes) -> Answer:
            return await client.request("POST", "/accounts/alice/messages", OCTETS, body=body)

        answer = await send(b'"hi"')
        assert anyio.current_time() == pytest.approx(DEADLINE_S)
        assert answer.status == 500
        assert answer.detail().startswith("message for account 'alice' was not handled: ")
        assert (await send(b'"fail"')).status == 500
        assert (await send(b'"unwritable"')).status == 500
        for bad in (b"", b"{", b"NaN", b"\xff", b"[" * 100_000):
            answer = await send(bad)
            assert answer.status == 400
            assert answer.detail().startswith("cannot take this message: it ")
    async with serving(World(MinimalEngine())) as client:
        await client.create()
        answer = await send(b'"hi"')
        assert (answer.status, answer.detail()) == (400, "MinimalEngine handles no messages")


async def test_an_app_whose_core_is_not_open_answers_503() -> None:
    """Before its lifespan began, and after it ended."""
    world = World(MinimalEngine())
    app = LifespanApp(world.core)
    async with serving(World(MinimalEngine())) as other:
        answer = await Client(app, other.core).settle("1", 0, "a")
    assert_come_again(answer)

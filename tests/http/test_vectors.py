"""The engine-side tests of other implementations (WIRE, section 8), asked of ours.

From settlement-core's index.test.ts, interledger-rs' engines_api.rs and the Java connector's JSON tests. Where we
answer otherwise on purpose, the docstring says so.
"""

from __future__ import annotations

import json
from decimal import Decimal

import anyio
import pytest

from settlement_core.values.records import AttemptState
from tests.core.worlds import D, MinimalEngine, World, until
from tests.http.asgi import JSON, OCTETS, books, serving

pytestmark = pytest.mark.anyio


# settlement-core, src/index.test.ts


async def test_468200000_at_scale_8_is_echoed_and_settled_as_4_682() -> None:
    """The engine is asked once, for the amount in the standard unit."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create()
        answer = await client.settle("468200000", 8, "a")
        assert (answer.status, answer.json()) == (201, {"amount": "468200000", "scale": 8})
        await until(lambda: world.account().outgoing.settled == D("4.682"))
    ((_, account_id, amount),) = world.engine.calls
    assert (account_id, amount) == ("alice", D("4.682"))


async def test_the_same_key_settles_once() -> None:
    """Ten times the same request, before and after it was paid: one payment, one answer."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create()
        answers = []
        for _ in range(10):
            answers.append(await client.settle("378", 2, "one"))
            await anyio.sleep(1)
        assert {(answer.status, answer.body) for answer in answers} == {(201, b'{"amount":"378","scale":2}')}
    assert world.engine.paid == [D("3.78")]
    assert world.account().outgoing.entered == D("3.78")


async def test_the_same_key_with_another_amount_is_refused() -> None:
    """409 here, where the original answers 400; both refuse, and no connector tells them apart."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create()
        await client.settle("10", 2, "one")
        await until(lambda: world.account().outgoing.settled == D("0.1"))
        kept = books(world.store)
        answer = await client.settle("11", 2, "one")
        assert answer.status == 409
        assert answer.detail().startswith("provided idempotency key is tied to other input: 'one' of account 'alice'")
        assert answer.detail().endswith("was first used with 0.10, now with 0.11; nothing was recorded")
        assert books(world.store) == kept
    assert world.engine.paid == [D("0.10")]


async def test_a_leftover_is_settled_together_with_the_next_request() -> None:
    """3.6, of which the engine settles 1.207; then 4.9001: it is asked for 7.2931, exactly."""
    world = World(MinimalEngine())

    async def partly(_amount: Decimal) -> Decimal:
        return D("1.207")

    world.engine.script = [partly]
    async with serving(world) as client:
        await client.create()
        await client.settle("36", 1, "a")
        await until(lambda: world.account().outgoing.settled == D("1.207"), within_s=0.5)
        assert world.account().outgoing.queued == D("2.393")
        await client.settle("49001", 4, "b")
        await until(lambda: world.account().outgoing.queued == 0, within_s=0.5)
        await until(lambda: world.account().outgoing.settled == D("8.5001"))
    assert [amount for _, _, amount in world.engine.calls] == [D("3.6"), D("7.2931")]


async def test_100_parallel_requests_are_settled_to_the_last_one() -> None:
    """100 times 1 under 100 keys, all at once, with an engine that takes its time: 100 is paid."""
    world = World(MinimalEngine(takes_s=0.25))
    statuses: list[int] = []
    async with serving(world) as client:
        await client.create()

        async def settle(number: int) -> None:
            statuses.append((await client.settle("1", 0, f"key {number}")).status)

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(settle, number)
        assert statuses == [201] * 100
        await until(lambda: world.account().outgoing.settled == 100)
    assert sum(world.engine.paid) == 100


async def test_the_same_key_at_another_account_is_another_settlement() -> None:
    """A deliberate difference: the original and interledger-rs have one space of keys for all accounts.

    A key names a request of one account here, so a connector that numbers its settlements per account is not refused,
    and nobody can probe the keys of other accounts. RFC 38 makes keys globally unique, so honest clients see none.
    """
    world = World(MinimalEngine())
    async with serving(world) as client:
        for name, amount in (("alice", "1"), ("bob", "2")):
            await client.create(name)
            assert (await client.settle(amount, 0, "one key", name)).status == 201
        await until(lambda: sum(world.engine.paid) == 3)
    assert world.account("alice").outgoing.settled == 1
    assert world.account("bob").outgoing.settled == 2


# interledger-rs, engines_api.rs


async def test_interledger_rs_settles_100_at_6_and_replays_it() -> None:
    """201 twice and one settlement; another amount is 409 with the words of interledger-rs.

    Its bodies are `EXECUTED`, `CREATED` and `RECEIVED`; ours are JSON, which it ignores and others need. For another
    account under the same key it answers 409 too; here that is another settlement (see above).
    """
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create("1")
        for _ in range(2):
            answer = await client.settle("100", 6, "AJKJNUjM0oyiAN46", "1")
            assert (answer.status, answer.json()) == (201, {"amount": "100", "scale": 6})
        answer = await client.settle("42", 6, "AJKJNUjM0oyiAN46", "1")
        assert answer.status == 409
        assert "provided idempotency key is tied to other input" in answer.detail()
        await until(lambda: world.account("1").outgoing.settled == D("0.0001"))
    assert world.engine.paid == [D("0.0001")]


async def test_interledger_rs_sends_the_message_0_with_a_key_and_repeats_it() -> None:
    """201 each time: messages are not deduplicated, engines answer the same again (interledger-rs answers 409)."""

    class Counting(MinimalEngine):
        heard = 0

        async def handle_message(self, account_id: str, message: object) -> object:
            self.heard += 1
            return message

    world = World(Counting())
    async with serving(world) as client:
        await client.create("1")
        for _ in range(2):
            answer = await client.request("POST", "/accounts/1/messages", OCTETS, ("idempotency-key", "k"), body=b"[0]")
            assert (answer.status, answer.body) == (201, b"[0]")
    assert world.engine.heard == 2


async def test_interledger_rs_creates_and_deletes_with_a_key() -> None:
    """201 and 204, as often as it likes; with the same key for another id, too, since RFC 38 gives these no keys."""
    world = World(MinimalEngine())
    key = ("idempotency-key", "AJKJNUjM0oyiAN46")
    async with serving(world) as client:
        for name in ("1", "1", "42"):
            answer = await client.request("POST", "/accounts", JSON, key, body=json.dumps({"id": name}).encode())
            assert (answer.status, answer.json()) == (201, {"id": name})
        for name in ("1", "1", "42"):
            answer = await client.request("DELETE", f"/accounts/{name}", key)
            assert (answer.status, answer.body) == (204, b"")


# the Java connector, InitiateSettlementRequestTest and SettlementQuantityTest


@pytest.mark.parametrize("body", [b'{"scale":3,"amount":"10"}', b'{"amount":"10","scale":3}'])
async def test_the_java_connectors_json_is_taken_in_either_order(body: bytes) -> None:
    """Both are 0.010."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create()
        answer = await client.request(
            "POST", "/accounts/alice/settlements", JSON, ("idempotency-key", "123"), body=body
        )
        assert (answer.status, answer.body) == (201, b'{"amount":"10","scale":3}')
        await until(lambda: world.account().outgoing.settled == D("0.01"))


# the Ethereum engine, ganache_tests.rs


async def test_amounts_finer_than_the_ledger_add_up() -> None:
    """9@19, 11@20, 100@9 on a ledger of 18 places: 100000000001 is paid, in units of 1e-18, and 1e-20 stays queued."""

    class Wei(MinimalEngine):
        asset_scale = 18

    world = World(Wei())
    async with serving(world) as client:
        await client.create()
        for number, (amount, scale) in enumerate([("9", 19), ("11", 20), ("100", 9)]):
            answer = await client.settle(amount, scale, f"key {number}")
            assert (answer.status, answer.json()) == (201, {"amount": amount, "scale": scale})
        await until(lambda: sum(world.engine.paid, D(0)) == D("100000000001").scaleb(-18))
        assert world.account().outgoing.queued == D("1E-20")
        assert {attempt.state for attempt in world.attempts()} == {AttemptState.CLOSED}

"""Accounts: set up in their own task, deleted without losing money."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.values.commands import Resolve
from settlement_core.values.errors import MessageNotHandled, MessageRejected, UnknownAccount
from settlement_core.values.events import AccountReady, StepDormant, StepFailed
from settlement_core.values.records import AccountState
from tests.core.worlds import D, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


@dataclass
class PoliteEngine(MinimalEngine):
    """Sets accounts up and takes leave of them."""

    refusals: int = 0
    log: list[tuple[float, str]] = field(default_factory=list)
    setting_up_takes_s: float = 0.0

    async def setup_account(self, account_id: str) -> None:
        """Meet the peer."""
        self.log.append((anyio.current_time(), f"setup {account_id}"))
        await anyio.sleep(self.setting_up_takes_s)
        if self.refusals:
            self.refusals -= 1
            raise OSError("peer is not there")

    async def close_account(self, account_id: str) -> None:
        """Part from the peer."""
        self.log.append((anyio.current_time(), f"close {account_id}"))

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        self.log.append((anyio.current_time(), f"settle {account_id}"))
        return await super().settle(account_id, amount)

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Do as the message says."""
        if message == "hang":
            await anyio.sleep_forever()
        if message == "fail":
            raise RuntimeError("cannot")
        if message == "bytes":
            return b"raw"
        return {"to": account_id, "echo": message}


async def test_an_account_is_set_up_before_it_settles_and_the_request_waits_for_neither() -> None:
    """`create_account` returns at once; the settlement follows the set-up."""
    world = World(PoliteEngine(setting_up_takes_s=30))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        assert anyio.current_time() < 1
        await until(lambda: world.account().outgoing.settled == 1)
    assert [what for _, what in world.engine.log] == ["setup alice", "settle alice"]
    assert world.ears.of(AccountReady) == [AccountReady(account_id="alice", step="set_up")]


async def test_a_failing_set_up_is_tried_again_until_it_succeeds_while_requests_are_taken() -> None:
    """At 0, 5, 15, 35 s; new requests do not hurry it, being created again does."""
    world = World(PoliteEngine(refusals=4))
    async with world.core() as core:
        await core.create_account("alice")
        for number in range(20):
            await core.request_settlement("alice", D(1), str(number))
            await anyio.sleep(2)
        assert [round(when) for when, _ in world.engine.log] == [0, 5, 15, 35]
        assert world.account().outgoing.queued == 20
        await core.create_account("alice")
        await until(lambda: world.account().outgoing.settled == 20)
        assert anyio.current_time() < 41
    assert len(world.ears.of(StepFailed)) == 4


async def test_an_account_that_owes_nothing_stops_being_logged_after_a_day_of_failed_set_up() -> None:
    """Tries go on once an hour, without an event and not among the retries; money that is owed makes each one again."""
    day_s, hour_s = 86400.0, 3600.0
    world = World(PoliteEngine(refusals=10_000))
    async with world.core() as core:
        await core.create_account("alice")
        await anyio.sleep(day_s + 2 * hour_s)
        (dormant,) = world.ears.of(StepDormant)
        assert (dormant.account_id, dormant.step) == ("alice", "set_up")
        assert day_s <= world.ears.times(StepDormant)[0] <= day_s + hour_s
        failed, tries = len(world.ears.of(StepFailed)), len(world.engine.log)
        (lane,) = core.lanes()
        assert (lane.failures, lane.doing) == (0, "dormant: set_up fails")
        assert "set_up failed: " in lane.last_error
        await anyio.sleep(day_s)
        assert len(world.ears.of(StepFailed)) == failed
        assert len(world.ears.of(StepDormant)) == 1
        assert 23 <= len(world.engine.log) - tries <= 25
        await core.request_settlement("alice", D(1), "owed")
        await anyio.sleep(2 * hour_s)
        assert len(world.ears.of(StepFailed)) > failed
        assert core.lanes()[0].failures > 0
        world.engine.refusals = 0
        await core.create_account("alice")
        await until(lambda: world.account().outgoing.settled == 1)


async def test_a_set_up_interrupted_by_a_crash_is_done_by_the_next_life() -> None:
    """Even if no money ever asks for it; one that finished is not repeated."""
    world = World(PoliteEngine(refusals=1))
    async with world.core() as core:
        await core.create_account("alice")
        await until(lambda: bool(world.engine.log))
    async with world.core():
        await until(lambda: bool(world.ears.of(AccountReady)))
    async with world.core() as core:
        await core.create_account("alice")
        await anyio.sleep(100)
    assert [what for _, what in world.engine.log] == ["setup alice"] * 2


async def test_a_deleted_account_keeps_draining_and_then_takes_leave() -> None:
    """DELETE while a settlement runs and more is queued: all of it is settled, then the engine closes the account."""
    world = World(PoliteEngine(takes_s=10))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: bool(world.engine.calls))
        await core.request_settlement("alice", D(2), "b")
        for _ in range(2):
            await core.delete_account("alice")
        with pytest.raises(UnknownAccount):
            await core.request_settlement("alice", D(4), "c")
        assert str(await core.request_settlement("alice", D(2), "b")) == "2"
        await until(lambda: world.engine.log[-1][1] == "close alice")
        await until(lambda: core.statistics().active_lanes == 0)
    assert world.account().outgoing.settled == 3
    assert world.account().state is AccountState.DELETED


async def test_a_deleted_account_revives_with_its_books() -> None:
    """Old keys are still known, and the account is set up again."""
    world = World(PoliteEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: world.account().outgoing.settled == 1)
        await core.delete_account("alice")
        await until(lambda: world.engine.log[-1][1] == "close alice")
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await core.request_settlement("alice", D(5), "b")
        await until(lambda: world.account().outgoing.settled == 6)
    assert [what for _, what in world.engine.log][-2:] == ["setup alice", "settle alice"]


async def test_deleting_an_account_that_never_existed_is_refused() -> None:
    """It is not a tombstone."""
    world = World(PoliteEngine())
    async with world.core() as core:
        with pytest.raises(UnknownAccount):
            await core.delete_account("alice")


async def test_an_id_is_made_up_when_none_is_given() -> None:
    """Short and URL-safe, and another one each time."""
    world = World(PoliteEngine())
    async with world.core() as core:
        ids = {await core.create_account() for _ in range(10)}
    assert len(ids) == 10
    assert all(len(account_id) < 64 for account_id in ids)


async def test_messages_are_json_both_ways() -> None:
    """The engine gets the decoded value and the account; its answer goes back as JSON."""
    world = World(PoliteEngine())
    async with world.core() as core:
        await core.create_account("alice")
        answer = await core.handle_message("alice", b'{"a":[1,null]}')
        assert answer == b'{"to":"alice","echo":{"a":[1,null]}}'
        for bad in [b"", b"\xff", b"{", b"NaN", b"1e999", b"[" * 100_000]:
            with pytest.raises(MessageRejected, match="cannot take this message"):
                await core.handle_message("alice", bad)
        with pytest.raises(UnknownAccount):
            await core.handle_message("bob", b"1")


@pytest.mark.parametrize(
    ("message", "problem"),
    [("hang", "no answer within 4 s"), ("fail", "RuntimeError: cannot"), ("bytes", "cannot be written as JSON")],
)
async def test_a_failing_or_hanging_handler_is_an_error_within_the_deadline(message: str, problem: str) -> None:
    """Never a hang: the connector would repeat the message after 5 s."""
    world = World(PoliteEngine())
    async with world.core() as core:
        await core.create_account("alice")
        with pytest.raises(MessageNotHandled, match=problem):
            await core.handle_message("alice", f'"{message}"'.encode())
        assert anyio.current_time() < 4.1
        assert await core.handle_message("alice", b"1") == b'{"to":"alice","echo":1}'


async def test_an_engine_without_messages_says_so() -> None:
    """`MessageRejected`, which is a 400."""
    world = World(MinimalEngine(), config=CoreConfig(create_unknown_accounts=True))
    async with world.core() as core:
        with pytest.raises(MessageRejected, match="MinimalEngine handles no messages"):
            await core.handle_message("alice", b"1")
    assert world.account().state is AccountState.OPEN


async def test_engines_keep_notes_through_restarts() -> None:
    """Per engine and per account, JSON values; None deletes."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].save("cursor", {"height": 7})
        await world.services[0].save("address", "0x1", account_id="alice")
        await world.services[0].save("gone", 1)
        await world.services[0].save("gone", None)
    async with world.core():
        services = world.services[1]
        assert await services.load("cursor") == {"height": 7}
        assert await services.load("address", account_id="alice") == "0x1"
        assert await services.load("address") is None
        assert await services.load("gone") is None


async def test_messages_to_the_peer_are_json_or_text() -> None:
    """An answer that is not JSON comes back as text; one too long for connectors is refused before sending."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        assert await world.services[0].send_message("alice", {"type": "hello"}) == {"type": "hello"}
        world.connector.send_message = _received  # type: ignore[method-assign]
        assert await world.services[0].send_message("alice", 1) == "RECEIVED"
        with pytest.raises(Exception, match="message of 40002 bytes: connectors carry 32767; nothing was sent"):
            await world.services[0].send_message("alice", "x" * 40_000)


async def _received(account_id: str, message: bytes) -> bytes:
    return b"RECEIVED"


async def test_an_account_is_not_torn_down_while_its_money_is_in_doubt() -> None:
    """Resolved as unpaid after the deletion, it is settled first; only then the engine takes leave."""
    world = World(PoliteEngine(takes_s=1000), config=CoreConfig(shutdown_s=1))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: bool(world.engine.calls))
    world.engine.takes_s = 0
    async with world.core() as core:
        await until(lambda: world.account().outgoing.parked == 5)
        await core.delete_account("alice")
        await anyio.sleep(100)
        (doubt,) = world.attempts()
        await core.decide(
            Resolve(account_id="alice", attempt_id=doubt.attempt_id, settled=D(0), reason="looked", by="eve", at=1.0)
        )
        await until(lambda: world.engine.log[-1][1] == "close alice")
    assert [what for _, what in world.engine.log] == ["setup alice", "settle alice", "settle alice", "close alice"]
    assert world.account().outgoing.settled == 5

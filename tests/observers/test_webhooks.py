"""Webhooks in virtual time: signed, in order, repeated until they are taken, and never in the core's way."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import httpx2
import pytest

from settlement_core.abc import Refused
from settlement_core.observers._messages import message_of
from settlement_core.observers.webhooks import AT_ONCE, Webhooks, open_webhooks, sign_webhook
from settlement_core.values.backoff import Backoff
from settlement_core.values.errors import LocalError
from settlement_core.values.events import AccountHalted, CreditAcknowledged, Event, SettlementRecorded
from tests.core.worlds import D, FakeConnector, MinimalEngine, until
from tests.observers.listening import every_kind, sample, world_with

pytestmark = pytest.mark.anyio

SECRET = "correct horse battery"
URL = "https://receiver.example:8443/hooks/s3cret?token=t0ken"
BACKOFF = Backoff(first_s=1.0, max_s=60.0, jitter=0.5)


@dataclass
class Receiver:
    """Remembers what it was sent and when; `answers` are statuses, exceptions, or seconds to be silent for."""

    answers: list[int | float | Exception] = field(default_factory=list)
    got: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    signatures: list[tuple[str, bytes]] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0
    takes_s: float = 0.0

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as scripted, then 204."""
        self.got.append((anyio.current_time(), json.loads(request.content)))
        self.signatures.append((request.headers["settlement-signature"], request.content))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await anyio.sleep(self.takes_s)
            answer = self.answers.pop(0) if self.answers else 204
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, float):
                await anyio.sleep(answer)
                return httpx2.Response(204)
            return httpx2.Response(answer)
        finally:
            self.under_way -= 1

    def amounts(self) -> list[str]:
        """Return the amounts in the messages, in order of arrival."""
        return [message["amount"] for _, message in self.got]

    def times(self) -> list[float]:
        """Return when each came."""
        return [when for when, _ in self.got]


@asynccontextmanager
async def hooks(receiver: Receiver, **options: Any) -> AsyncIterator[Webhooks]:
    """Open webhooks to a receiver, without jitter."""
    defaults: dict[str, Any] = {"backoff": BACKOFF, "chance": lambda: 0.0, "now": lambda: 1e6 + anyio.current_time()}
    transport = httpx2.MockTransport(receiver.handle)
    async with open_webhooks(URL, SECRET, transport=transport, **(defaults | options)) as webhooks:
        yield webhooks


def credited(amount: int, account_id: str = "alice") -> Event:
    """Return an event that has a message."""
    return sample(CreditAcknowledged, account_id=account_id, amount=D(amount))


async def idle(webhooks: Webhooks) -> None:
    """Wait until nothing is queued."""
    await until(lambda: webhooks.statistics().queued == 0, within_s=200_000, every_s=0.5)


async def test_each_message_is_signed_as_documented_at_the_time_it_is_sent() -> None:
    """A second try bears a second signature: the receiver refuses old ones."""
    receiver = Receiver([503])
    async with hooks(receiver) as webhooks:
        await anyio.sleep(5)
        webhooks.observe(credited(1))
        await idle(webhooks)
    for (signature, body), seconds in zip(receiver.signatures, (1_000_005, 1_000_006), strict=True):
        code = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        assert signature == f"t={seconds},v1={code}" == sign_webhook(SECRET, body, at=seconds)
    assert receiver.signatures[0][1] == receiver.signatures[1][1], "the same message, the same id"


async def test_settled_credited_in_doubt_held_and_halted_are_told_of_a_life() -> None:
    """Each once, with ids, amounts as text and reasons; the rest of the life is nobody's business."""

    async def lose_sight(_amount: Decimal) -> Decimal:
        raise ConnectionError("no answer")

    async def pay_twice(amount: Decimal) -> Decimal:
        return amount * 2

    async def pay(amount: Decimal) -> Decimal:
        return amount

    receiver = Receiver()
    async with hooks(receiver) as webhooks:
        engine = MinimalEngine(script=[pay, lose_sight, pay_twice])
        world = world_with(webhooks, engine=engine, connector=FakeConnector([Refused("409 what?")]))
        async with world.core() as core:
            await core.create_account("alice")
            await core.create_account("bob")
            for number, amount in enumerate(("1.5", "2", "3")):
                await core.request_settlement("alice", D(amount), f"key {number}")
                await until(lambda number=number: len(engine.calls) == number + 1)  # type: ignore[misc]
            await world.services[0].credit_settlement("alice", D(4), "x")
            await until(lambda: world.account().incoming.parked == 4)
            await world.services[0].credit_settlement("bob", D(5), "y")
            await until(lambda: world.account("bob").incoming.settled == 5)
        await idle(webhooks)
    messages = [message for _, message in receiver.got]
    assert [message["type"] for message in messages] == ["settled", "in_doubt", "halted", "held", "credited"]
    attempts = [attempt.attempt_id for attempt in world.attempts()]
    assert [message.get("attempt") for message in messages] == [*attempts[:2], None, *attempts[3:]]
    assert [message.get("amount") for message in messages] == ["1.5", "2", None, "4", "5"]
    assert [message["account"] for message in messages] == ["alice"] * 4 + ["bob"]
    assert len({message["id"] for message in messages}) == 5
    assert messages[1]["reason"] == "settle did not answer but raised ConnectionError: no answer"
    assert messages[2]["direction"] == "outgoing"
    assert messages[3]["reason"] == "409 what?"


async def test_money_that_did_not_move_is_nothing_to_tell() -> None:
    """An attempt closed with nothing settled is queued again; of a store that fails only the first failure is told."""
    nothing = sample(SettlementRecorded, amount=D(0))
    assert message_of(nothing) is None
    assert sum(message_of(sample(kind)) is not None for kind in every_kind()) == 14


async def test_a_message_is_repeated_until_it_is_taken_and_the_next_one_waits_for_it() -> None:
    """Those of one account come in order, after 1, 2, 4, 8 and 16 s; another account's do not wait."""
    failures: list[int | float | Exception] = [500, 404, 301, httpx2.ConnectError("refused"), 600]
    receiver = Receiver(failures)
    async with hooks(receiver) as webhooks:
        webhooks.observe(credited(1))
        webhooks.observe(credited(2))
        await until(lambda: not failures)
        webhooks.observe(credited(3, "bob"))
        await idle(webhooks)
    assert receiver.amounts() == ["1", "1", "1", "1", "1", "3", "1", "2"]
    times = receiver.times()
    assert [round(later - times[0]) for later in times] == [0, 1, 3, 7, 15, 15, 31, 31]
    assert len({message["id"] for _, message in receiver.got}) == 3
    assert webhooks.statistics().tries_failed == 5
    assert webhooks.statistics().delivered == 3


async def test_a_receiver_that_does_not_answer_is_given_up_after_the_timeout_and_asked_again() -> None:
    """So a message may come twice, under the same id: once that was late, and once more."""
    receiver = Receiver([1000.0])
    async with hooks(receiver, timeout_s=10.0) as webhooks:
        webhooks.observe(credited(1))
        await idle(webhooks)
    assert [round(when - receiver.times()[0]) for when in receiver.times()] == [0, 11]
    assert receiver.got[0][1] == receiver.got[1][1]


async def test_jitter_shortens_the_wait() -> None:
    """By up to half, as chance has it."""
    receiver = Receiver([500])
    async with hooks(receiver, chance=lambda: 0.5) as webhooks:
        webhooks.observe(credited(1))
        await idle(webhooks)
    assert receiver.times()[1] - receiver.times()[0] == pytest.approx(0.75)


async def test_a_queue_that_is_full_costs_messages_not_memory_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Observing never waits: what finds no room is dropped and counted, told once, and told again in sum."""
    receiver = Receiver([500])
    with caplog.at_level(logging.ERROR, "settlement_core"):
        async with hooks(receiver, max_queued=3) as webhooks:
            for number in range(10):
                webhooks.observe(credited(number))
            assert webhooks.statistics().queued == 3
            assert webhooks.statistics().dropped == 7
            await idle(webhooks)
            webhooks.observe(credited(10))
            await idle(webhooks)
    assert receiver.amounts() == ["0", "0", "1", "2", "10"]
    assert [record.getMessage() for record in caplog.records] == [
        "webhooks to https://receiver.example:8443: no room for more than 3, dropping",
        "webhooks to https://receiver.example:8443: dropped 7 messages",
    ]


async def test_a_message_nobody_takes_is_given_up_in_the_end() -> None:
    """After an hour, as set here; the account goes on with the next one."""
    receiver = Receiver([500] * 1000)
    async with hooks(receiver, give_up_after_s=3600.0) as webhooks:
        webhooks.observe(credited(1))
        await idle(webhooks)
        assert 3540 < receiver.times()[-1] - receiver.times()[0] <= 3600
        assert webhooks.statistics().abandoned == 1
        receiver.answers.clear()
        webhooks.observe(credited(2))
        await idle(webhooks)
    assert receiver.amounts()[-1] == "2"
    assert webhooks.statistics().delivered == 1


async def test_no_more_than_a_few_are_under_way_at_once() -> None:
    """However many accounts have something to tell."""
    receiver = Receiver(takes_s=1.0)
    async with hooks(receiver) as webhooks:
        for number in range(30):
            webhooks.observe(credited(1, f"peer-{number}"))
        await idle(webhooks)
    assert receiver.most_at_once == AT_ONCE
    assert len(receiver.got) == 30


async def test_the_end_tries_everything_once_more_without_waiting_for_back_offs() -> None:
    """The receiver works again by then: what was in back-off for up to a minute is delivered at once."""
    receiver = Receiver([500] * 10)
    async with hooks(receiver) as webhooks:
        webhooks.observe(credited(1))
        webhooks.observe(credited(2))
        await until(lambda: len(receiver.answers) == 3)
        receiver.answers.clear()
        left = anyio.current_time()
    assert receiver.amounts()[-2:] == ["1", "2"]
    assert receiver.times()[-1] == pytest.approx(left, abs=0.1)
    assert webhooks.statistics().delivered == 2


async def test_the_end_does_not_wait_longer_than_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """What is left is counted and told, and events after the end are dropped."""
    receiver = Receiver([1000.0] * 10)
    with caplog.at_level(logging.ERROR, "settlement_core"):
        async with hooks(receiver, drain_s=5.0) as webhooks:
            webhooks.observe(credited(1))
            webhooks.observe(credited(2))
            await until(lambda: len(receiver.got) == 1)
            left = anyio.current_time()
    assert anyio.current_time() - left == pytest.approx(5.0)
    assert webhooks.statistics().abandoned == 2
    assert "ending with 2 messages not delivered" in caplog.text
    webhooks.observe(credited(3))
    assert webhooks.statistics().dropped == 1


async def test_a_receiver_that_refuses_does_not_hold_up_the_end() -> None:
    """One more try each, and that is all."""
    receiver = Receiver([500] * 100)
    async with hooks(receiver) as webhooks:
        for number in range(20):
            webhooks.observe(credited(number))
        left = anyio.current_time()
    assert anyio.current_time() == pytest.approx(left, abs=0.1)
    assert webhooks.statistics().abandoned == 20


async def test_a_cancelled_server_ends_its_webhooks_at_once() -> None:
    """As a second signal asks for."""
    receiver = Receiver([1000.0])
    began = anyio.current_time()
    with anyio.move_on_after(2):
        async with hooks(receiver) as webhooks:
            webhooks.observe(credited(1))
            await anyio.sleep_forever()
    assert anyio.current_time() - began == pytest.approx(2.0)
    assert webhooks.statistics().abandoned == 1


async def test_the_last_events_of_a_failing_server_are_still_told() -> None:
    """Whatever ends the block is raised, after the drain."""
    receiver = Receiver()
    with pytest.raises(ExceptionGroup) as caught:
        async with hooks(receiver) as webhooks:
            webhooks.observe(sample(AccountHalted))
            raise RuntimeError("the engine died")
    assert caught.group_contains(RuntimeError, match="the engine died")
    assert [message["type"] for _, message in receiver.got] == ["halted"]


async def test_a_receiver_that_is_down_is_told_of_once_and_no_secret_is(caplog: pytest.LogCaptureFixture) -> None:
    """One warning for however many tries, one line when it is over; the URL's path and query may be passwords."""
    receiver = Receiver([500] * 5)
    with caplog.at_level(logging.DEBUG, "settlement_core"):
        async with hooks(receiver) as webhooks:
            webhooks.observe(credited(1))
            await idle(webhooks)
            shown = repr(webhooks)
    told = [record.getMessage() for record in caplog.records if record.name == "settlement_core"]
    assert told == [
        "webhooks to https://receiver.example:8443 fail, and are sent again later: status 500",
        "webhooks to https://receiver.example:8443 are taken again",
    ]
    assert shown == "<Webhooks to https://receiver.example:8443, 0 queued>"
    assert "s3cret" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "secret", "problem"),
    [
        ("ftp://host/", SECRET, "must begin with http:// or https://, such as https://receiver.example/hook"),
        ("https:///path", SECRET, "it names no host"),
        ("https://host:port/", SECRET, "its host or port is malformed"),
        ("https://hö.example/", SECRET, "characters outside ASCII"),
        ("https://me:pass@host/", SECRET, "a user name or password; messages are signed instead"),
        ("https://host/", "short", "at least 16 characters, this one 5"),
    ],
)
async def test_what_cannot_be_used_is_refused_at_once(url: str, secret: str, problem: str) -> None:
    """With a sentence that tells no secret."""
    with pytest.raises(LocalError, match=problem) as caught:
        async with open_webhooks(url, secret):
            raise AssertionError
    assert "pass@" not in str(caught.value)

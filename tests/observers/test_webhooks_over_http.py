"""Webhooks over real connections, on both loops, to a receiver that checks them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from settlement_core.observers.webhooks import Webhooks, open_webhooks, sign_webhook
from settlement_core.values.backoff import Backoff
from settlement_core.values.events import CreditAcknowledged
from tests.connector.raw import RawRequest, http, open_raw_server
from tests.core.worlds import D
from tests.observers.listening import sample

pytestmark = pytest.mark.anyio

SECRET = "correct horse battery"
GUIDE = Path(__file__).parents[2] / "examples" / "operations" / "README.md"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run every test on both loops, in real time."""
    return str(request.param)


def documented_check() -> Any:
    """Return the function that the guide tells receivers to use."""
    (code,) = re.findall(r"```python\n(.*?def authentic.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    names: dict[str, Any] = {}
    exec(code, names)
    return names["authentic"]


async def _idle(webhooks: Webhooks) -> None:
    with anyio.fail_after(30):
        while webhooks.statistics().queued:
            await anyio.sleep(0.01)


async def test_a_message_arrives_as_the_guide_says_and_is_repeated_over_a_connection_kept() -> None:
    """The documented receiver takes it; a 503 has it come again; and two messages share a connection."""
    answers = [http(503, b"later"), b"HTTP/1.1 204 No Content\r\n\r\n", http(200, b"ok")]

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(answers.pop(0))

    backoff = Backoff(first_s=0.01, max_s=0.01)
    async with open_raw_server(play) as server:
        url = f"{server.url}/hooks?token=1"
        async with open_webhooks(url, SECRET, backoff=backoff) as webhooks:
            for amount in (1, 2):
                webhooks.observe(sample(CreditAcknowledged, amount=D(amount)))
            await _idle(webhooks)
        assert [json.loads(request.body)["amount"] for request in server.requests] == ["1", "1", "2"]
        authentic = documented_check()
        for request in server.requests:
            assert request.target == "/hooks?token=1"
            assert request.header("content-type") == ["application/json"]
            (signature,) = request.header("settlement-signature")
            assert authentic(SECRET, signature, request.body)
    assert webhooks.statistics().delivered == 2
    assert server.connections == 1


async def test_the_documented_check_refuses_what_is_forged_old_or_broken() -> None:
    """Another secret, another body, a time from before the last five minutes, or no signature at all."""
    authentic, body = documented_check(), b'{"id": "1"}'
    now = 1_000_000
    good = sign_webhook(SECRET, body, at=now)
    assert authentic(SECRET, good, body, now=now + 299)
    assert not authentic(SECRET, good, body, now=now + 301)
    assert not authentic(SECRET, good, body, now=now - 301)
    assert not authentic(SECRET, good, body + b" ", now=now)
    assert not authentic("another secret of ours", good, body, now=now)
    assert not authentic(SECRET, good.replace(f"t={now}", f"t={now + 1}"), body, now=now)
    for broken in ("", "t=,v1=", "v1=00", f"t={now}", "t=x,v1=00", "nonsense", "t=1,t=2,v1=é"):
        assert not authentic(SECRET, broken, body, now=now), broken


async def test_a_receiver_that_answers_and_then_hangs_has_taken_the_message() -> None:
    """Its status stands, however its body ends; the message is not sent again for that."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")

    async with (
        open_raw_server(play) as server,
        open_webhooks(server.url, SECRET, timeout_s=0.3) as webhooks,
    ):
        webhooks.observe(sample(CreditAcknowledged))
        await _idle(webhooks)
    assert len(server.requests) == 1
    assert webhooks.statistics().delivered == 1


async def test_an_endless_answer_is_not_listened_to() -> None:
    """The message was taken; the next one goes over a connection of its own."""

    async def play(_request: RawRequest, stream: anyio.abc.ByteStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    async with open_raw_server(play) as server, open_webhooks(server.url, SECRET, timeout_s=60) as webhooks:
        webhooks.observe(sample(CreditAcknowledged))
        webhooks.observe(sample(CreditAcknowledged))
        await _idle(webhooks)
    assert len(server.requests) == server.connections == 2
    assert webhooks.statistics().delivered == 2

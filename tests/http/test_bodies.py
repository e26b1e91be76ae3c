"""Bodies that are too long, too slow or cut off: bounded in bytes and in time, and never half believed."""

from __future__ import annotations

import anyio
import pytest

from tests.core.worlds import D, MinimalEngine, World, until
from tests.http.asgi import JSON, OCTETS, Answer, Client, Part, books, serving

pytestmark = pytest.mark.anyio

KEY = ("idempotency-key", "a key")
SETTLE = "/accounts/alice/settlements"
JSON_LIMIT = 16 * 1024
MESSAGE_LIMIT = 100 * 1024
QUANTITY = b'{"amount":"1","scale":0}'


class Talking(MinimalEngine):
    """Answers a message with its length."""

    async def handle_message(self, account_id: str, message: object) -> object:
        """Count."""
        assert isinstance(message, str)
        return len(message)


def padded(size: int) -> bytes:
    """Return a good quantity of exactly so many bytes."""
    return QUANTITY + b" " * (size - len(QUANTITY))


def in_parts(body: bytes, size: int) -> list[Part]:
    """Return a body as many parts."""
    return [body[start : start + size] for start in range(0, len(body), size)]


async def _settle(
    client: Client, parts: list[Part], *, told: int | None = None, hangs_up: bool = False
) -> Answer | None:
    headers = [JSON, KEY] + ([("content-length", str(told))] if told is not None else [])
    return await client.send("POST", SETTLE, headers, parts, hangs_up=hangs_up)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("size", [1, 4096, JSON_LIMIT])
async def test_a_body_of_exactly_the_limit_is_taken(size: int, *, told: bool) -> None:
    """16,384 bytes, in one part or one by one, with and without a Content-Length."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        answer = await _settle(client, in_parts(padded(JSON_LIMIT), size), told=JSON_LIMIT if told else None)
        assert answer is not None
        assert answer.status == 201
        await until(lambda: world.account().outgoing.settled == 1)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("size", [1, 4096, JSON_LIMIT + 1])
async def test_one_byte_more_is_413_and_changes_nothing(size: int, *, told: bool) -> None:
    """Told as soon as it is known."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        kept = books(world.store)
        answer = await _settle(client, in_parts(padded(JSON_LIMIT + 1), size), told=JSON_LIMIT + 1 if told else None)
        assert answer is not None
        assert answer.status == 413
        assert answer.detail() == "the body is longer than 16384 bytes; nothing was recorded"
        assert books(world.store) == kept
    assert world.engine.calls == []


async def test_an_endless_body_is_cut_off_at_the_limit() -> None:
    """It is not read any further than needed to know that it is too long."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        parts: list[Part] = [b"[" * 1000] * 1000
        answer = await _settle(client, parts)
        assert answer is not None
        assert answer.status == 413


@pytest.mark.parametrize(("size", "status"), [(MESSAGE_LIMIT, 201), (MESSAGE_LIMIT + 1, 413)])
async def test_a_message_may_have_100_kib(size: int, status: int) -> None:
    """As with the original framework."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        body = b'"' + b"x" * (size - 2) + b'"'
        answer = await client.send("POST", "/accounts/alice/messages", [OCTETS], in_parts(body, 65536))
        assert answer is not None
        assert answer.status == status
        if status == 201:
            assert answer.body == str(size - 2).encode()


@pytest.mark.parametrize("sent", [b"", QUANTITY[:9], QUANTITY])
async def test_a_client_that_leaves_in_the_middle_has_asked_for_nothing(sent: bytes) -> None:
    """Even if what came so far is a good quantity: the rest might have been more of it. Nobody is answered."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        kept = books(world.store)
        assert await _settle(client, [sent], hangs_up=True) is None
        assert books(world.store) == kept
    assert world.engine.calls == []


async def test_a_body_that_drips_is_given_up_after_exactly_ten_seconds() -> None:
    """408, nothing recorded; a byte a second is no excuse."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        kept = books(world.store)
        began = anyio.current_time()
        parts: list[Part] = []
        for byte in QUANTITY:
            parts += [1.0, bytes([byte])]
        answer = await _settle(client, parts)
        assert anyio.current_time() - began == pytest.approx(10)
        assert answer is not None
        assert answer.status == 408
        assert answer.detail() == "the body did not arrive within 10 s; nothing was recorded"
        assert books(world.store) == kept
    assert world.engine.calls == []


async def test_a_body_that_comes_just_in_time_is_taken() -> None:
    """The last part after 9.9 seconds."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        answer = await _settle(client, [QUANTITY[:5], 9.9, QUANTITY[5:]])
        assert answer is not None
        assert answer.status == 201
        await until(lambda: world.account().outgoing.settled == D(1))


async def test_a_creation_and_a_deletion_are_bounded_too() -> None:
    """A deletion has no body to speak of, but some clients send one."""
    world = World(Talking())
    async with serving(world) as client:
        await client.create()
        kept = books(world.store)
        for method, target in (("POST", "/accounts"), ("DELETE", "/accounts/alice")):
            answer = await client.request(method, target, JSON, body=b" " * (JSON_LIMIT + 1))
            assert answer.status == 413
        assert books(world.store) == kept
        assert (await client.request("DELETE", "/accounts/alice", body=b" " * JSON_LIMIT)).status == 204

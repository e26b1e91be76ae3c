"""Providers that take few calls at once, or one, are asked for as many as they take, and are remembered to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from settlement_core.engines.ethereum.rpc import MAX_BATCH, PATIENT, Call, NodeRefused, NodeUnavailable, Rpc, open_rpc
from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import Answer

pytestmark = pytest.mark.anyio

CALLS = [Call("eth_getBlockByNumber", (hex(number), False)) for number in range(23)]

Refusal = Callable[[list[Any]], Answer]


def answered(content: Any) -> Answer:
    """Return the answer of a node that takes everything."""
    return Answer(200, json.dumps(content).encode(), {"content-type": "application/json"})


REFUSALS: dict[str, Refusal] = {
    "one error for all": lambda _: answered({"id": None, "error": {"code": -32005, "message": "batch too large"}}),
    "an error in a list": lambda _: answered([{"id": None, "error": {"code": 31, "message": "no batches"}}]),
    "an error for each": lambda calls: answered(
        [{"id": call["id"], "error": {"code": -32600, "message": "too many calls"}} for call in calls]
    ),
    "a status": lambda _: Answer(413, b"too large", {}),
    "a server's error": lambda _: Answer(500, b'{"message":"Batch of more than 3 requests"}', {}),
    "a part of them": lambda calls: answered([{"id": call["id"], "result": "0x1"} for call in calls[:1]]),
}


@asynccontextmanager
async def open_provider(limit: list[int], refuse: Refusal) -> AsyncIterator[tuple[Rpc, list[int]]]:
    """Give a node that takes so many calls at once, and the list of how many it was asked."""
    asked: list[int] = []

    async def respond(_method: str, _path: str, _headers: dict[str, str], body: bytes) -> Answer:
        content = json.loads(body)
        calls = content if isinstance(content, list) else [content]
        asked.append(len(calls))
        if len(calls) > limit[0]:
            return refuse(calls)
        answers = [{"jsonrpc": "2.0", "id": call["id"], "result": call["params"][0]} for call in calls]
        return answered(answers if isinstance(content, list) else answers[0])

    async with open_server(respond) as url, open_rpc(url, timeout_s=10) as rpc:
        yield rpc, asked


@pytest.mark.parametrize("most", [1, 3, 10])
@pytest.mark.parametrize("name", REFUSALS)
async def test_batches_are_halved_until_they_are_taken(most: int, name: str) -> None:
    """Every call is answered by its own answer; the next time the node is asked for what it takes at once."""
    async with open_provider([most], REFUSALS[name]) as (rpc, asked):
        for _ in range(2):
            assert await rpc.try_all(CALLS) == [hex(number) for number in range(23)]
        refused = [size for size in asked if size > most]
        assert len(refused) <= 5
        assert sum(asked) - sum(refused) == 2 * len(CALLS)
        assert max(asked[-8:]) <= most


async def test_calls_that_are_all_refused_for_themselves_say_nothing_about_batches() -> None:
    """Each is asked alone and refused again; the next batch is as large as ever."""
    limit = [0]
    async with open_provider(limit, REFUSALS["an error for each"]) as (rpc, asked):
        assert all(isinstance(answer, NodeRefused) for answer in await rpc.try_all(CALLS[:2]))
        assert asked == [2, 1, 1]
        limit[0] = MAX_BATCH
        await rpc.try_all(CALLS)
        assert asked[3:] == [len(CALLS)]


async def test_more_is_offered_again_after_a_while() -> None:
    """A node that refused for another reason is not asked one by one for ever."""
    limit = [1]
    async with open_provider(limit, REFUSALS["one error for all"]) as (rpc, asked):
        await rpc.try_all(CALLS)
        limit[0] = MAX_BATCH
        for _ in range(8 * PATIENT):
            await rpc.try_all(CALLS)
        assert asked[-1] == len(CALLS)


async def test_an_overloaded_node_is_not_asked_more_often() -> None:
    """Fewer calls at once would be more requests."""
    async with open_provider([0], lambda _: Answer(429, b"slow down", {})) as (rpc, asked):
        with pytest.raises(NodeUnavailable):
            await rpc.try_all(CALLS)
        assert asked == [len(CALLS)]


async def test_what_one_call_alone_is_refused_is_that_calls_answer() -> None:
    """A refusal of a single call is no reason to ask for less."""
    refusal = {"id": 0, "error": {"code": -32000, "message": "no such block"}}
    async with open_provider([0], lambda _: answered(refusal)) as (rpc, asked):
        (said,) = await rpc.try_all(CALLS[:1])
        assert isinstance(said, NodeRefused)
        assert asked == [1]

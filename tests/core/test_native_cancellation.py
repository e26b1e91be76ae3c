"""asyncio's own cancellation around a public call of the core reaches its caller, and changes nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from settlement_core.core.core import Core
from settlement_core.values.events import EngineMisbehaved, MessageFailed
from tests.core.worlds import D, MinimalEngine, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """There is no other cancellation on trio."""
    return "asyncio"


class SlowEngine(MinimalEngine):
    """Takes its time over everything that it is asked for a caller."""

    async def handle_message(self, _account_id: str, message: Any) -> Any:
        """Answer late."""
        await anyio.sleep(3)
        return message

    async def status(self) -> dict[str, Any]:
        """Tell late."""
        await anyio.sleep(3)
        return {"told": True}


CALLS: dict[str, Callable[[Core], Awaitable[Any]]] = {
    "handle_message": lambda core: core.handle_message("alice", b"[1]"),
    "engine_status": lambda core: core.engine_status(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_timeout_of_asyncio_is_a_timeout(name: str) -> None:
    """Neither an error of ours nor an answer, and the task is not left cancelled."""
    world = World(SlowEngine())
    async with world.core() as core:
        await core.create_account("alice")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await CALLS[name](core)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert not world.ears.of(MessageFailed)
        assert not world.ears.of(EngineMisbehaved)
        await core.request_settlement("alice", D(1), "key")


@pytest.mark.parametrize("name", CALLS)
async def test_a_task_that_is_cancelled_is_cancelled(name: str) -> None:
    """Whoever awaits it learns so."""
    world = World(SlowEngine())
    async with world.core() as core:
        await core.create_account("alice")

        async def ask() -> Any:
            return await CALLS[name](core)

        task = asyncio.create_task(ask())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_a_cancellation_that_the_engine_raises_itself_is_its_failure() -> None:
    """Nobody asked for it, so the caller is told that the engine failed."""

    class Cancelling(MinimalEngine):
        async def status(self) -> dict[str, Any]:
            raise asyncio.CancelledError

    async with World(Cancelling()).core() as core:
        assert "CancelledError" in (await core.engine_status())["error"]

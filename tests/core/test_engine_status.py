"""What an engine tells operators of its ledger: never a hang, never an error of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from settlement_core.core.status import ALARM_S
from settlement_core.values.events import EngineAlarmed, EngineCalm, EngineMisbehaved
from tests.core.worlds import MinimalEngine, World

pytestmark = pytest.mark.anyio


class Telling(MinimalEngine):
    """Has a status."""

    def __init__(self, tell: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.status = tell


async def told(tell: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """Ask an engine that tells this."""
    async with World(Telling(tell)).core() as core:
        return await core.engine_status()


async def test_an_operator_sees_what_the_engine_tells() -> None:
    """A JSON object, as it is."""

    async def tell() -> Any:
        return {"height": 7, "balance": "1.5", "alarm": None}

    assert await told(tell) == {"height": 7, "balance": "1.5", "alarm": None}


async def test_an_engine_need_not_tell_anything() -> None:
    """Then there is nothing to see."""
    async with World(MinimalEngine()).core() as core:
        assert await core.engine_status() == {}


async def test_an_engine_that_fails_hangs_or_tells_nonsense_is_named() -> None:
    """The error is what the operator sees, within the deadline for messages."""

    async def fail() -> Any:
        raise RuntimeError("node is gone")

    async def hang() -> Any:
        await anyio.sleep_forever()

    async def babble() -> Any:
        return {"key": object()}

    async def count() -> Any:
        return 7

    began = anyio.current_time()
    assert await told(fail) == {"error": "RuntimeError: node is gone"}
    assert await told(hang) == {"error": "TimeoutError: no answer within 4 s"}
    assert anyio.current_time() - began == pytest.approx(4.0)
    assert (await told(babble))["error"].startswith("its answer is unusable: ")
    assert await told(count) == {"error": "it told int, not a JSON object"}


async def test_what_an_engine_raises_while_its_status_is_cut_is_told() -> None:
    """It is nobody's account, and the operator sees the deadline."""

    async def hang() -> Any:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cut:
            raise BaseExceptionGroup("both", [cut, RuntimeError("while cleaning up")]) from None

    world = World(Telling(hang))
    async with world.core() as core:
        assert await core.engine_status() == {"error": "TimeoutError: no answer within 4 s"}
    reason = "RuntimeError: while cleaning up"
    assert world.ears.of(EngineMisbehaved) == [EngineMisbehaved(account_id="", doing="status", reason=reason)]


async def test_an_alarm_is_an_event_when_it_begins_changes_and_ends() -> None:
    """Within 15 s, once each; an engine that cannot report keeps the alarm it had."""
    alarm: list[Any] = [None]

    async def tell() -> Any:
        if isinstance(alarm[0], Exception):
            raise alarm[0]
        return {"alarm": alarm[0]}

    world = World(Telling(tell))
    before = {task.id for task in anyio.get_running_tasks()}
    async with world.core():
        names = {task.name for task in anyio.get_running_tasks() if task.id not in before}
        assert "alarm of the engine" in names
        for now in (None, "key used elsewhere", "key used elsewhere", RuntimeError("node is gone"), "worse", "", ""):
            alarm[0] = now
            await anyio.sleep(ALARM_S)
    told = [event for _, event in world.ears.heard if isinstance(event, EngineAlarmed | EngineCalm)]
    assert told == [EngineAlarmed(alarm="key used elsewhere"), EngineAlarmed(alarm="worse"), EngineCalm(alarm="worse")]

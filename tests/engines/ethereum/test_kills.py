"""SIGKILL of a server between every two steps of a settlement: what was asked for is paid once, and credited once.

A step is a write to the store, a call of the node, or a call of the connector. Each is tried twice: the process ends
right before the step, and right after it, before it hears of it. Alice pays bob and carol at once, so that two accounts
have nonces of one key. By default those beside an effect are tried;
`ETHEREUM_KILLS=all` tries every step of a settlement, on both sides, in some minutes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from settlement_core.testing.connector import Fault, Incoming, lose_reply, lose_request
from tests.engines.ethereum.anvil import Anvil
from tests.engines.ethereum.proxy import Call, When
from tests.engines.ethereum.stage import D, Side, Stage, open_carol, open_stage

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EVERY = os.environ.get("ETHEREUM_KILLS") == "all"

MORTAL = Path(__file__).with_name("mortal.py")

MOST = 60
"""Steps of one kind that a settlement has at most; one more would be a step that never ends."""


@pytest.fixture
def anyio_backend() -> str:
    """Return the test's own loop; of the two servers, one runs on trio and one on asyncio."""
    return "trio"


@asynccontextmanager
async def open_mortals(node: Anvil, folder: Path) -> AsyncIterator[Stage]:
    """Set the stage with servers whose next life begins at once, and check all books when it ends."""
    async with open_stage(node, folder) as stage, open_carol(stage):
        for side in stage.sides.values():
            at = side.engine._command.index("-m")
            side.engine._command[at : at + 2] = [str(MORTAL), str(folder / f"{side.name}.orders")]
        await stage.start()
        await stage.alice.connector.create_account("carol")
        await stage.alice.connector.settle("carol", D(1))
        await stage.alice.settle(D(1))
        await stage.bob.settle(D(1))
        await stage.until_settled()
        async with anyio.create_task_group() as tasks:
            for side in stage.sides.values():
                tasks.start_soon(live_again_and_again, side)
            yield stage
            tasks.cancel_scope.cancel()
        await stage.end()


async def live_again_and_again(side: Side) -> None:
    """Start the server whenever it was killed."""
    while True:
        process = side.engine._process
        assert process is not None
        await process.wait()
        await side.engine.start()


def kill(side: Side) -> None:
    """End a server now."""
    assert side.engine._process is not None
    side.engine._process.kill()


Lower = Callable[[], bool]
"""Lets a server live from now on, and tells whether it was killed before."""


def aim_at_write(side: Side, number: int, when: When, *, command: str = "") -> Lower:
    """Have a server killed at one of its writes (of a certain command) from now on."""
    orders = side.folder / f"{side.name}.orders"
    draft = orders.with_suffix(".draft")
    draft.write_text(f"{number} {when} {command}")
    draft.rename(orders)

    def lower() -> bool:
        try:
            orders.unlink()
        except FileNotFoundError:
            return True
        return False

    return lower


def aim_at_call(side: Side, number: int, when: When, *, method: str = "") -> Lower:
    """Have a server killed at one of its calls of the node (of a certain method) from now on."""
    killed: list[Call] = []
    seen: set[int] = set()

    async def interrupt(call: Call, moment: When) -> bool:
        if killed or method not in call.method:
            return False
        seen.add(call.number)
        if len(seen) < number or moment != when:
            return False
        killed.append(call)
        kill(side)
        return True

    def lower() -> bool:
        side.proxy.interrupt = None
        return bool(killed)

    side.proxy.interrupt = interrupt
    return lower


def aim_at_credit(side: Side, number: int, when: When) -> Lower:
    """Have a server killed at one of its calls of the connector from now on."""
    first = len(side.connector.received)
    killed: list[Incoming] = []

    def befall(incoming: Incoming) -> Fault | None:
        if killed or incoming.number - first + 1 < number:
            return None
        killed.append(incoming)
        kill(side)
        return lose_request() if when == "before" else lose_reply()

    def lower() -> bool:
        side.connector.faults = deque()
        return bool(killed)

    side.connector.faults = befall
    return lower


Shot = Callable[[Side, int, When], Lower]


def write(command: str) -> Shot:
    """Return what aims at writes of a command."""
    return partial(aim_at_write, command=command)


KINDS: dict[str, tuple[Shot, tuple[str, ...]]] = {
    "writes": (aim_at_write, ("alice", "bob")),
    "node-calls": (aim_at_call, ("alice", "bob")),
    "credits": (aim_at_credit, ("bob",)),
}
"""Of each kind of step, how it is aimed at, and who takes such steps when alice pays."""

CHOSEN: list[tuple[str, Shot, When]] = [
    # the nonce is given away before the payment is noted, and the payment is noted before it is broadcast
    ("alice", write("Note"), "before"),
    ("alice", write("Note"), "after"),
    ("alice", partial(aim_at_call, method="eth_sendRawTransaction"), "after"),
    ("alice", write("Close"), "before"),
    # the credit is durable before the cursor moves on, and told before it is recorded as told
    ("bob", write("Enqueue"), "before"),
    ("bob", write("Enqueue"), "after"),
    ("bob", aim_at_credit, "before"),
    ("bob", aim_at_credit, "after"),
]
"""The steps that are always tried: the first of its kind, by whom, and when; of two with nothing between them, one."""


@pytest.mark.skipif(EVERY, reason="every step is tried")
@pytest.mark.timeout(300)
async def test_a_kill_beside_an_effect_changes_nothing(node: Anvil, tmp_path: Path) -> None:
    """Alice pays, a process is killed, again and again: chain and everybody's books agree to the wei."""
    async with open_mortals(node, tmp_path) as stage:
        for victim, aim, when in CHOSEN:
            assert await settle_with_a_kill(stage, aim(stage.sides[victim], 1, when))


@pytest.mark.skipif(not EVERY, reason="takes minutes: set ETHEREUM_KILLS=all")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_kill_at_any_step_changes_nothing(kind: str, node: Anvil, tmp_path: Path) -> None:
    """The same, at every step of a settlement."""
    aim, victims = KINDS[kind]
    async with open_mortals(node, tmp_path) as stage:
        for victim in victims:
            await kill_at_every_step(stage, partial(aim, stage.sides[victim]), f"{kind} of {victim}")


async def kill_at_every_step(stage: Stage, aim: Callable[[int, When], Lower], what: str) -> None:
    """Settle with a kill at the first step, the second, and so on, until there are no more."""
    moments: tuple[When, ...] = ("before", "after")
    for when in moments:
        number = 1
        while await settle_with_a_kill(stage, aim(number, when)):
            number += 1
            assert number < MOST
        print(f"{number - 1} kills {when} {what}")  # noqa: T201


async def settle_with_a_kill(stage: Stage, lower: Lower) -> bool:
    """Have alice pay bob and carol while a server is killed; return whether it was."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.alice.connector.settle, "carol", D("0.01"))
        tasks.start_soon(stage.alice.settle, D("0.1"))
    await stage.until_settled()
    was_killed = lower()
    # perhaps only just now
    await stage.until_settled()
    assert stage.bob.credited == stage.alice.requested
    return was_killed

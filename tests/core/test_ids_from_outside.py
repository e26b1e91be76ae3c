"""Ids in questions and decisions from outside are ids, or are refused: none becomes a part of another key."""

from __future__ import annotations

from typing import Any

import pytest

from settlement_core.cli.source import _Stopped
from settlement_core.core.core import Core
from settlement_core.http.finding import find_accounts
from settlement_core.values.commands import Assign, Entries, Get, History, Overview, Pause, Release, Resolve
from settlement_core.values.errors import UnknownAccount, UnknownSuspense
from settlement_core.values.records import Direction
from tests.core.worlds import D, MinimalEngine, World, until

pytestmark = pytest.mark.anyio

TOLD: dict[str, Any] = {"reason": "a look", "by": "carol", "at": 0.0}

ODD = ["alice:claims", "alice:keys:o", "alice:notes", "/", "a/b", "..", "a b", "ä", "a\n", "x" * 200]


async def refused(core: Core, command: Any) -> None:
    """Have it asked, or decided."""
    with pytest.raises((UnknownAccount, UnknownSuspense)):
        await (core.decide(command) if hasattr(command, "by") else core.ask(command))


@pytest.mark.parametrize("odd", ODD)
async def test_an_id_that_no_account_can_have_is_refused(odd: str) -> None:
    """On Redis such an id named another kind of key, and whoever asked for it ended the server for all."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "key")
        await until(lambda: world.account().outgoing.settled == 1)
        about: dict[str, Any] = {"account_id": odd, "attempt_id": "a"}
        for command in (
            Overview(account_id=odd),
            Entries(account_id=odd, direction=Direction.OUTGOING),
            History(account_id=odd),
            History(after="a", after_account=odd),
            Get(account_id=odd + ":", key="k"),
            Pause(account_id=odd, paused=True, **TOLD),
            Resolve(settled=D(0), **about, **TOLD),
            Release(**about, reason="a look", by="carol"),
            Assign(settlement_id="tx", account_id=odd, **TOLD),
            Assign(settlement_id="t\nx", account_id="alice", **TOLD),
        ):
            await refused(core, command)
        assert await find_accounts(core, after="", limit=10, prefix=odd, due=False) == []
        await core.request_settlement("alice", D(1), "another")
        await until(lambda: world.account().outgoing.settled == 2)
    with pytest.raises((UnknownAccount, UnknownSuspense)):
        _Stopped(world.store).pause(odd, paused=True, reason="a look", by="carol")

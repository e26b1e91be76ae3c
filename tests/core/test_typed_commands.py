"""What the core asks of a store is what commands say they are: a real store need not take anything else."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Refused, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.stores.memory import MemoryStore, create_memory_store
from settlement_core.values.backoff import DAY_S
from settlement_core.values.commands import Assign, Command, Pause, Release, Resolve, Result
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


def fits(value: object, kind: Any) -> bool:
    """Tell whether a value is of a field's type, as far as commands have such types."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is object:
        return True
    if isinstance(kind, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is frozenset:
        return isinstance(value, frozenset) and all(fits(part, inner[0]) for part in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(
            fits(key, inner[0]) and fits(part, inner[1]) for key, part in value.items()
        )
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if kind is float:
        return type(value) in {int, float}
    return type(value) is kind


def test_a_value_of_another_type_does_not_fit() -> None:
    """Else the tests below would show nothing."""
    assert fits(1.5, float)
    assert fits(None, int | None)
    assert fits(frozenset({1}), frozenset[int])
    assert fits({1: 2}, Mapping[int, int])
    for value, kind in [(None, float), ("1", Decimal | None), (frozenset({"a"}), frozenset[int]), (True, int)]:
        assert not fits(value, kind)


class StrictStore:
    """A store in memory that takes only what it was promised, and remembers of what kind it was."""

    threaded = False

    def __init__(self) -> None:
        self.inner: MemoryStore = create_memory_store()
        self.kinds: set[str] = set()
        self.misfits: list[str] = []

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Look at each field, then apply."""
        for command in commands:
            self.kinds.add(type(command).__name__)
            types_of = typing.get_type_hints(type(command))
            self.misfits += [
                f"{type(command).__name__}.{field.name} = {getattr(command, field.name)!r}"
                for field in fields(command)  # type: ignore[arg-type]
                if not fits(getattr(command, field.name), types_of[field.name])
            ]
        return self.inner.apply(commands)

    def close(self) -> None:
        """Nothing to give back."""


class Setting(VerifiableEngine):
    """Sets accounts up, and tears them down."""

    async def setup_account(self, account_id: str) -> None:
        """Do nothing."""

    async def close_account(self, account_id: str) -> None:
        """Do nothing."""

    async def handle_message(self, account_id: str, message: object) -> object:
        """Echo."""
        return message


async def decide_about(world: World, core: Any) -> None:
    """Say what is to become of everything that is parked."""
    for attempt in world.attempts():
        person: dict[str, Any] = {"account_id": "alice", "attempt_id": attempt.attempt_id, "reason": "r", "by": "b"}
        if attempt.state is AttemptState.HELD:
            await core.decide(Release(**person))
        elif attempt.state is AttemptState.IN_DOUBT:
            await core.decide(Resolve(**person, settled=D(0), at=1.0))


async def test_every_command_of_a_long_life_is_of_the_types_it_declares() -> None:
    """Of accounts, settlements, credits, decisions, notes of the engine, recovery, pruning and the end."""
    store = StrictStore()
    world = World(
        Setting(MemoryLedger(reject_next=1), fail=["prepare"]),
        store=store,
        connector=FakeConnector([Unanswered("502"), Refused("409")]),
        config=CoreConfig(create_unknown_accounts=True, key_retention_s=DAY_S),
    )
    async with world.core() as core:
        services = world.services[0]
        await core.request_settlement("alice", D(5), "a")
        assert await core.handle_message("carol", b"1") == b"1"
        await services.credit_settlement("alice", D(3), "tx")
        await services.credit_settlement("alice", D(4))
        await services.report_unattributed("lost", D(7), {"memo": None})
        await core.decide(Assign(settlement_id="lost", account_id="alice", reason="r", by="b", at=1.0))
        await core.decide(Pause(account_id="carol", paused=True, reason="r", by="b", at=1.0))
        await services.save("cursor", 1)
        assert await services.load("cursor") == 1
        await until(lambda: any(attempt.state is AttemptState.HELD for attempt in world.attempts()))
        await decide_about(world, core)
        await until(lambda: world.account().outgoing.settled == 5)
        await until(lambda: world.account().incoming.settled == 14)
        core.try_settlement("alice")
        await core.delete_account("alice")
        await until(lambda: core.statistics().active_lanes == 0)
        await anyio.sleep(DAY_S + 3 * 3600)
    world.engine = MinimalEngine([lose_sight])
    async with world.core() as core:
        await core.request_settlement("carol", D(5), "a")
        await core.decide(Pause(account_id="carol", paused=False, reason="r", by="b", at=1.0))
        await until(lambda: world.account("carol").outgoing.parked == 5)
        await core.delete_account("carol")
    assert store.misfits == []
    assert store.kinds >= {
        *("OpenAccount", "CloseAccount", "FinishStep", "Pause", "Enqueue", "Claim", "Note", "Close", "Hold", "Release"),
        *("Suspend", "Assign", "Put", "Get", "Prune", "Tick", "Share", "Overview", "Due"),
    }


async def lose_sight(_: Decimal) -> Decimal:
    """Leave the outcome unclear."""
    raise ConnectionError("no answer")

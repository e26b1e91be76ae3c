"""What is an engine and what is not: said when it is connected, in one sentence that says what to change."""

from __future__ import annotations

from typing import Any

import pytest

from settlement_core.core.engines import ConnectedEngine
from settlement_core.values.errors import InvalidEngine
from tests.core.worlds import MemoryLedger, MinimalEngine, VerifiableEngine


def thing(**members: Any) -> object:
    """Return an object with just these members, of a class named Thing."""
    return type("Thing", (), members)()


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "it has neither settle nor prepare, submit and verify"),
        ({"settle": 7}, "it has neither settle nor prepare, submit and verify"),
        ({"prepare": print}, "it has prepare but not submit, verify"),
        ({"settle": print, "submit": print, "verify": print}, "it has submit, verify but not prepare"),
        ({"settle": print, "asset_scale": "9"}, "its asset_scale is '9', not an integer from 0 to 255"),
        ({"settle": print, "asset_scale": True}, "its asset_scale is True, not an integer from 0 to 255"),
        ({"settle": print, "asset_scale": -1}, "its asset_scale is -1, not an integer from 0 to 255"),
        ({"settle": print, "asset_scale": 256}, "its asset_scale is 256, not an integer from 0 to 255"),
    ],
    ids=repr,
)
def test_what_is_no_engine_is_refused_with_what_it_lacks(members: dict[str, Any], problem: str) -> None:
    """Its members are those that can be called."""
    with pytest.raises(InvalidEngine) as caught:
        ConnectedEngine(thing(**members))
    assert str(caught.value) == f"Thing is no settlement engine: {problem}"


@pytest.mark.parametrize("scale", [None, 0, 255])
def test_a_scale_may_be_none_or_whatever_a_quantity_can_have(scale: int | None) -> None:
    """An asset without decimals counts in whole units."""
    engine = MinimalEngine()
    engine.asset_scale = scale  # type: ignore[attr-defined]
    assert ConnectedEngine(engine).asset_scale == scale


def test_an_engine_is_of_one_contract_and_has_what_can_be_called() -> None:
    """The verifiable one, if it fulfils both; what is there but cannot be called is not there."""
    minimal, verifiable = MinimalEngine(), VerifiableEngine(MemoryLedger())
    connected = ConnectedEngine(minimal)
    assert (connected.name, connected.minimal, connected.verifiable) == ("MinimalEngine", minimal, None)
    verifiable.settle = minimal.settle  # type: ignore[attr-defined]
    connected = ConnectedEngine(verifiable)
    assert (connected.name, connected.minimal, connected.verifiable) == ("VerifiableEngine", None, verifiable)
    members = ("setup_account", "close_account", "handle_message", "status", "disconnect")
    for name in members:
        assert getattr(connected, name) is None
        full = ConnectedEngine(thing(settle=print, **{name: print}))
        assert {other: getattr(full, other) for other in members} == {
            other: print if other == name else None for other in members
        }
        assert getattr(ConnectedEngine(thing(settle=print, **{name: "later"})), name) is None

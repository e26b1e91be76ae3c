"""The label of what an engine settles in: beside the amounts of every surface, also of a stopped server's store."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from settlement_core.core.engines import ConnectedEngine
from settlement_core.observers._messages import message_of
from settlement_core.values.errors import InvalidEngine
from settlement_core.values.events import CoreStarted, SettlementInDoubt
from tests.cli.processes import MINIMAL, run, serving, until, write_engine

LABELLED = MINIMAL.replace("class Engine:\n", 'class Engine:\n    asset = "EUR"\n\n')


def test_each_surface_names_the_unit_of_its_amounts(tmp_path: Path) -> None:
    """The engine says it once; the store keeps it for when nobody runs the engine."""
    store = f"sqlite:{tmp_path / 's.db'}"
    with serving(
        str(write_engine(tmp_path, LABELLED)), "--store", store, folder=tmp_path, PAID=f"{tmp_path}/paid"
    ) as s:
        assert s.create() == 201
        assert s.settle("13", "doubtful") == 201
        until(lambda: bool(s.books("/attempts?state=in_doubt")))
        assert s.books("/summary")["server"]["asset"] == s.books("/statistics")["asset"] == "EUR"
        running = {name: run(name, "--admin-url", s.admin_url, code=None).stdout for name in ("accounts", "attempts")}
        assert s.stop() == 0
        assert "amounts in EUR" in s.log.read_text()
    for name, shown in running.items():
        assert "; amounts in EUR\n" in shown
        assert run(name, "--store", store).stdout == shown
    for name in ("audit", "suspense"):
        assert "; amounts in EUR\n" in run(name, "--store", store, code=None).stdout


def test_a_webhook_says_what_its_amount_is_in() -> None:
    """And only where there is an amount and a label."""
    doubt = message_of(SettlementInDoubt(account_id="alice", attempt_id="a", amount=Decimal(5), reason="lost"))
    assert doubt is not None
    assert json.loads(doubt.to_json(message_id="m", at=1.0, asset="EUR"))["asset"] == "EUR"
    assert "asset" not in json.loads(doubt.to_json(message_id="m", at=1.0))
    assert str(CoreStarted(engine="E", verifiable=True, asset="EUR")).endswith(", amounts in EUR")


@pytest.mark.parametrize("asset", ["x" * 17, "two words", "a\x1b[2J", 5])
def test_a_label_is_a_short_visible_word(asset: object) -> None:
    """Anything else could hide or move what stands beside it."""

    class Engine:
        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            del account_id
            return amount

    engine = Engine()
    engine.asset = asset  # type: ignore[attr-defined]
    with pytest.raises(InvalidEngine, match="its asset is "):
        ConnectedEngine(engine)

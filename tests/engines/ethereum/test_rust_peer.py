"""Our server and the Rust engine, each behind a connector of its kind, become peers and pay each other."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from settlement_core.demo.processes import open_engine_process
from settlement_core.testing.connector import link_accounts, open_test_connector
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil
from tests.engines.ethereum.rust import open_rust_engine
from tests.engines.ethereum.stage import CONFIRMATIONS, PATIENCE_S, D

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OURS = "0d9b3c5e-0a0f-4f0e-8f5c-2a7d1c6b9e01"
"""What our connector calls the account with the Rust side."""
THEIRS = "7c2e4a68-5b1d-4c3f-9e8a-6f0b2d4c8e02"


@pytest.fixture
def anyio_backend() -> str:
    """Return the test's own loop; the server runs on another one."""
    return "trio"


@pytest.mark.parametrize("first", ["we", "they"])
async def test_a_rust_engine_and_ours_pay_each_other(first: str, node: Anvil, tmp_path: Path) -> None:
    """Whoever asks first: nothing is broadcast before both know each other, and both are paid to the wei."""
    us, them = node.accounts[1:3]
    key_file = tmp_path / "key"
    key_file.write_text(us.key)
    options = [f"chain_id={CHAIN_ID}", f"node={node.url}", f"key_file={key_file}", "poll_interval_s=0.05"]
    options.append(f"confirmations={CONFIRMATIONS}")
    async with (
        open_test_connector("interledger_rs", patience_s=PATIENCE_S) as connector,
        open_test_connector("interledger_rs", patience_s=PATIENCE_S) as other,
        open_rust_engine(them.key) as rust,
    ):
        arguments = ["ethereum", "--store", f"sqlite:{tmp_path / 'store.db'}", "--connector-url", connector.url]
        arguments += [word for option in options for word in ("-o", option)]
        async with open_engine_process("ours", [*arguments, "--backend", "asyncio"], log=tmp_path / "log") as engine:
            await engine.start()
            connector.engine_url, other.engine_url, rust.connector_url = engine.url, rust.url, other.url
            link_accounts(connector, OURS, other, THEIRS)
            rust.deaf = first == "they"
            other.books.open(THEIRS)
            await connector.create_account(OURS)
            await connector.settle(OURS, D("0.2"))
            if first == "they":
                assert node.pool() == []
                rust.deaf = False
                await rust.meet(THEIRS)
            with anyio.fail_after(PATIENCE_S):
                while not node.pool():
                    await anyio.sleep(0.01)
            assert rust.addresses == {THEIRS: us.address}
            node.send(rust.address, to=rust.addresses[THEIRS], value=3 * 10**17)
            with anyio.fail_after(PATIENCE_S):
                while connector.account(OURS).credited != D("0.3"):
                    node.mine()
                    await anyio.sleep(0.03)
            blocks = (node.block(number, full=True) for number in range(node.height + 1))
            paid = [tx for block in blocks for tx in block["transactions"] if tx["from"] == us.address]
            assert [(tx["to"], int(tx["value"], 16)) for tx in paid] == [(them.address, 2 * 10**17)]
            assert await engine.stop() == 0

"""An engine only starts with the key, chain and token it is meant for, and never shows what must stay secret."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from settlement_core.abc import Settled
from settlement_core.engines.ethereum import EthereumConfig, SigningKey
from settlement_core.engines.ethereum.config import load_key
from settlement_core.engines.ethereum.rpc import NodeUnavailable, open_rpc
from settlement_core.targets import load_target
from settlement_core.values.errors import LocalError
from tests.engines.ethereum.anvil import Anvil, dev_accounts, open_node
from tests.engines.ethereum.contracts import deploy_token
from tests.engines.ethereum.rig import D, EngineServices, open_running, open_stepped

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough for details."""
    return "trio"


KEY = dev_accounts()[1].key


async def test_a_chain_id_is_believed_from_the_chain_only(node: Anvil) -> None:
    """Configured for one chain and led to another, the engine does not start, and writes nothing down."""
    services = EngineServices()
    with pytest.raises(LocalError, match="the node is on chain 31337, not on 1"):
        async with open_running(node, services, chain_id=1):
            pass
    assert services.saved == {}


async def test_a_large_chain_id_is_signed_for(tmp_path: Path) -> None:
    """Chains beyond 110, whose ids do not fit into one byte of an older signature, work like any other."""
    with open_node("--chain-id", "2147483648", automine=False, folder=tmp_path) as node:
        async with open_stepped(node, chain_id=2_147_483_648) as side:
            payment = await side.pay()
            await side.look(blocks=3)
            assert await side.engine.verify(payment) == Settled(D(7))


async def test_a_first_start_needs_the_node(node: Anvil) -> None:
    """Nobody else knows the key's nonce, or the token's decimals."""
    node.stop()
    with pytest.raises(LocalError, match="needs its node at its first start: no answer from http://127.0.0.1"):
        async with open_running(node):
            pass


@pytest.mark.parametrize(("asset_scale", "fits"), [(None, True), (6, True), (18, False)])
async def test_a_tokens_scale_is_checked(node: Anvil, asset_scale: int | None, fits: bool) -> None:
    """The contract's decimals() is what amounts are counted in; other settings are refused."""
    token = deploy_token(node, decimals=6)
    if fits:
        async with open_stepped(node, token=token, asset_scale=asset_scale) as side:
            assert side.engine.asset_scale == 6
        return
    with pytest.raises(LocalError, match="has 6 decimals, not 18"):
        async with open_stepped(node, token=token, asset_scale=asset_scale):
            pass


async def test_what_is_no_token_is_refused(node: Anvil) -> None:
    """An address without code has no decimals."""
    with pytest.raises(LocalError, match="needs its node at its first start: the node's answer to decimals"):
        async with open_running(node, token=dev_accounts()[5].address):
            pass


@pytest.mark.parametrize("change", [{"key": SigningKey(dev_accounts()[3].key)}, {"token": dev_accounts()[3].address}])
async def test_a_store_belongs_to_one_key_in_one_asset(node: Anvil, change: dict[str, Any]) -> None:
    """Its nonces, its cursor and its debts would be taken for another's."""
    async with open_stepped(node) as side:
        services = side.services
    before = dict(services.saved)
    with pytest.raises(LocalError, match="this store belongs to ether on chain 31337 of address"):
        async with open_running(node, services, **change):
            pass
    assert services.saved == before


def test_the_key_is_never_shown() -> None:
    """Not by repr, not in an error, not by pickling; nor is what a node's URL keeps secret."""
    key = SigningKey(KEY)
    config = EthereumConfig(node_url="http://user:pass@127.0.0.1:8545/v3/apikey", chain_id=1, key=key)
    for shown in (repr(key), repr(config), str(config)):
        assert KEY[2:] not in shown
        assert "apikey" not in shown
        assert "pass" not in shown
    with pytest.raises(TypeError, match="not written anywhere"):
        pickle.dumps(key)
    with pytest.raises(LocalError) as refused:
        SigningKey(KEY + "00")
    assert KEY[2:10] not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_a_urls_secrets_are_not_told_in_errors() -> None:
    """Providers put the customer's key in the path, the query or the user name."""
    async with open_rpc("http://someone:hidden@127.0.0.1:1/v3/apikey?token=abcdef", timeout_s=5) as rpc:
        assert repr(rpc) == "<Rpc http://127.0.0.1:1, timeout 5 s>"
        with pytest.raises(NodeUnavailable) as failed:
            await rpc.call("eth_chainId")
        assert str(failed.value).startswith("no answer from http://127.0.0.1:1")
        for secret in ("someone", "hidden", "apikey", "abcdef"):
            assert secret not in str(failed.value)
        assert rpc._quote("v3/apikey?token=abcdef of someone") == "[secret]?[secret] of [secret]"
        assert rpc._quote("no project apikey for abcdef, hidden") == "no project [secret] for [secret], [secret]"
    async with open_rpc("https://a%2Fb:c@127.0.0.1:1/v3/0123456789abcdef", timeout_s=5) as rpc:
        assert rpc._quote("bad key 0123456789abcdef of a/b in v3") == "bad key [secret] of [secret] in v3"


async def test_what_leads_to_the_node_is_checked_when_the_engine_starts(tmp_path: Path) -> None:
    """A file of authorities and a proxy, as options; no secret of the proxy's is told."""
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    for options, problem in (
        ({"ca_file": str(tmp_path / "none.pem")}, "cannot read the CA file '.*none.pem' for the node's URL"),
        ({"proxy": "http://me:hunter2@"}, "cannot use the proxy to the node: it names no host"),
    ):
        facts = {"chain_id": "1", "node": "https://127.0.0.1:1", "key_file": str(key)}
        connect: Any = load_target("ethereum", facts | options)
        with pytest.raises(LocalError, match=problem) as refused:
            async with connect(EngineServices()):
                raise AssertionError
        assert "hunter2" not in str(refused.value)


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """In hexadecimal, or as a keystore with a password; and never from a command line."""
    address = dev_accounts()[1].address
    plain = tmp_path / "key"
    plain.write_text(f"{KEY}\n")
    keystore = tmp_path / "keystore.json"
    keystore.write_text(json.dumps(Account.encrypt(bytes.fromhex(KEY[2:]), "open sesame", kdf="pbkdf2", iterations=10)))
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    found = [
        load_key(key_file="", password_file="", environment={"SETTLEMENT_ETHEREUM_KEY": KEY}),
        load_key(key_file=str(plain), password_file="", environment={}),
        load_key(key_file=str(keystore), password_file=str(password), environment={}),
        load_key(key_file=str(keystore), password_file="", environment={"SETTLEMENT_ETHEREUM_PASSWORD": "open sesame"}),
    ]
    assert [key.address for key in found] == [address] * 4
    wrong = [
        ({"key_file": ""}, {}, "needs its key"),
        ({"key_file": str(tmp_path / "nothing")}, {}, "cannot read the key file"),
        ({"key_file": str(keystore)}, {}, "is a keystore: say -o password_file"),
        ({"key_file": str(keystore)}, {"SETTLEMENT_ETHEREUM_PASSWORD": "guess"}, "the password or the file is wrong"),
    ]
    for files, environment, problem in wrong:
        with pytest.raises(LocalError, match=problem):
            load_key(**{"password_file": "", **files}, environment=environment)


def test_options_are_text_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command line says becomes settings, or one sentence."""
    monkeypatch.setenv("SETTLEMENT_ETHEREUM_KEY", KEY)
    assert callable(load_target("ethereum", {"chain_id": "31337"}))
    everything = {
        "chain_id": "1",
        "node": "https://node.example/v3/abc",
        "token": "0x" + "AB" * 20,
        "asset_scale": "6",
        "confirmations": "finalized",
        "max_fee_per_gas_gwei": "12.5",
        "minimum": "0.01",
        "start_block": "0",
        "require_strong_handshake": "yes",
    }
    assert callable(load_target("ethereum", everything))
    wrong = [
        ({}, "needs chain_id; its options are chain_id=…"),
        ({"chain_id": "x"}, "engine option chain_id cannot be 'x'"),
        ({"chain_id": "1", "token": "0x12"}, "token is an address"),
        ({"chain_id": "1", "asset_scale": "6"}, "asset_scale is 18 for ether"),
        ({"chain_id": "1", "node": "ftp://x"}, "cannot use the node's URL"),
        ({"chain_id": "1", "confirmations": "0"}, "confirmations is at least 1"),
        ({"chain_id": "1", "minimum": "nan"}, "engine option minimum cannot be 'nan'"),
        ({"chain_id": "1", "poll_interval_s": "0"}, "poll_interval_s is above 0"),
        ({"chain_id": "1", "start_block": "-1"}, "start_block is 0 or a later block"),
        ({"chain_id": "1", "require_strong_handshake": "maybe"}, "require_strong_handshake cannot be 'maybe'"),
        ({"chain_id": "1", "max_gas": "20999"}, "max_gas is at least 21000"),
        ({"chain_id": "1", "key": KEY}, "does not know key"),
    ]
    for options, problem in wrong:
        with pytest.raises(LocalError, match=problem):
            load_target("ethereum", options)


def test_its_libraries_change_nothing_for_the_rest_of_the_process() -> None:
    """One of them raises the recursion limit, with which a deeply nested request would end the process."""
    code = (
        "import sys; limit = sys.getrecursionlimit(); "
        "from settlement_core.engines.ethereum import SigningKey; SigningKey('0x' + '11' * 32); "
        "from eth_account.messages import encode_typed_data; from eth_keys.datatypes import Signature; "
        "assert sys.getrecursionlimit() == limit, sys.getrecursionlimit()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_secret_file_that_everybody_may_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With its path and the remedy, and without the secret; one that others cannot read is taken in silence."""
    key, password = tmp_path / "key", tmp_path / "password"
    keystore = json.dumps(Account.encrypt(bytes.fromhex(KEY[2:]), "open sesame", kdf="pbkdf2", iterations=10))
    for content, mode, warned in ((KEY, 0o640, []), (KEY, 0o644, [key]), (keystore, 0o604, [key, password])):
        caplog.clear()
        key.write_text(content)
        password.write_text("open sesame")
        for file in (key, password):
            file.chmod(mode)
        loaded = load_key(key_file=str(key), password_file=str(password), environment={})
        assert loaded.address == dev_accounts()[1].address
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == len(warned)
        for line, path in zip(lines, warned, strict=True):
            assert f"{str(path)!r} may be read by everybody on this machine: say chmod o= {path}" in line
        assert not any(secret in line for line in lines for secret in (KEY, KEY[2:], "sesame"))

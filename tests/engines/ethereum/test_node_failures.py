"""A node that is away, behind, elsewhere or lying costs time, never money; and everything resumes by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from settlement_core.abc import Pending, Settled
from settlement_core.engines.ethereum import rpc
from settlement_core.engines.ethereum.chain import NodeLagging, WrongChain
from settlement_core.engines.ethereum.rpc import NodeUnavailable
from tests.engines.ethereum.anvil import Anvil, open_node
from tests.engines.ethereum.rig import (
    ETHER,
    D,
    Side,
    hash_of,
    lie,
    open_running,
    open_stepped,
    peer_address,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough for details."""
    return "trio"


def lead_to(side: Side, url: str) -> None:
    """Have the node's URL lead elsewhere."""
    side.engine._chain.rpc._url = url


async def test_a_node_that_restarts_costs_time_only(node: Anvil) -> None:
    """It forgot its pool, as nodes do; the payment is broadcast again, and the deposit credited."""
    before = node.balance(peer_address())
    async with open_running(node) as side:
        payment = await side.pay()
        node.send(peer_address(), to=side.address, value=2 * ETHER)
        node.mine()
        second = await side.pay("1", attempt="attempt-2")
        node.stop()
        await until(lambda: bool(side.engine._state.trouble and side.engine._state.scan_trouble))
        assert "no answer from" in (await side.engine.status())["trouble"]
        with pytest.raises(NodeUnavailable):
            await side.prepare(attempt="attempt-3")
        assert isinstance(await side.engine.verify(payment), Pending)
        node.start()
        await until(lambda: node.pool() == [hash_of(second)])
        node.mine(3)
        assert await side.verdict(payment) == Settled(D(7))
        assert await side.verdict(second) == Settled(D(1))
        await until(lambda: side.services.credited() == D(2))
        assert (await side.engine.status())["trouble"] == ""
        assert side.engine._book.next == 2
    assert node.balance(peer_address()) - before == (7 + 1 - 2) * ETHER - _fee(node, side.services.credits)


def _fee(node: Anvil, credits_: dict[str, Any]) -> int:
    """Return what the peer's own deposit cost it."""
    (settlement_id,) = credits_
    receipt = node.receipt(settlement_id.split(":")[1])
    assert receipt is not None
    return int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)


async def test_an_engine_starts_while_its_node_is_away(node: Anvil) -> None:
    """Not the first time; later it knows chain, token and nonce, and waits for the node."""
    async with open_stepped(node) as side:
        payment = await side.pay()
        node.mine()
    node.stop()
    async with open_running(node, side.services) as side:
        await until(lambda: bool(side.engine._state.trouble))
        assert isinstance(await side.engine.verify(payment), Pending)
        node.start()
        node.mine(2)
        assert await side.verdict(payment) == Settled(D(7))


async def test_a_lost_reply_is_not_a_lost_payment(node: Anvil) -> None:
    """The node took the transaction and its answer got lost: submit raises, the payment is settled, once."""
    async with open_stepped(node) as side:
        payment = await side.prepare()
        call = side.engine._chain.rpc.call

        async def lose(method: str, *params: Any) -> Any:
            await call(method, *params)
            raise NodeUnavailable("the answer was lost")

        side.engine._chain.rpc.call = lose  # type: ignore[method-assign]
        with pytest.raises(NodeUnavailable):
            await side.engine.submit(payment)
        side.engine._chain.rpc.call = call  # type: ignore[method-assign]
        await side.engine.submit(payment)
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))
        assert node.nonce(side.address) == 1


async def test_an_account_that_rests_for_the_node_is_rung_when_it_answers(node: Anvil) -> None:
    """Back-off may have grown to an hour by then; the node is looked at all the time."""
    async with open_stepped(node) as side:
        lead_to(side, "http://127.0.0.1:1")
        with pytest.raises(NodeUnavailable):
            await side.prepare()
        with pytest.raises(NodeUnavailable):
            await side.engine.watcher.watch_once()
        lead_to(side, node.url)
        side.services.nudged.clear()
        await side.look()
        await side.look()
        assert side.services.nudged == ["bob"]


async def test_another_chain_is_neither_read_nor_written(node: Anvil) -> None:
    """The URL leads to another chain, where our key has a past: nothing is decided, sent or credited from it."""
    with open_node("--chain-id", "1", automine=False) as other:
        async with open_stepped(node) as side:
            payment = await side.pay()
            other.send(side.address, to=peer_address(), value=1)
            other.send(peer_address(), to=side.address, value=ETHER)
            other.mine(9)
            lead_to(side, other.url)
            with pytest.raises(WrongChain, match="on chain 1, not on 31337"):
                await side.engine.watcher.watch_once()
            with pytest.raises(WrongChain):
                await side.engine.scan.scan_once()
            with pytest.raises(WrongChain):
                await side.prepare(attempt="attempt-2")
            assert isinstance(await side.engine.verify(payment), Pending)
            assert side.services.credits == {}
            lead_to(side, node.url)
            await side.look(blocks=3)
            assert await side.engine.verify(payment) == Settled(D(7))


async def test_a_node_that_is_behind_is_waited_for(node: Anvil) -> None:
    """It does not know the block with our payment yet: that is no reorganisation, and no reason for another nonce."""
    with open_node(automine=False) as behind:
        behind.mine(2)
        async with open_stepped(node) as side:
            payment = await side.pay()
            await side.look(blocks=12)
            lead_to(side, behind.url)
            with pytest.raises(NodeLagging, match="newest block is 2, but block 12 was seen"):
                await side.engine.watcher.watch_once()
            with pytest.raises(NodeLagging):
                await side.prepare(attempt="attempt-2")
            assert behind.pool() == []
        async with open_stepped(node, side.services) as side:
            lead_to(side, behind.url)
            with pytest.raises(NodeLagging):
                await side.engine.scan.scan_once()
            lead_to(side, node.url)
            await side.look()
            assert await side.engine.verify(payment) == Settled(D(7))


async def test_a_receipt_from_a_block_that_was_replaced_proves_nothing(node: Anvil) -> None:
    """A node may still tell what it knows of a block that is no longer of the chain: neither paid, nor credited."""
    async with open_stepped(node) as side:
        payment = await side.pay()
        node.send(peer_address(), to=side.address, value=ETHER)
        before = node.snapshot()
        node.mine(3)
        old = {tx_hash: node.receipt(tx_hash) for tx_hash in node.block(node.height - 2)["transactions"]}
        node.revert(before)
        node.drop_all()
        node.mine(4)
        end = lie(side, "eth_getTransactionReceipt", lambda _, call: old[call.params[0]])
        await side.look()
        assert isinstance(await side.engine.verify(payment), Pending)
        assert side.services.credits == {}
        end()
        await side.look(blocks=4)
        assert await side.engine.verify(payment) == Settled(D(7))


ANSWERS = {
    "a page": (200, b"<html>Just a moment...</html>"),
    "nothing": (200, b""),
    "null": (200, b"null"),
    "half a batch": (200, b'[{"jsonrpc":"2.0","id":0,"result":"0x7a69"}]'),
    "an overload": (429, b"slow down"),
    "an error for all": (200, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"limit"}}'),
    "the same twice": (200, b'[{"id":0,"result":"0x7a69"},{"id":0,"result":"0x7a69"}]'),
    "an endless number": (200, b'[{"id":0,"result":' + b"9" * 5000 + b"}]"),
    "an endless error": (200, b'{"id":0,"error":{"code":' + b"9" * 5000 + b',"message":"no"}}'),
    "strange ids": (200, b'[{"id":"x","result":1},{"id":true,"result":1},7]'),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_answer_decides_nothing(node: Anvil, name: str) -> None:
    """Whatever comes instead of an answer, it is waited for the next one."""
    status, body = ANSWERS[name]
    async with open_stepped(node) as side:
        payment = await side.pay()
        node.mine(3)
        with _server(status, body) as url:
            lead_to(side, url)
            for look in (side.engine.watcher.watch_once, side.engine.scan.scan_once):
                with pytest.raises(NodeUnavailable):
                    await look()
        lead_to(side, node.url)
        assert isinstance(await side.engine.verify(payment), Pending)
        await side.look()
        assert await side.engine.verify(payment) == Settled(D(7))


async def test_an_endless_answer_is_read_to_a_bound(node: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node, or who pretends to be one, must not fill the memory."""
    async with open_stepped(node) as side:
        monkeypatch.setattr(rpc, "MAX_ANSWER", 1000)
        with _server(200, b"[" + b" " * 100_000 + b"]") as url:
            lead_to(side, url)
            with pytest.raises(NodeUnavailable, match="answered more than"):
                await side.engine.watcher.watch_once()


@contextmanager
def _server(status: int, body: bytes) -> Iterator[str]:
    """Serve one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

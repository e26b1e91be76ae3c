"""A real Ethereum node for tests: anvil, started on a free port in 0.1 s, with a chain that obeys.

    with open_node() as node:                 # chain id 31337, ten accounts of 10,000 ether each
        node.mine(3)
        node.send(node.accounts[0].address, to=address, value=10**18)

The node is installed by `npm install --no-save --ignore-scripts --prefix examples/ethereum` (`make test` does it).
Everything here is synchronous: the node is another process, and answers within milliseconds. A test whose node hides
behind a proxy on its own event loop must therefore talk to the node itself, never through the proxy.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_account import Account

__all__ = ["CHAIN_ID", "Anvil", "DevAccount", "NodeRefused", "dev_accounts", "find_anvil", "open_node", "send_signed"]

CHAIN_ID = 31_337
"""Anvil's own."""

INSTALLED = Path(__file__).parents[3] / "examples" / "ethereum"

INSTALL = f"npm install --no-save --ignore-scripts --no-audit --no-fund --prefix {INSTALLED}"

PATIENCE_S = 30.0
"""Seconds after which a start, a stop or an answer on a busy machine counts as failed."""

# below those the system gives to clients, so that nobody takes the port while the node restarts
_PORTS = (20_000, 32_000)

_MNEMONIC = "test test test test test test test test test test test junk"

_NODE_ACCOUNTS = 10


class NodeRefused(Exception):
    """The node answered with an error; `code` and `message` are its own."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        super().__init__(f"{method}: {error.get('message')} ({error.get('code')})")
        self.code = error.get("code")
        self.message = str(error.get("message"))


@dataclass(frozen=True, slots=True)
class DevAccount:
    """One of the node's accounts, whose keys everybody knows."""

    address: str
    """Lower-case hexadecimal."""
    key: str


@cache
def dev_accounts() -> tuple[DevAccount, ...]:
    """Return the accounts every anvil has: 10,000 ether each."""
    Account.enable_unaudited_hdwallet_features()
    made = (Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{n}") for n in range(_NODE_ACCOUNTS))
    return tuple(DevAccount(account.address.lower(), account.key.to_0x_hex()) for account in made)


def find_anvil() -> Path:
    """Return the program. Raises FileNotFoundError that says how to install it."""
    for path in sorted(INSTALLED.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*")):
        return path
    raise FileNotFoundError(f"there is no anvil under {INSTALLED / 'node_modules'}: run {INSTALL}")


class Anvil:
    """A node and its chain; get one from `open_node`, which also ends it.

    By default it mines a block for every transaction at once. With `automine=False` blocks are made by `mine` only.

    Attributes:
        url: where it serves JSON-RPC, the same in every life.
        accounts: whose keys it holds, and we too.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.accounts = dev_accounts()
        self.url = ""
        self._port = 0
        self._folder = folder
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._lives = 0

    def __repr__(self) -> str:
        state = "running" if self.running else "down"
        return f"<Anvil at {self.url or 'no port yet'}, {state}, life {self._lives}>"

    # its life

    @property
    def running(self) -> bool:
        """Tell whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, with the chain of its last life if that was ended by `stop`; return once it listens."""
        assert not self.running
        for _ in range(20):
            port = self._port or _free_port()
            if self._start_on(port):
                self._port = port
                self.url = f"http://127.0.0.1:{port}"
                return
            # somebody took the port since we looked
        raise RuntimeError(f"anvil did not start: {self.log.read_text()}")

    def stop(self) -> None:
        """End it as an operator does; it keeps its chain for the next `start`. Its pool is lost, as with any node."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at whatever it is doing. The next `start` begins with the chain as the last `stop` left it."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    @property
    def log(self) -> Path:
        """Return the file with what it printed in this life."""
        return self._folder / f"anvil-{self._lives}.log"

    def _start_on(self, port: int) -> bool:
        self._lives += 1
        command = [str(find_anvil()), "--port", str(port), "--state", str(self._folder / "chain.json")]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        # what it prints, not what answers on the port: that may be somebody else
        while f"Listening on 127.0.0.1:{port}" not in self.log.read_text():
            if self._process.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"anvil does not listen: {self.log.read_text()}"
            time.sleep(0.005)
        return True

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(PATIENCE_S)

    # asking it

    def rpc(self, method: str, *params: Any) -> Any:
        """Call a JSON-RPC method; return its result. Raises NodeRefused, or OSError if the node is down."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/", body, {"content-type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise NodeRefused(method, answer["error"])
        return answer["result"]

    @property
    def height(self) -> int:
        """Return the newest block's number."""
        return int(self.rpc("eth_blockNumber"), 16)

    def block(self, number: int | str = "latest", *, full: bool = False) -> dict[str, Any]:
        """Return a block, by number or tag; with its transactions' contents if `full`."""
        found: dict[str, Any] = self.rpc("eth_getBlockByNumber", _quantity(number), full)
        return found

    def balance(self, address: str, at: int | str = "latest") -> int:
        """Return the wei an address has."""
        return int(self.rpc("eth_getBalance", address, _quantity(at)), 16)

    def nonce(self, address: str, at: str = "latest") -> int:
        """Return how many transactions an address has made."""
        return int(self.rpc("eth_getTransactionCount", address, at), 16)

    def receipt(self, tx_hash: str) -> dict[str, Any] | None:
        """Return the receipt of a transaction that is in a block, or None."""
        found: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", tx_hash)
        return found

    def pool(self) -> list[str]:
        """Return the hashes of the transactions waiting for a block, whether or not their nonces have a gap."""
        content = self.rpc("txpool_content")
        waiting = [content[kind] for kind in ("pending", "queued")]
        return [tx["hash"] for senders in waiting for nonces in senders.values() for tx in nonces.values()]

    # making it do things

    def mine(self, blocks: int = 1) -> int:
        """Make blocks, the first of them with what waits in the pool; return the new height."""
        self.rpc("anvil_mine", hex(blocks))
        return self.height

    def set_automine(self, *, on: bool) -> None:
        """Make a block for every transaction at once, or only by `mine`."""
        self.rpc("evm_setAutomine", on)

    def reorganise(self, depth: int) -> None:
        """Replace the newest `depth` blocks by empty ones. Their transactions are gone, not back in the pool."""
        self.rpc("anvil_reorg", depth, [])

    def drop(self, tx_hash: str) -> None:
        """Forget a transaction that waits in the pool."""
        self.rpc("anvil_dropTransaction", tx_hash)

    def drop_all(self) -> None:
        """Forget everything that waits in the pool."""
        self.rpc("anvil_dropAllTransactions")

    def set_balance(self, address: str, wei: int) -> None:
        """Give an address exactly so much."""
        self.rpc("anvil_setBalance", address, hex(wei))

    def set_next_base_fee(self, wei: int) -> None:
        """Set what a unit of gas costs in the next block."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def snapshot(self) -> str:
        """Remember everything; `revert` goes back to it, once."""
        found: str = self.rpc("evm_snapshot")
        return found

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot, blocks and all."""
        assert self.rpc("evm_revert", snapshot), f"there is no snapshot {snapshot}"

    def send(
        self, source: str, *, to: str | None = None, value: int = 0, data: str = "0x", nonce: int | None = None
    ) -> str:
        """Have the node sign and send a transaction of one of its accounts, or of anybody; return the hash.

        An address whose key the node has not is impersonated, and needs a balance for the gas. Nobody signed such a
        transaction, so who checks blocks against their hashes takes none that has one (see `send_signed`).
        """
        transaction = {"from": source, "value": hex(value), "data": data}
        if to is not None:
            transaction["to"] = to
        if nonce is not None:
            transaction["nonce"] = hex(nonce)
        known = source.lower() in {account.address for account in self.accounts}
        if not known:
            self.rpc("anvil_impersonateAccount", source)
        try:
            sent: str = self.rpc("eth_sendTransaction", transaction)
        finally:
            if not known:
                self.rpc("anvil_stopImpersonatingAccount", source)
        return sent


def send_signed(node: Anvil, key: Any, *, to: str, value: int = 0, data: str = "0x") -> str:
    """Sign and send a transaction of any `SigningKey`, whose address needs a balance for the gas; return the hash."""
    transaction = {
        "type": 2,
        "chainId": CHAIN_ID,
        "nonce": node.nonce(key.address, "pending"),
        "to": bytes.fromhex(to[2:]),
        "value": value,
        "data": data,
        "gas": 200_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    }
    sent: str = node.rpc(
        "eth_sendRawTransaction", "0x" + key.account.sign_transaction(transaction).raw_transaction.hex()
    )
    return sent


@contextmanager
def open_node(*options: str, automine: bool = True, folder: Path | None = None) -> Iterator[Anvil]:
    """Run a node for the block; nothing of it is left afterwards.

    Args:
        options: more of anvil's own, such as "--slots-in-an-epoch", "1" (then `finalized` is two blocks below the
            newest), "--chain-id", "1" or "--block-time", "1".
        automine: make a block for every transaction at once; without, only `mine` makes blocks.
        folder: where its logs and its chain are kept; a temporary one by default.
    """
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anvil-")))
        node = Anvil(place, [*options, *([] if automine else ["--no-mining"])])
        try:
            node.start()
            yield node
        finally:
            if node.running:
                node.kill()


def _free_port() -> int:
    while True:
        port = random.randrange(*_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _quantity(number: int | str) -> str:
    return number if isinstance(number, str) else hex(number)

"""The contracts of `solidity/Contracts.sol`, compiled, and how to put them on a chain and call them.

    token = deploy_token(node, decimals=6, supply=10**12)
    token.transfer(owner, to=address, units=5_000_000)

The `.hex` files are what `solcjs` of npm's solc 0.8.37 makes, wrapped at 120 characters. To make them again, in a
folder of your own (S stands for the folder `solidity` beside this file):

    npm install solc@0.8.37
    node_modules/.bin/solcjs --bin --optimize --base-path S -o out S/Contracts.sol
    for name in Token Refuser Forwarder; do fold -w 120 out/*_$name.bin > S/$name.hex; echo >> S/$name.hex; done
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from tests.engines.ethereum.anvil import Anvil

__all__ = ["TRANSFER", "Forwarder", "Mood", "Refuser", "Token", "call_data", "deploy_token"]

SOLIDITY = Path(__file__).parent / "solidity"

TRANSFER = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
"""The first topic of every ERC-20 transfer's log."""

SUPPLY = 10**15


class Mood(IntEnum):
    """How a token behaves."""

    HONEST = 0
    REVERTING = 1
    SILENT = 2
    """A transfer succeeds, moves nothing and logs nothing."""
    CHARGING = 3
    """A transfer moves, and logs, one unit less than asked."""


@dataclass(frozen=True, slots=True)
class Token:
    """An ERC-20 token on a node. Every method that sends returns the transaction's hash."""

    node: Anvil
    address: str
    decimals: int

    def balance(self, address: str) -> int:
        """Return the units an address has."""
        data = call_data("balanceOf(address)", address)
        return int(self.node.rpc("eth_call", {"to": self.address, "data": data}, "latest"), 16)

    def transfer(self, source: str, *, to: str, units: int) -> str:
        """Have a source transfer units."""
        return self.node.send(source, to=self.address, data=call_data("transfer(address,uint256)", to, units))

    def transfer_twice(self, source: str, *, to: str, units: tuple[int, int]) -> str:
        """Have a source transfer twice in one transaction."""
        data = call_data("transferTwice(address,uint256,uint256)", to, *units)
        return self.node.send(source, to=self.address, data=data)

    def set_mood(self, mood: Mood) -> str:
        """Change how it behaves, from the next transfer in a block on."""
        owner = self.node.accounts[0].address
        return self.node.send(owner, to=self.address, data=call_data("setMood(uint8)", mood))


def deploy_token(node: Anvil, *, decimals: int = 6, supply: int = SUPPLY, owner: str | None = None) -> Token:
    """Put a token on the chain; its whole supply is the owner's, the node's first account by default."""
    owner = owner or node.accounts[0].address
    return Token(node, _deploy(node, "Token", decimals, supply, owner=owner), decimals)


@dataclass(frozen=True, slots=True)
class Refuser:
    """A contract that takes no ether, so that a payment to it is mined and fails, until it is told to."""

    node: Anvil
    address: str

    @classmethod
    def deploy(cls, node: Anvil) -> Refuser:
        """Put one on the chain."""
        return cls(node, _deploy(node, "Refuser", owner=node.accounts[0].address))

    def set_open(self, *, to: bool) -> str:
        """Have it take ether or not; taking it costs more than the 21,000 gas of a plain payment."""
        return self.node.send(self.node.accounts[0].address, to=self.address, data=call_data("setOpen(bool)", int(to)))


@dataclass(frozen=True, slots=True)
class Forwarder:
    """A contract that passes ether on, so that a payment is in no transaction's own recipient and value."""

    node: Anvil
    address: str

    @classmethod
    def deploy(cls, node: Anvil) -> Forwarder:
        """Put one on the chain."""
        return cls(node, _deploy(node, "Forwarder", owner=node.accounts[0].address))

    def forward(self, source: str, *, to: str, wei: int) -> str:
        """Have a source pay through it."""
        return self.node.send(source, to=self.address, value=wei, data=call_data("forward(address)", to))


def call_data(signature: str, *arguments: str | int) -> str:
    """Return the data of a call whose arguments are addresses (hexadecimal) and unsigned integers."""
    words = (argument if isinstance(argument, int) else int(argument, 16) for argument in arguments)
    return "0x" + function_signature_to_4byte_selector(signature).hex() + _encoded(words)


def _deploy(node: Anvil, name: str, *arguments: int, owner: str) -> str:
    """Put a contract on the chain, making a block if none is made by itself; return its address in lower case."""
    code = (SOLIDITY / f"{name}.hex").read_text().replace("\n", "")
    sent = node.send(owner, data=f"0x{code}{_encoded(arguments)}")
    if node.receipt(sent) is None:
        node.mine()
    receipt = node.receipt(sent)
    assert receipt is not None
    assert receipt["status"] == "0x1", f"{name} cannot be deployed: {receipt}"
    return str(receipt["contractAddress"]).lower()


def _encoded(words: Iterable[int]) -> str:
    return "".join(f"{word:064x}" for word in words)

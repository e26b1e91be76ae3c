"""The bytes of which a chain's hashes are made: of headers, transactions and receipts as a node tells them in JSON.

Sources: the Ethereum Yellow Paper, section 4.3 ("The Block") and appendices B and D; EIP-2718 (typed envelopes),
EIP-2930, EIP-1559, EIP-4844 and EIP-7702 (types 1 to 4); EIP-1559, 4895, 4844, 4788 and 7685 (fields of headers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from settlement_core.engines.ethereum.reading import address, data, quantity, word
from settlement_core.engines.ethereum.signatures import Signature, keccak

__all__ = ["EMPTY_ROOT", "Bloom", "Envelope", "encode_receipt", "header_hash", "root_of"]

EMPTY_ROOT = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
"""The root of an empty list."""

_HEADER = (
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty"),
    *("number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce"),
    # each of these came with a fork, and only after those before it
    *("baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"),
)

_COUNTED = frozenset(
    {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas"}
)

_OF_1559 = "chainId nonce maxPriorityFeePerGas maxFeePerGas gas to value input accessList"

_FIELDS = {
    0: ["nonce", "gasPrice", "gas", "to", "value", "input"],
    1: ["chainId", "nonce", "gasPrice", "gas", "to", "value", "input", "accessList"],
    2: _OF_1559.split(),
    3: f"{_OF_1559} maxFeePerBlobGas blobVersionedHashes".split(),
    4: f"{_OF_1559} authorizationList".split(),
}
"""What is signed of each type of transaction, in order."""

_LEGACY_V = (27, 28)
"""What `v` is in a legacy transaction that names no chain; else it is 35, twice the chain and the parity (EIP-155)."""

Item: TypeAlias = "bytes | list[Item]"
"""What RLP encodes."""


def _rlp(item: Item | Sequence[Item]) -> bytes:
    import rlp  # type: ignore[import-untyped] # noqa: PLC0415 - an extra

    return bytes(rlp.encode(item))


def _hash(content: bytes) -> str:
    return "0x" + keccak(content).hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _number(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def header_hash(said: Any) -> str:
    """Return the hash of a block's header as its other fields make it."""
    return _hash(
        _rlp(
            [
                _number(quantity(said[name])) if name in _COUNTED else _bytes(data(said[name]))
                for name in _HEADER
                if name in said
            ]
        )
    )


def root_of(items: Sequence[bytes]) -> str:
    """Return the root of the trie that holds a block's transactions or receipts, in their order."""
    from trie.hexary import HexaryTrie  # noqa: PLC0415 - an extra, slow to import

    trie = HexaryTrie({})
    for index, item in enumerate(items):
        trie[_rlp(_number(index))] = item
    return "0x" + bytes(trie.root_hash).hex()


class Envelope:
    """A signed transaction as bytes, rebuilt from what a node says of it. Raises ValueError for an unknown type."""

    def __init__(self, said: Any) -> None:
        self.type = quantity(said["type"]) if "type" in said else 0
        if self.type not in _FIELDS:
            raise ValueError(f"transactions of type {self.type} are not known here")
        self._signed: list[Item] = [_field(name, said[name]) for name in _FIELDS[self.type]]
        self._v = quantity(said["v"] if self.type == 0 else said.get("yParity", said.get("v")))
        self._r, self._s = quantity(said["r"]), quantity(said["s"])
        signature: list[Item] = [_number(self._v), _number(self._r), _number(self._s)]
        self.content = self._typed([*self._signed, *signature])
        self.tx_hash = _hash(self.content)

    def signer(self) -> str:
        """Return the address whose key signed it. Raises ValueError if none can have."""
        signed, parity = self._signed, self._v
        if self.type == 0 and self._v not in _LEGACY_V:
            chain_id, parity = divmod(self._v - 35, 2)
            signed = [*signed, _number(chain_id), b"", b""]
        elif self.type == 0:
            parity = self._v - _LEGACY_V[0]
        digest = keccak(self._typed(signed))
        return Signature(_LEGACY_V[0] + parity, self._r, self._s).signer(digest)

    def _typed(self, items: list[Item]) -> bytes:
        return (bytes([self.type]) if self.type else b"") + _rlp(items)


def _field(name: str, said: Any) -> Item:
    match name:
        case "to":
            return b"" if said is None else _bytes(address(said))
        case "input":
            return _bytes(data(said))
        case "accessList":
            return [[_bytes(address(one["address"])), _words(one["storageKeys"])] for one in said]
        case "blobVersionedHashes":
            return _words(said)
        case "authorizationList":
            return [_authorization(one) for one in said]
        case _:
            return _number(quantity(said))


def _words(said: Any) -> list[Item]:
    return [_bytes(word(one)) for one in said]


def _authorization(said: Any) -> list[Item]:
    after = [said["nonce"], said.get("yParity", said.get("v")), said["r"], said["s"]]
    return [
        _number(quantity(said["chainId"])),
        _bytes(address(said["address"])),
        *(_number(quantity(one)) for one in after),
    ]


def encode_receipt(said: Any) -> bytes:
    """Return a receipt as it stands in the trie of its block."""
    logs: list[Item] = [
        [_bytes(address(log["address"])), _words(log["topics"]), _bytes(data(log["data"]))] for log in said["logs"]
    ]
    kind = quantity(said["type"]) if "type" in said else 0
    if kind not in _FIELDS:
        raise ValueError(f"receipts of type {kind} are not known here")
    status, used = _number(quantity(said["status"])), _number(quantity(said["cumulativeGasUsed"]))
    return (bytes([kind]) if kind else b"") + _rlp([status, used, _bytes(data(said["logsBloom"])), logs])


class Bloom:
    """A header's or receipt's filter: what it does not hold is in no log below it."""

    def __init__(self, text: str) -> None:
        from eth_bloom.bloom import BloomFilter  # noqa: PLC0415 - an extra

        self._filter = BloomFilter(int(text, 16))

    @property
    def is_empty(self) -> bool:
        """Tell whether it holds nothing at all, as on chains that do not fill it."""
        return int(self._filter) == 0

    def may_hold(self, *texts: str) -> bool:
        """Tell whether logs below it may hold all of these addresses and topics."""
        return all(_bytes(text) in self._filter for text in texts)

    @classmethod
    def holds_exactly(cls, text: str, logs: Iterable[tuple[str, Sequence[str]]]) -> bool:
        """Tell whether it is the filter of just these logs, each an address and its topics."""
        from eth_bloom.bloom import BloomFilter  # noqa: PLC0415 - an extra

        items = [_bytes(part) for place, topics in logs for part in (place, *topics)]
        return int(BloomFilter.from_iterable(items)) == int(text, 16)

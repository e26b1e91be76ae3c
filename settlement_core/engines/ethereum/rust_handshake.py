"""The handshake of Interledger's Rust Ethereum engine, byte for byte, as values without I/O.

    1. asker -> peer   {"challenge":[…]}                                            36 bytes, which are a UUID's text
    2. peer -> asker   {"to":{…},"signature":{…},"challenge":[…]}                   the first challenge signed, another
    3. asker -> peer   {"to":{…},"signature":{…},"challenge":null}                  the second one signed
    4. peer -> asker   RECEIVED

A signature covers a fixed prefix and the challenge, and nothing else: neither who is to see it nor for which chain,
token or account it is made. So **it can be relayed**: somebody who peers with two engines can have one sign the
other's challenge, and pass for it. An engine that takes such a proof for account "mallory" credits mallory with what
the signer pays *it*, for whatever reason. Ours refuses an address that is known already in another account, which
leaves only those who come first; only `handshake`'s proofs, required on at least one of the two sides, end it.

What a peer says about itself is its address and its token. The token is only ever compared with our own: which asset
we settle is the operator's to say (FAULTS 14).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from settlement_core.engines.ethereum.signatures import Signature, keccak, parse_address

if TYPE_CHECKING:
    from settlement_core.engines.ethereum.config import SigningKey

__all__ = [
    "MAX_CHALLENGE",
    "RECEIVED",
    "RustAnswer",
    "new_challenge",
    "read_challenge",
    "rust_request",
    "sign_challenge",
]

RECEIVED = "RECEIVED"
"""What the last message is answered with."""

MAX_CHALLENGE = 256
"""Bytes of a challenge we sign; the Rust engine's have 36."""

_PREFIX = b"ilp-ethl-create-account-message"
"""No transaction and no message of EIP-191 or EIP-712 begins like this, so nobody gets one of those signed by it."""


def new_challenge() -> bytes:
    """Return a challenge as the Rust engine makes them: the text of a random UUID."""
    return str(uuid.uuid4()).encode()


def rust_request(challenge: bytes) -> dict[str, Any]:
    """Return the first message."""
    return {"challenge": list(challenge)}


def read_challenge(message: Any) -> bytes | None:
    """Return the challenge of a message that has one, or None.

    Whatever has a challenge is a request, even if it looks like the third message otherwise: the Rust engine tries
    that first. Raises ValueError for one that is no challenge.
    """
    if not isinstance(message, dict) or message.get("challenge") is None:
        return None
    return _bytes(message["challenge"], "challenge", longest=MAX_CHALLENGE)


def sign_challenge(key: SigningKey, token: str | None, challenge: bytes, *, ask: bytes | None) -> dict[str, Any]:
    """Return the second message, which asks back by a challenge, or the third, which does not."""
    signature = Signature.by(key, _digest(challenge))
    return {
        "to": {"own_address": key.address, "token_address": token},
        "signature": {name: _numbers(getattr(signature, name)) for name in ("v", "r", "s")},
        "challenge": None if ask is None else list(ask),
    }


@dataclass(frozen=True, slots=True)
class RustAnswer:
    """A second or third message, read: who the peer says it is, and its signature; `challenge` is only in the second.

    Addresses are in lower case; `token` is None for ether.
    """

    address: str
    token: str | None
    signature: Signature
    challenge: bytes | None

    @classmethod
    def read(cls, message: Any) -> RustAnswer:
        """Return what a message says, unverified. Raises ValueError with one sentence."""
        match message:
            case {"to": {"own_address": address, **to}, "signature": {"v": v, "r": r, "s": s}}:
                pass
            case _:
                raise ValueError("it is no answer to a challenge, with addresses and a signature")
        token = to.get("token_address")
        return cls(
            address=parse_address(address, "own_address"),
            token=None if token is None else parse_address(token, "token_address"),
            signature=Signature(_integer(v, "v"), _integer(r, "r"), _integer(s, "s")),
            challenge=read_challenge(message),
        )

    def check(self, challenge: bytes) -> None:
        """Raise ValueError unless the address it names has signed the challenge."""
        signer = self.signature.signer(_digest(challenge))
        if signer != self.address:
            raise ValueError(f"the challenge was signed by {signer}, not by the {self.address} it names")


def _digest(challenge: bytes) -> bytes:
    # without EIP-191's prefix
    return keccak(_PREFIX + challenge)


def _numbers(value: int) -> list[int]:
    """Return an integer's bytes without leading zeros."""
    return list(value.to_bytes((value.bit_length() + 7) // 8))


def _integer(value: object, what: str) -> int:
    # padded ones are taken as well
    return int.from_bytes(_bytes(value, f"signature's {what}", longest=32))


def _bytes(value: object, what: str, *, longest: int) -> bytes:
    if not isinstance(value, list) or not 0 < len(value) <= longest:
        raise ValueError(f"its {what} is not an array of 1 to {longest} bytes")
    # not isinstance: to Python, true is a number
    if not all(type(item) is int and 0 <= item <= 255 for item in value):
        raise ValueError(f"its {what} holds something that is not a byte")
    return bytes(value)

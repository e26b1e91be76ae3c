"""Signatures over 32-byte digests, by our key and by those of peers: made, taken apart, and checked in every part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from eth_typing import Hash32

    from settlement_core.engines.ethereum.config import SigningKey

__all__ = ["Signature", "keccak", "parse_address"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")

_WORD = 32
"""Bytes of `r`, of `s` and of every integer of the chain."""

_RECOVERY = (27, 28)
"""What `v` may be: the parity of the curve point, as Ethereum counts it outside of transactions."""


@dataclass(frozen=True, slots=True)
class Signature:
    """An ECDSA signature on secp256k1 whose signer can be recovered from it.

    Both forms of the same signature (`s` and the curve's order minus `s`) are taken: nothing here is told apart by
    its signature, so that it can be written in two ways is of no use to anybody.
    """

    v: int
    r: int
    s: int

    @classmethod
    def by(cls, key: SigningKey, digest: bytes) -> Signature:
        """Sign a digest; the same key and digest give the same signature (RFC 6979)."""
        signed = key.account.unsafe_sign_hash(cast("Hash32", digest))
        return cls(signed.v, signed.r, signed.s)

    @classmethod
    def from_hex(cls, text: object) -> Signature:
        """Return the signature written as `to_hex` does. Raises ValueError."""
        if not isinstance(text, str) or not re.fullmatch(r"0x[0-9a-f]{130}", text):
            raise ValueError("the signature is not 65 bytes in lower-case hexadecimal")
        content = bytes.fromhex(text[2:])
        return cls(content[64], int.from_bytes(content[:_WORD]), int.from_bytes(content[_WORD:64]))

    def to_hex(self) -> str:
        """Return `r`, `s` and `v` in 65 bytes."""
        return f"0x{self.r:064x}{self.s:064x}{self.v:02x}"

    def signer(self, digest: bytes) -> str:
        """Return the address whose key signed the digest, in lower case. Raises ValueError if none can have."""
        from eth_keys.datatypes import Signature as Recoverable  # noqa: PLC0415 - an extra, slow to import
        from eth_keys.exceptions import BadSignature  # noqa: PLC0415
        from eth_utils.exceptions import ValidationError  # noqa: PLC0415

        if self.v not in _RECOVERY:
            raise ValueError(f"the signature's v is {self.v}, not 27 or 28")
        try:
            recovered = Recoverable(vrs=(self.v - _RECOVERY[0], self.r, self.s))
            return str(recovered.recover_public_key_from_msg_hash(digest).to_address())
        except (BadSignature, ValidationError) as problem:
            raise ValueError(f"the signature cannot be anybody's: {problem}") from None


def keccak(content: bytes) -> bytes:
    """Return the Keccak-256 digest, which is not the SHA3-256 of the standard library."""
    from eth_utils.crypto import keccak as digest  # noqa: PLC0415 - an extra, slow to import

    return digest(content)


def parse_address(text: object, what: str) -> str:
    """Return an address in lower case; `what` names it in the ValueError raised if it is none."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise ValueError(f"its {what} is not 0x and 40 hexadecimal digits")
    return text.lower()

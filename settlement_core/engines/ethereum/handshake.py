"""Our handshake between two Ethereum engines, as values without I/O: proofs that are of no use to anybody else.

    1. asker -> peer   hello     who I am, where the account is called what, my challenge
    2. peer -> asker   welcome   the same of me, and my signature for your challenge
    3. asker -> peer   proof     the same again, and my signature for yours
    4. peer -> asker   bound     I pay you, and credit you, at that address from now on
    or, instead of 2 or 4, refused, with a reason: connectors forward no HTTP error's body, so it is an answer

Each is a JSON object with `"type": "ethereumPeer"` and the `step` above. A challenge is 32 random bytes and the time
they expire at, on the clock of who made them and judges them. A signature is over the typed data (EIP-712) of `Proof`:
chain, token, step, and of both sides the address, the name of the account and the challenge's bytes.

**Why it cannot be relayed to steal.** Mallory, who peers with Alice and with Bob, can carry messages between them, and
it is no use to her. A proof is only good for the verifier's address, account and challenge that it names. Alice signs
step 3 only after she has, durably, bound the address it names to the account it came from, and an address is bound to
one account at most. So if Bob binds Alice's address to his account "mallory" because of her proof, then Alice has
Bob's address in *her* account "mallory", and in no other. She pays Bob only what she owes Mallory; that is what Bob
credits Mallory with. When Alice and Bob then want to be peers themselves, each refuses the other's address as
another account's: loudly, before anything is paid, and for the operator to clear up.

That holds as long as nothing is forgotten. Where an account is closed, and its peer's address free again, every
handshake under way has to begin again, since its proofs may have been made before.

For the same reason step 3, where everything is bound, cannot be replaced by a signature of step 2, which its maker
gives to a peer that has proven nothing yet: `step` is in what is signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from settlement_core.engines.ethereum.signatures import Signature, keccak, parse_address
from settlement_core.values.errors import InvalidIdentifier
from settlement_core.values.identifiers import check_account_id

if TYPE_CHECKING:
    from settlement_core.engines.ethereum.config import SigningKey

__all__ = ["BOUND", "Asset", "Challenge", "Introduction", "Proof", "Side", "refusal", "refused_because", "step_of"]

_TYPE = "ethereumPeer"
_VERSION = 1

_MAX_REASON = 300
"""Characters of a peer's reason that we repeat."""

_NO_TOKEN = "0x" + "00" * 20

# EIP-712; the chain is in the domain, as everywhere
_FIELDS = {
    "token": "address",
    "step": "uint8",
    "signer": "address",
    "signerAccount": "string",
    "signerNonce": "bytes32",
    "verifier": "address",
    "verifierAccount": "string",
    "verifierNonce": "bytes32",
    "expires": "uint64",
}

BOUND = {"type": _TYPE, "step": "bound"}
"""The fourth message."""


@dataclass(frozen=True, slots=True)
class Asset:
    """What is settled, and where: the operator's choice, and for a peer only to agree with. No token is ether."""

    chain_id: int
    token: str | None

    def __str__(self) -> str:
        return f"{f'token {self.token}' if self.token else 'ether'} on chain {self.chain_id}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a verifier wants to see signed, once and before it `expires` (seconds since 1970, by its own clock)."""

    nonce: str
    expires: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two who meet: its address, and what it calls its account with the other."""

    address: str
    account_id: str


@dataclass(frozen=True, slots=True)
class Introduction:
    """A hello, welcome or proof: who sends it, about which asset, with its challenge; a hello is not signed."""

    step: str
    asset: Asset
    sender: Side
    challenge: Challenge
    signature: Signature | None = None

    STEPS: ClassVar[tuple[str, ...]] = ("hello", "welcome", "proof")

    def to_json(self) -> dict[str, Any]:
        """Return the message."""
        message = {
            "type": _TYPE,
            "step": self.step,
            "version": _VERSION,
            "chain_id": self.asset.chain_id,
            "token": self.asset.token,
            "address": self.sender.address,
            "account": self.sender.account_id,
            "nonce": self.challenge.nonce,
            "expires": self.challenge.expires,
        }
        return message if self.signature is None else message | {"signature": self.signature.to_hex()}

    @classmethod
    def read(cls, message: Any) -> Introduction:
        """Return what a message says, unverified. Raises ValueError with one sentence."""
        step = step_of(message)
        if step not in cls.STEPS:
            raise ValueError(f"it has no step of {', '.join(cls.STEPS)}")
        if message.get("version") != _VERSION:
            raise ValueError(f"its version is not {_VERSION}, the only one known here")
        token, nonce = message.get("token"), message.get("nonce")
        if not isinstance(nonce, str) or not re.fullmatch(r"0x[0-9a-f]{64}", nonce):
            raise ValueError("its nonce is not 32 bytes in lower-case hexadecimal")
        try:
            account_id = check_account_id(message.get("account"))
        except InvalidIdentifier as problem:
            raise ValueError(str(problem)) from None
        return cls(
            step=step,
            asset=Asset(
                chain_id=_number(message.get("chain_id"), "chain_id"),
                token=None if token is None else parse_address(token, "token"),
            ),
            sender=Side(address=parse_address(message.get("address"), "address"), account_id=account_id),
            challenge=Challenge(nonce, _number(message.get("expires"), "expires")),
            signature=None if step == "hello" else Signature.from_hex(message.get("signature")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is signed: that `signer` meets `verifier` about an asset, and answers its challenge."""

    asset: Asset
    step: str
    signer: Side
    signer_nonce: str
    verifier: Side
    challenge: Challenge

    def sign(self, key: SigningKey) -> Signature:
        """Return the signer's signature."""
        return Signature.by(key, self._digest())

    def check(self, signature: Signature) -> None:
        """Raise ValueError unless the signer has signed exactly this."""
        found = signature.signer(self._digest())
        if found != self.signer.address:
            raise ValueError("its signature is not that of its address, or was made for somebody or something else")

    def _digest(self) -> bytes:
        from eth_account.messages import encode_typed_data  # noqa: PLC0415 - an extra, slow to import

        signable = encode_typed_data(
            domain_data={"name": "settlement-core peers", "version": str(_VERSION), "chainId": self.asset.chain_id},
            message_types={"Proof": [{"name": name, "type": kind} for name, kind in _FIELDS.items()]},
            message_data={
                "token": self.asset.token or _NO_TOKEN,
                "step": Introduction.STEPS.index(self.step) + 1,
                "signer": self.signer.address,
                "signerAccount": self.signer.account_id,
                "signerNonce": self.signer_nonce,
                "verifier": self.verifier.address,
                "verifierAccount": self.verifier.account_id,
                "verifierNonce": self.challenge.nonce,
                "expires": self.challenge.expires,
            },
        )
        return keccak(b"\x19" + signable.version + signable.header + signable.body)


def step_of(message: Any) -> str:
    """Return the step of a message of this handshake, "" for any other message."""
    if not isinstance(message, dict) or message.get("type") != _TYPE:
        return ""
    return str(message.get("step"))


def refusal(reason: str) -> dict[str, str]:
    """Return the answer that ends a handshake, of either kind."""
    return {"type": _TYPE, "step": "refused", "reason": reason}


def refused_because(message: Any) -> str | None:
    """Return the reason, fit to be printed, if a message is such an answer."""
    if step_of(message) != "refused":
        return None
    text = f"{message.get('reason')}"[:_MAX_REASON]
    return "".join(character if character.isprintable() else "?" for character in text)


def _number(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"its {what} is not a whole number")
    return value

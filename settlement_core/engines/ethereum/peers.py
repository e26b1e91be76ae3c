"""Which address belongs to which peer: found out by a handshake, kept durably, and changed by nobody but the operator.

An address is bound to one account at most, and an account to one address. We pay an address only once its owner is
known to have bound ours (`address_of`), so that it can tell whose payment it is, and from then on nothing the peer says
changes the binding. We credit what comes from an address as soon as the peer has proven to own it (`account_of`).

Our own handshake (`handshake`) is tried first. A peer that does not know it gets that of the Rust engine
(`rust_handshake`), unless `require_strong_handshake` is set: its proofs can be relayed. To have an account bound to
another address, delete it and create it again (`DELETE /accounts/:id`, `POST /accounts`): once it owes nothing more,
the address is forgotten and may be bound anew, to whichever account.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import anyio

from settlement_core.abc import AccountServices
from settlement_core.engines.ethereum.config import SigningKey
from settlement_core.engines.ethereum.handshake import (
    BOUND,
    Asset,
    Challenge,
    Introduction,
    Proof,
    Side,
    refusal,
    refused_because,
    step_of,
)
from settlement_core.engines.ethereum.message_limits import MessageLimits
from settlement_core.engines.ethereum.rust_handshake import (
    RECEIVED,
    RustAnswer,
    new_challenge,
    read_challenge,
    rust_request,
    sign_challenge,
)
from settlement_core.values.errors import ConnectorError, RemoteError

__all__ = ["CHALLENGE_S", "PeerError", "Peers"]

CHALLENGE_S = 120
"""Seconds that a peer has to answer a challenge; connectors carry a message for a minute at most."""

# What is kept under an account …
_BINDING = "ethereum-peer"
# … and for the engine
_ACCOUNT_OF = "ethereum-account-of:"

_log = logging.getLogger(__name__)


class PeerError(RemoteError):
    """The handshake with a peer has not ended well; nothing is paid to it, and it is tried again later."""

    def __init__(self, account_id: str, problem: str) -> None:
        super().__init__(f"the handshake with the peer of account {account_id!r} failed: {problem}; it is not paid yet")
        self.account_id = account_id
        self.problem = problem


class _Refused(Exception):
    """What a peer says is not taken; the reason is told to it and, with the account, to the operator."""


@dataclass(frozen=True, slots=True)
class _Binding:
    """An account's peer: its address, whether proven by our handshake, and whether it is known to have bound ours."""

    address: str
    strong: bool
    confirmed: bool

    def to_json(self) -> dict[str, Any]:
        return {"address": self.address, "strong": self.strong, "confirmed": self.confirmed}


class Peers:
    """The peers of one engine. Everything durable is kept through the core's services, never here.

    Only one process at a time may run the engine of a key: nothing else keeps two accounts from being bound to one
    address at the same instant.
    """

    def __init__(
        self,
        services: AccountServices,
        key: SigningKey,
        *,
        chain_id: int,
        token: str | None,
        require_strong_handshake: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._services = services
        self._key = key
        self._asset = Asset(chain_id, token)
        self._require_strong = require_strong_handshake
        # a wall clock that is set must neither end a challenge early nor let it live on
        self._now = now or _steady_clock()
        self._limits = MessageLimits(self._now)
        # Held while bindings are looked at and changed, never while a peer is asked: it may be asking us.
        self._lock = anyio.Lock()
        # Those the peer of an account has to answer: of our handshake, and of the Rust engine's. They end with us.
        self._challenges: dict[str, Challenge] = {}
        self._rust_challenges: dict[str, Challenge] = {}
        self._closings = 0

    def __repr__(self) -> str:
        demanded = ", strong handshake required" if self._require_strong else ""
        return f"<Peers of {self._key.address} for {self._asset}{demanded}>"

    async def address_of(self, account_id: str) -> str | None:
        """Return where to pay the peer, in lower case; None until the handshake is finished, which `set_up` does."""
        binding = await self._binding(account_id)
        return binding.address if binding is not None and binding.confirmed else None

    async def account_of(self, address: str) -> str | None:
        """Return the account whose peer has proven to own an address (in any case), or None."""
        address = address.lower()
        account_id: str | None = await self._services.load(_ACCOUNT_OF + address)
        if account_id is None:
            return None
        # Two things are saved for a binding, and a crash may come in between: it holds if they agree.
        binding = await self._binding(account_id)
        return account_id if binding is not None and binding.address == address else None

    async def close(self, account_id: str) -> None:
        """Forget the peer. What its address still pays is unattributed from now on, until it is bound again."""
        async with self._lock:
            # The address is free from now on. A proof of it made while it was not may be on its way, by way of
            # another account, whose owner kept it for this moment: every handshake has to begin again.
            self._closings += 1
            self._challenges.clear()
            self._rust_challenges.clear()
            binding = await self._binding(account_id)
            await self._services.save(_BINDING, None, account_id)
            if binding is not None and await self._services.load(_ACCOUNT_OF + binding.address) == account_id:
                await self._services.save(_ACCOUNT_OF + binding.address, None)

    # we ask

    async def set_up(self, account_id: str) -> None:
        """Return once each side has the other's address. Raises PeerError or ConnectorError until then."""
        binding = await self._binding(account_id)
        if binding is not None and binding.confirmed:
            return
        try:
            if await self._ask(account_id):
                return
            if self._require_strong:
                raise _Refused("its engine does not answer our handshake, and only that is good enough here")
            await self._ask_as_rust(account_id)
        except (_Refused, ValueError) as problem:
            raise PeerError(account_id, str(problem)) from None

    async def _ask(self, account_id: str) -> bool:
        """Go through our handshake; False if the peer does not answer it, or not now."""
        us, closings = Side(self._key.address, account_id), self._closings
        challenge = self._new_challenge(f"0x{secrets.token_hex(32)}")
        hello = Introduction("hello", self._asset, us, challenge)
        try:
            answer = await self._services.send_message(account_id, hello.to_json())
        except ConnectorError:
            # no connector forwards what an engine says that does not know such a message
            return False
        if not step_of(answer):
            return False
        self._raise_refusal(answer)
        welcome = _expect(Introduction.read(answer), "welcome")
        self._check_asset(welcome.asset)
        self._check_proof(welcome, verifier=us, challenge=challenge)
        # Before our own signature leaves: with it, the peer may bind us (see `handshake`).
        await self._bind(account_id, _Binding(welcome.sender.address, strong=True, confirmed=False), closings)
        proof = self._signed("proof", us, nonce=challenge, verifier=welcome.sender, challenge=welcome.challenge)
        answer = await self._services.send_message(account_id, proof.to_json())
        self._raise_refusal(answer)
        if answer != BOUND:
            raise _Refused(f"its last answer was {answer!r:.200}")
        await self._bind(account_id, _Binding(welcome.sender.address, strong=True, confirmed=True), closings)
        return True

    async def _ask_as_rust(self, account_id: str) -> None:
        """Go through the Rust engine's handshake, unless the peer turns out to know ours after all."""
        challenge, closings = new_challenge(), self._closings
        answer = await self._services.send_message(account_id, rust_request(challenge))
        self._raise_refusal(answer)
        peer = RustAnswer.read(answer)
        if peer.challenge is None:
            raise _Refused("its answer to our challenge holds none of its own")
        # It was only away when we asked first: the weaker proof is not for those who have a better one.
        if await self._ask(account_id):
            return
        self._check_rust_answer(peer, challenge)
        await self._bind(account_id, _Binding(peer.address, strong=False, confirmed=False), closings)
        last = sign_challenge(self._key, self._asset.token, peer.challenge, ask=None)
        self._raise_refusal(await self._services.send_message(account_id, last))
        await self._bind(account_id, _Binding(peer.address, strong=False, confirmed=True), closings)

    # we are asked

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer the peer's engine; a repeated message gets the same answer, or one that changes nothing.

        What cannot be taken is answered with a refusal, since connectors do not forward errors. So are messages beyond
        the account's rate limit: they are not read, and change nothing.
        """
        try:
            wait_s = self._limits.wait_s(account_id)
            if wait_s:
                raise _Refused(f"too many messages came from this account, the next is read in {wait_s:.1f} s")
            async with self._lock:
                return await self._answer(account_id, message)
        except (_Refused, ValueError) as problem:
            note = self._limits.log_note(account_id, "refused")
            if note is not None:
                _log.warning("account %s: refused its peer's handshake: %s%s", account_id, problem, note)
            return refusal(str(problem))

    async def _answer(self, account_id: str, message: Any) -> Any:
        if step_of(message):
            introduction = Introduction.read(message)
            if introduction.step == "hello":
                return await self._welcome(account_id, introduction)
            return await self._take_proof(account_id, _expect(introduction, "proof"))
        if self._require_strong:
            raise _Refused("this engine requires a handshake whose proofs cannot be relayed (type ethereumPeer)")
        binding = await self._binding(account_id)
        if binding is not None and binding.confirmed and binding.strong:
            raise _Refused("this account's peer is known by a stronger handshake (type ethereumPeer)")
        challenge = read_challenge(message)
        if challenge is not None:
            ours = self._outstanding(self._rust_challenges, account_id, new_challenge().decode())
            return sign_challenge(self._key, self._asset.token, challenge, ask=ours.nonce.encode())
        return await self._take_rust_answer(account_id, RustAnswer.read(message), binding)

    async def _welcome(self, account_id: str, hello: Introduction) -> dict[str, Any]:
        self._check_asset(hello.asset)
        await self._check_free(account_id, hello.sender.address)
        ours = self._outstanding(self._challenges, account_id, f"0x{secrets.token_hex(32)}")
        us = Side(self._key.address, account_id)
        return self._signed("welcome", us, nonce=ours, verifier=hello.sender, challenge=hello.challenge).to_json()

    async def _take_proof(self, account_id: str, proof: Introduction) -> dict[str, str]:
        self._check_asset(proof.asset)
        binding = await self._binding(account_id)
        ours = self._challenges.get(account_id)
        proven = _Binding(proof.sender.address, strong=True, confirmed=True)
        if ours is None and binding == proven:
            return BOUND  # said again
        if ours is None:
            raise _Refused("no challenge of ours is waiting for a proof, begin again")
        self._check_proof(proof, verifier=Side(self._key.address, account_id), challenge=ours)
        await self._bind_locked(account_id, proven)
        del self._challenges[account_id]
        # payments may be waiting for it
        self._services.try_settlement(account_id)
        return BOUND

    async def _take_rust_answer(self, account_id: str, answer: RustAnswer, binding: _Binding | None) -> str:
        ours = self._rust_challenges.get(account_id)
        if ours is None:
            if binding is not None and binding.address == answer.address:
                return RECEIVED  # said again
            raise _Refused("no challenge of ours is waiting for an answer, begin again")
        self._check_time(ours)
        self._check_rust_answer(answer, ours.nonce.encode())
        # It has our address, but may not have kept it: paying waits until it has answered a challenge of `set_up`.
        confirmed = binding is not None and binding.confirmed
        await self._bind_locked(account_id, _Binding(answer.address, strong=False, confirmed=confirmed))
        del self._rust_challenges[account_id]
        self._services.try_settlement(account_id)
        return RECEIVED

    # what both need

    def _signed(self, step: str, us: Side, *, nonce: Challenge, verifier: Side, challenge: Challenge) -> Introduction:
        proof = Proof(
            asset=self._asset,
            step=step,
            signer=us,
            signer_nonce=nonce.nonce,
            verifier=verifier,
            challenge=challenge,
        )
        return Introduction(step, self._asset, us, nonce, proof.sign(self._key))

    def _check_proof(self, said: Introduction, *, verifier: Side, challenge: Challenge) -> None:
        self._check_time(challenge)
        assert said.signature is not None
        Proof(
            asset=self._asset,
            step=said.step,
            signer=said.sender,
            signer_nonce=said.challenge.nonce,
            verifier=verifier,
            challenge=challenge,
        ).check(said.signature)

    def _check_rust_answer(self, answer: RustAnswer, challenge: bytes) -> None:
        self._check_asset(Asset(self._asset.chain_id, answer.token))
        answer.check(challenge)

    def _check_asset(self, theirs: Asset) -> None:
        if theirs != self._asset:
            raise _Refused(f"one side settles {theirs}, the other {self._asset}")

    def _raise_refusal(self, answer: Any) -> None:
        reason = refused_because(answer)
        if reason is not None:
            raise _Refused(f"it refuses: {reason}")

    # what is kept

    async def _bind(self, account_id: str, binding: _Binding, closings: int) -> None:
        """Bind because of a handshake that began after so many closings."""
        async with self._lock:
            if closings != self._closings:
                raise _Refused("an account was closed meanwhile, begin again")
            await self._bind_locked(account_id, binding)

    async def _bind_locked(self, account_id: str, binding: _Binding) -> None:
        """Bind, or learn more of a binding. Raises _Refused where the account or the address is bound for good."""
        known = await self._check_free(account_id, binding.address)
        if known is not None and known.address == binding.address:
            binding = replace(
                binding, strong=binding.strong or known.strong, confirmed=binding.confirmed or known.confirmed
            )
        if binding == known:
            return
        # first, so that no other account can be bound to it while this one is
        await self._services.save(_ACCOUNT_OF + binding.address, account_id)
        await self._services.save(_BINDING, binding.to_json(), account_id)

    async def _check_free(self, account_id: str, address: str) -> _Binding | None:
        """Return the account's binding; raise _Refused unless the address may be its peer's."""
        if address == self._key.address:
            raise _Refused(f"{address} is the address of both sides")
        binding = await self._binding(account_id)
        if binding is not None and binding.confirmed and binding.address != address:
            raise _Refused(
                f"the peer of this account is {binding.address}, and now says {address}: for it to change, "
                "the account has to be deleted and created again"
            )
        other = await self.account_of(address)
        if other not in {None, account_id}:
            note = self._limits.log_note(account_id, "address of another")
            if note is not None:
                _log.error(
                    "account %s: its peer's address %s is that of account %s%s", account_id, address, other, note
                )
            raise _Refused(f"the address {address} is known in another account")
        return binding

    async def _binding(self, account_id: str) -> _Binding | None:
        saved = await self._services.load(_BINDING, account_id)
        return None if saved is None else _Binding(**saved)

    # challenges

    def _new_challenge(self, nonce: str) -> Challenge:
        return Challenge(nonce, int(self._now()) + CHALLENGE_S)

    def _outstanding(self, challenges: dict[str, Challenge], account_id: str, nonce: str) -> Challenge:
        """Return the challenge that the peer has to answer, a new one unless it is fresh: messages are repeated."""
        challenge = challenges.get(account_id)
        if challenge is None or challenge.expires < self._now() + CHALLENGE_S / 2:
            challenge = challenges[account_id] = self._new_challenge(nonce)
        return challenge

    def _check_time(self, challenge: Challenge) -> None:
        if challenge.expires < self._now():
            raise _Refused("our challenge has expired, begin again")


def _steady_clock() -> Callable[[], float]:
    """Return a clock that begins with the wall clock and goes on by the system's."""
    ahead_s = time.time() - time.monotonic()
    return lambda: ahead_s + time.monotonic()


def _expect(introduction: Introduction, step: str) -> Introduction:
    if introduction.step != step:
        raise _Refused(f"it said {introduction.step} where a {step} was due")
    return introduction

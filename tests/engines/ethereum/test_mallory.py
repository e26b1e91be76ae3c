"""Mallory, a peer of both alice and bob, relays, replays and makes up: she is credited with nothing but her own.

Both have her in an account "mallory". The first tests are attacks, written out; the last lets her do anything.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settlement_core.engines.ethereum.peers import PeerError
from settlement_core.engines.ethereum.rust_handshake import RECEIVED, rust_request
from settlement_core.testing.clocks import virtual_backend
from settlement_core.values.errors import ConnectorError
from tests.engines.ethereum.world import Somebody, join, known, open_pair, overhear, refused, steps

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Return a loop with a jumping clock: there is no node here."""
    return virtual_backend(request.param)


def open_triangle(**facts: Any) -> tuple[Somebody, Somebody, Somebody]:
    """Return alice and bob, who are peers, and mallory, who is the peer of both."""
    alice, bob = open_pair(**facts)
    mallory = Somebody(2)
    join(alice, "mallory", mallory, "alice")
    join(bob, "mallory", mallory, "bob")
    return alice, bob, mallory


async def relay_rust_proof(bob: Somebody, alice: Somebody) -> Any:
    """Be mallory: have alice sign bob's challenge as though it were one's own, and show it to bob."""
    to_alice, to_bob = alice.listens("mallory"), bob.listens("mallory")
    from_bob = await to_bob(rust_request(b"m" * 36))
    if "challenge" not in from_bob:
        return from_bob
    signed = await to_alice({"challenge": from_bob["challenge"]})
    return await to_bob(signed | {"challenge": None})


async def test_the_weaker_handshakes_proofs_can_be_relayed() -> None:
    """The fault itself: bob takes alice's address for mallory's, and would credit mallory with what alice pays.

    All that is left to ours is not to pay: alice never finishes with a bob who has given her address away, so no money
    moves. A Rust engine in her place would pay.
    """
    alice, bob, _ = open_triangle()
    assert await relay_rust_proof(bob, alice) == RECEIVED
    assert await bob.peers.account_of(alice.address) == "mallory"
    with pytest.raises(PeerError, match=f"it refuses: the address {alice.address} is known in another account"):
        await alice.peers.set_up("bob")
    assert await alice.peers.address_of("bob") is None
    assert await bob.peers.address_of("alice") is None


@pytest.mark.parametrize("careful", ["alice", "bob"])
async def test_it_is_enough_that_one_side_requires_the_stronger_one(careful: str) -> None:
    """Either alice signs nothing for mallory to relay, or bob does not take it; alice and bob become peers."""
    alice, bob, _ = open_triangle()
    somebody = {"alice": alice, "bob": bob}[careful]
    somebody.require_strong = True
    somebody.restart()
    answer = await relay_rust_proof(bob, alice)
    assert answer["step"] == "refused"
    await alice.peers.set_up("bob")
    assert await known(bob, "alice") == (alice.address, True)


async def test_a_proof_relayed_after_the_real_one_is_refused() -> None:
    """The address is alice's by then."""
    alice, bob, _ = open_triangle()
    await alice.peers.set_up("bob")
    answer = await relay_rust_proof(bob, alice)
    assert answer["reason"] == f"the address {alice.address} is known in another account"
    assert await known(bob, "alice") == (alice.address, True)


async def test_our_proofs_are_of_no_use_to_anybody_else() -> None:
    """Mallory shows bob the proof that alice made for mallory: it names another verifier and another challenge."""
    alice, bob, mallory = open_triangle(require_strong=True)
    said = overhear(alice, "mallory")
    await alice.peers.set_up("mallory")
    assert steps(said) == ["hello", "proof"]
    to_bob = bob.listens("mallory")
    welcome = await to_bob(said[0])
    assert welcome["step"] == "welcome"
    for proof in (said[1], said[1] | {"nonce": said[0]["nonce"]}, said[1] | {"nonce": welcome["nonce"]}):
        answer = await to_bob(proof)
        assert answer["reason"].startswith("its signature is not that of its address, or was made for somebody")
    assert await bob.peers.account_of(alice.address) is None
    await alice.peers.set_up("bob")
    assert await known(bob, "alice") == (alice.address, True)
    assert await known(alice, "mallory") == (mallory.address, True)


async def test_who_only_carries_our_messages_is_credited_with_nothing_but_its_own() -> None:
    """Mallory passes every message on. Bob has alice in account "mallory", but she has bob there too.

    What she pays bob is what she owes mallory; and as herself she never pays a bob whom she knows as mallory.
    """
    alice, bob, _ = open_triangle(require_strong=True)
    alice.services.channels["mallory"] = bob.listens("mallory")
    await alice.peers.set_up("mallory")
    assert await known(bob, "mallory") == (alice.address, True)
    assert await known(alice, "mallory") == (bob.address, True)
    for somebody, account_id in ((alice, "bob"), (bob, "alice")):
        await refused(somebody, account_id, "known in another account")


async def test_who_is_forgotten_cannot_be_passed_off_by_an_old_friend() -> None:
    """Bob deletes his account with alice, while she may still pay him: mallory cannot have her address now.

    Alice signs nothing for mallory that names bob, whom she has in another account; and what she signed before bob's
    account was closed is of no use after.
    """
    alice, bob, _ = open_triangle(require_strong=True)
    to_alice, to_bob = alice.listens("mallory"), bob.listens("mallory")
    held: list[Any] = []

    async def hold(message: Any) -> Any:
        # alice signs for mallory as long as she does not know bob
        held.append(await to_alice(message))
        await alice.peers.set_up("bob")
        await bob.peers.close("alice")
        return held[0]

    bob.services.channels["mallory"] = hold
    await refused(bob, "mallory", "an account was closed meanwhile")
    assert held[0]["step"] == "welcome"
    assert await alice.peers.address_of("bob") == bob.address
    bob.services.channels["mallory"] = to_alice
    await refused(bob, "mallory", f"the address {bob.address} is known in another account")
    alice.services.channels["mallory"] = to_bob
    await refused(alice, "mallory", f"the address {bob.address} is known in another account")
    assert await bob.peers.account_of(alice.address) is None


async def test_a_proof_from_before_a_closing_is_refused() -> None:
    """Mallory keeps alice's last signature back until bob has deleted his account with her."""
    alice, bob, _ = open_triangle(require_strong=True)
    to_bob = bob.listens("mallory")
    held: list[Any] = []

    async def hold(message: Any) -> Any:
        if message["step"] == "proof":
            held.append(message)
            raise ConnectorError("nobody answers")
        return await to_bob(message)

    alice.services.channels["mallory"] = hold
    with pytest.raises(ConnectorError):
        await alice.peers.set_up("mallory")
    await alice.peers.close("mallory")
    await alice.peers.set_up("bob")
    assert (await to_bob(held[0]))["reason"] == f"the address {alice.address} is known in another account"
    await bob.peers.close("alice")
    assert (await to_bob(held[0]))["reason"] == "no challenge of ours is waiting for a proof, begin again"
    assert await bob.peers.account_of(alice.address) is None


async def test_an_answer_is_no_proof() -> None:
    """Bob answers a hello of "alice" that mallory makes up; what he signs there does not bind him to anything."""
    alice, bob, _ = open_triangle()
    to_alice, to_bob = alice.listens("mallory"), bob.listens("mallory")

    async def silence(message: Any) -> Any:
        raise ConnectorError("nobody answers")

    alice.services.channels["mallory"] = silence
    said = overhear(alice, "mallory")
    with pytest.raises(ConnectorError):
        await alice.peers.set_up("mallory")
    hello = said[0] | {"account": "mallory", "nonce": "0x" + "00" * 32}
    from_bob = await to_bob(hello)
    # alice's challenge for one whom she takes for bob, put to bob as though it were mallory's
    from_alice = await to_alice(hello | {"address": bob.address, "nonce": from_bob["nonce"]})
    signed = await to_bob(hello | {"nonce": from_alice["nonce"], "expires": from_alice["expires"]})
    assert signed["nonce"] == from_bob["nonce"]
    answer = await to_alice(signed | {"step": "proof"})
    assert answer["reason"].startswith(
        "its signature is not that of its address, or was made for somebody or something"
    )
    assert await alice.peers.account_of(bob.address) is None


@dataclass
class Mallory:
    """Answers with what was heard, passes on what is asked, and says things unasked, as `choices` say."""

    alice: Somebody
    bob: Somebody
    choices: list[int]
    heard: list[Any] = field(default_factory=list)
    depth: int = 0

    def choose(self, among: int) -> int:
        """Return the next choice, 0 once there are none left."""
        return self.choices.pop(0) % among if self.choices else 0

    def say(self) -> Any:
        """Return something heard, as it was or with a few places taken from elsewhere."""
        if not self.heard:
            return {"challenge": [1] * 36}
        message = copy.deepcopy(self.heard[self.choose(len(self.heard))])
        if isinstance(message, dict) and self.choose(2):
            other = self.heard[self.choose(len(self.heard))]
            for name in ("address", "account", "nonce", "expires", "step", "signature", "challenge"):
                if isinstance(other, dict) and name in other and self.choose(2):
                    message[name] = other[name]
            if self.choose(2) and "address" in message:
                message["address"] = (self.alice, self.bob)[self.choose(2)].address
        return message

    async def be_asked(self, by: Somebody, message: Any) -> Any:
        """Answer one of them."""
        self.heard.append(message)
        other = self.bob if by is self.alice else self.alice
        action = self.choose(4)
        if action == 0 or self.depth > 3:
            raise ConnectorError("nobody answers")
        if action == 1:
            return self.say()
        return await self.tell(other, message if action == 2 else self.say())

    async def tell(self, whom: Somebody, message: Any) -> Any:
        """Say something to one of them."""
        self.depth += 1
        answer = await whom.peers.handle_message("mallory", message)
        self.depth -= 1
        self.heard.append(answer)
        return answer


async def live_with_mallory(choices: list[int], *, strong: tuple[bool, bool]) -> None:
    """Let them live, and look after each step whether anybody can lose money to mallory."""
    alice, bob, _ = open_triangle()
    mallory = Mallory(alice, bob, choices)
    for somebody, required in zip((alice, bob), strong, strict=True):
        somebody.require_strong = required
        somebody.restart()

        async def carry(message: Any, somebody: Somebody = somebody) -> Any:
            return await mallory.be_asked(somebody, message)

        somebody.services.channels["mallory"] = carry
    while mallory.choices:
        action = mallory.choose(8 if any(strong) else 6)
        try:
            if action >= 6:
                # an operator deletes an account; the weaker handshake alone is not up to that
                somebody = (alice, bob)[action - 6]
                await somebody.peers.close(("bob" if somebody is alice else "alice", "mallory")[mallory.choose(2)])
            elif action < 2:
                await mallory.tell((alice, bob)[action], mallory.say())
            else:
                somebody = (alice, bob)[action % 2]
                direct = "bob" if somebody is alice else "alice"
                await somebody.peers.set_up(direct if action < 4 else "mallory")
        except (PeerError, ConnectorError):
            pass
        mallory.depth = 0
        await check_that_nothing_is_stolen(alice, bob)


async def check_that_nothing_is_stolen(alice: Somebody, bob: Somebody) -> None:
    """What one pays to the other's address, for whichever account, mallory is credited with only if owed to her."""
    for payer, payee in ((alice, bob), (bob, alice)):
        credited = await payee.peers.account_of(payer.address)
        for account_id in ("alice", "bob", "mallory"):
            if await payer.peers.address_of(account_id) == payee.address and credited == "mallory":
                assert account_id == "mallory"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 59), min_size=4, max_size=80), st.tuples(st.booleans(), st.booleans()))
def test_mallory_is_never_credited_with_what_is_owed_to_another(choices: list[int], strong: tuple[bool, bool]) -> None:
    """Whatever she relays, replays, mixes and makes up, and in whichever order everybody asks everybody."""
    anyio.run(lambda: live_with_mallory(list(choices), strong=strong))

"""Peers find each other's address once, keep it over crashes, and cannot be made to pay or credit anybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import AccountServices, Acknowledged, CreditOutcome, SettlementEngine
from settlement_core.core.core import Core, open_core
from settlement_core.engines.ethereum.handshake import Asset, Challenge, Introduction, Side, refused_because
from settlement_core.engines.ethereum.message_limits import LOG_INTERVAL_S, MESSAGES, MESSAGES_PER_S, MessageLimits
from settlement_core.engines.ethereum.peers import CHALLENGE_S, PeerError, Peers
from settlement_core.engines.ethereum.rust_handshake import (
    RECEIVED,
    RustAnswer,
    new_challenge,
    rust_request,
    sign_challenge,
)
from settlement_core.stores.memory import create_memory_store
from settlement_core.testing.clocks import virtual_backend
from settlement_core.values.errors import ConnectorError
from tests.engines.ethereum.anvil import CHAIN_ID
from tests.engines.ethereum.world import (
    NOW,
    Crash,
    Somebody,
    join,
    known,
    only_rust,
    open_pair,
    overhear,
    refused,
    steps,
)

pytestmark = pytest.mark.anyio

TOKEN = "0x" + "ab" * 20


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Return a loop with a jumping clock: there is no node here."""
    return virtual_backend(request.param)


# peers that speak our handshake


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_one_exchange_binds_both_sides(token: str | None) -> None:
    """Whoever asks first; afterwards neither needs to ask again, and waiting payments are rung for."""
    alice, bob = open_pair(token=token)
    said, answered = overhear(alice, "bob"), overhear(bob, "alice")
    await alice.peers.set_up("bob")
    assert steps(said) == ["hello", "proof"]
    assert await known(alice, "bob") == (bob.address, True)
    assert await known(bob, "alice") == (alice.address, True)
    assert bob.services.nudged == ["alice"]
    await bob.peers.set_up("alice")
    await alice.peers.set_up("bob")
    assert (len(said), answered) == (2, [])


async def test_both_may_ask_at_once() -> None:
    """Neither waits for the other, and both end with the same."""
    alice, bob = open_pair()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(alice.peers.set_up, "bob")
            tasks.start_soon(bob.peers.set_up, "alice")
    assert await known(alice, "bob") == (bob.address, True)
    assert await known(bob, "alice") == (alice.address, True)


async def test_everything_survives_a_restart() -> None:
    """The addresses, and that the handshake is finished."""
    alice, bob = open_pair()
    await alice.peers.set_up("bob")
    for somebody in (alice, bob):
        somebody.services.channels.clear()
        somebody.restart()
    await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (bob.address, True)
    assert await known(bob, "alice") == (alice.address, True)


async def test_a_peer_that_does_not_answer_is_not_paid() -> None:
    """Nothing is known, and the caller is told to come again; later it works."""
    alice, bob = open_pair()
    channels = dict(alice.services.channels)
    alice.services.channels.clear()
    with pytest.raises(ConnectorError):
        await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (None, False)
    alice.services.channels = channels
    await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (bob.address, True)


async def test_until_the_peer_has_bound_our_address_it_is_credited_and_not_paid() -> None:
    """Its last answer is lost: it may pay us already, and we pay it only once it surely knows us."""
    alice, bob = open_pair()
    carry = alice.services.channels["bob"]

    async def lose_last(message: Any) -> Any:
        answer = await carry(message)
        if message["step"] == "proof":
            raise ConnectorError("the answer was lost")
        return answer

    alice.services.channels["bob"] = lose_last
    with pytest.raises(ConnectorError):
        await alice.peers.set_up("bob")
    assert await alice.peers.address_of("bob") is None
    assert await alice.peers.account_of(bob.address) == "bob"
    assert await known(bob, "alice") == (alice.address, True)
    alice.services.channels["bob"] = carry
    await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (bob.address, True)


async def test_messages_may_be_delivered_again_and_again() -> None:
    """The Rust connector repeats each up to eleven times: the answers stay good and nothing changes."""
    alice, bob = open_pair()
    carry = alice.services.channels["bob"]

    async def repeat(message: Any) -> Any:
        answers = [await carry(message) for _ in range(11)]
        assert {str(answer) for answer in answers} == {str(answers[0])}
        return answers[-1]

    alice.services.channels["bob"] = repeat
    await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (bob.address, True)
    assert await known(bob, "alice") == (alice.address, True)


async def test_addresses_are_found_in_any_case() -> None:
    """Nodes and logs write them in several ways."""
    alice, bob = open_pair()
    await alice.peers.set_up("bob")
    assert await alice.peers.account_of(bob.key.account.address) == "bob"
    assert bob.key.account.address != bob.address


@pytest.mark.parametrize("whose", ["alice", "bob"])
async def test_a_crash_between_any_two_saves_is_made_good_by_asking_again(whose: str) -> None:
    """At every save of one side's handshake; meanwhile nobody is paid who does not know by whom."""
    for lives_for in range(100):
        alice, bob = open_pair()
        victim, other = (alice, bob) if whose == "alice" else (bob, alice)
        victim.services.lives_for = lives_for
        crashed = False
        try:
            await alice.peers.set_up("bob")
        except Crash:
            crashed = True
        victim.restart()
        if await victim.peers.address_of("alice" if whose == "bob" else "bob") is not None:
            assert await other.peers.account_of(victim.address) is not None
        await alice.peers.set_up("bob")
        await bob.peers.set_up("alice")
        assert await known(alice, "bob") == (bob.address, True)
        assert await known(bob, "alice") == (alice.address, True)
        if not crashed:
            break
    assert lives_for == {"alice": 4, "bob": 2}[whose]


# what is refused


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"token": TOKEN}, f"one side settles ether on chain 31337, the other token {TOKEN} on chain 31337"),
        ({"chain_id": 1}, "one side settles ether on chain 31337, the other ether on chain 1"),
    ],
)
async def test_the_peer_chooses_neither_token_nor_chain(other: dict[str, Any], reason: str) -> None:
    """One who settles something else is not bound, on either side, and both operators can read why."""
    alice, bob = Somebody(0), Somebody(1, **other)
    join(alice, "bob", bob, "alice")
    await refused(alice, "bob", reason)
    await refused(bob, "alice", "it refuses: one side settles")
    assert await alice.peers.account_of(bob.address) is None
    assert await bob.peers.account_of(alice.address) is None


async def test_our_own_address_is_nobody_elses() -> None:
    """Neither a peer with our key nor one that sends everything back to us is bound."""
    alice, twin = Somebody(0), Somebody(0)
    join(alice, "bob", twin, "alice")
    await refused(alice, "bob", "the address of both sides")

    async def mirror(message: Any) -> Any:
        return message

    alice.services.channels["bob"] = mirror
    await refused(alice, "bob", "it said hello where a welcome was due")
    alice.services.channels["bob"] = alice.listens("mirror")
    await refused(alice, "bob", "the address of both sides")


async def test_an_address_belongs_to_one_account() -> None:
    """A second account with the same peer is refused, whoever asks, and the first one is not touched."""
    alice, bob = open_pair()
    await alice.peers.set_up("bob")
    join(alice, "bob again", bob, "alice-again")
    alice.services.channels["bob-again"] = bob.listens("alice-again")
    await refused(alice, "bob-again", f"the address {alice.address} is known in another account")
    assert await known(alice, "bob") == (bob.address, True)
    assert await known(bob, "alice") == (alice.address, True)


async def test_an_account_keeps_its_address_until_it_is_deleted() -> None:
    """A peer that says another one is refused; after the account was deleted and created again, it is bound."""
    alice, bob = open_pair()
    await alice.peers.set_up("bob")
    carol = Somebody(2)
    join(alice, "bob", carol, "alice")
    with pytest.raises(PeerError, match=f"the peer of this account is {bob.address}, and now says {carol.address}"):
        await carol.peers.set_up("alice")
    assert await known(alice, "bob") == (bob.address, True)
    await alice.peers.close("bob")
    assert await known(alice, "bob") == (None, False)
    assert await alice.peers.account_of(bob.address) is None
    await carol.peers.set_up("alice")
    assert await known(alice, "bob") == (carol.address, True)


async def test_until_then_a_peer_may_still_change_its_mind() -> None:
    """It breaks the handshake off and comes back with another key: the old address is nobody's again."""
    alice, bob = open_pair()
    carry, carol = alice.services.channels["bob"], Somebody(2)

    async def break_off(message: Any) -> Any:
        if message["step"] == "proof":
            raise ConnectorError("nobody answers")
        return await carry(message)

    alice.services.channels["bob"] = break_off
    with pytest.raises(ConnectorError):
        await alice.peers.set_up("bob")
    assert await alice.peers.account_of(bob.address) == "bob"
    join(alice, "bob", carol, "alice")
    await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (carol.address, True)
    assert await alice.peers.account_of(bob.address) is None
    join(alice, "another", bob, "alice")
    await alice.peers.set_up("another")
    assert await known(alice, "another") == (bob.address, True)


async def test_a_closed_accounts_address_is_free_for_another() -> None:
    """Nothing of the old account is left, not even after a crash between any two saves of its end."""
    for lives_for in range(100):
        alice, bob = open_pair()
        await alice.peers.set_up("bob")
        alice.services.lives_for = lives_for
        crashed = False
        try:
            await alice.peers.close("bob")
        except Crash:
            crashed = True
        alice.restart()
        if crashed:
            await alice.peers.close("bob")
        await bob.peers.close("alice")
        join(alice, "new", bob, "new")
        await alice.peers.set_up("new")
        assert await known(alice, "new") == (bob.address, True)
        assert await alice.peers.address_of("bob") is None
        if not crashed:
            break
    assert lives_for > 1


async def test_a_challenge_is_answered_once_and_in_time() -> None:
    """A proof that comes late is refused; so is one that was used, unless it says what is known anyway."""
    alice, bob = open_pair()
    said = overhear(alice, "bob")
    await alice.peers.set_up("bob")
    proof = said[-1]
    assert await bob.peers.handle_message("alice", proof) == {"type": "ethereumPeer", "step": "bound"}
    await bob.peers.close("alice")
    answer = await bob.peers.handle_message("alice", proof)
    assert answer["reason"] == "no challenge of ours is waiting for a proof, begin again"
    assert await bob.peers.account_of(alice.address) is None

    late = Somebody(2)
    join(late, "bob", bob, "late")
    carry = late.services.channels["bob"]

    async def dawdle(message: Any) -> Any:
        if message["step"] == "proof":
            bob.time_s += CHALLENGE_S + 1
        return await carry(message)

    late.services.channels["bob"] = dawdle
    await refused(late, "bob", "begin again")
    assert await bob.peers.account_of(late.address) is None


async def test_an_answer_to_our_own_challenge_must_come_in_time_too() -> None:
    """A welcome that was made long ago, or comes long after, is not believed."""
    alice, bob = open_pair()
    carry = alice.services.channels["bob"]

    async def dawdle(message: Any) -> Any:
        answer = await carry(message)
        alice.time_s += CHALLENGE_S + 1
        return answer

    alice.services.channels["bob"] = dawdle
    await refused(alice, "bob", "our challenge has expired")
    assert await alice.peers.account_of(bob.address) is None


@pytest.mark.parametrize("wrong", [None, 7, "RECEIVED", [], {}, {"type": "paymentDetails"}, {"challenge": []}])
async def test_what_is_no_handshake_is_refused_and_changes_nothing(wrong: Any) -> None:
    """As an answer, since connectors forward no errors; and said to us as an answer, it binds nobody."""
    alice, bob = open_pair()
    before = dict(bob.services.saved)
    answer = await bob.peers.handle_message("alice", wrong)
    assert (answer["type"], answer["step"]) == ("ethereumPeer", "refused")
    assert bob.services.saved == before

    async def nonsense(message: Any) -> Any:
        return wrong

    alice.services.channels["bob"] = nonsense
    await refused(alice, "bob", "handshake with the peer of account 'bob' failed")


async def test_a_strange_last_answer_is_no_end() -> None:
    """Whatever the peer says instead of "bound", it is not paid."""
    alice, _ = open_pair()
    carry = alice.services.channels["bob"]

    async def mumble(message: Any) -> Any:
        answer = await carry(message)
        return {**answer, "step": "bounded"} if message["step"] == "proof" else answer

    alice.services.channels["bob"] = mumble
    await refused(alice, "bob", "its last answer was {'type': 'ethereumPeer', 'step': 'bounded'}")


def test_nothing_shows_a_key() -> None:
    """What stands for peers in a log names the address, the asset and what is required."""
    shown = f"{Somebody(0, require_strong=True).peers!r}"
    assert shown == (
        "<Peers of 0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266 for ether on chain 31337, strong handshake required>"
    )


# peers that speak the Rust engine's


def open_rust_pair(**facts: Any) -> tuple[Somebody, Somebody]:
    """Return a pair of which neither answers our own handshake."""
    alice, bob = open_pair(**facts)
    alice.services.channels["bob"] = only_rust(bob, "alice")
    bob.services.channels["alice"] = only_rust(alice, "bob")
    return alice, bob


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_rust_engine_is_asked_in_its_own_words(token: str | None) -> None:
    """Ours first, then its request; its own request is answered by us as by one of its kind."""
    alice, bob = open_rust_pair(token=token)
    said = overhear(alice, "bob")
    await alice.peers.set_up("bob")
    assert steps(said) == ["hello", "", "hello", ""]
    assert list(said[1]) == ["challenge"]
    assert list(said[3]) == ["to", "signature", "challenge"]
    assert said[3]["challenge"] is None
    assert said[3]["to"] == {"own_address": alice.address, "token_address": token}
    assert await known(alice, "bob") == (bob.address, True)
    # it credits us, but has not been asked yet whether it knows its own way to us
    assert await bob.peers.account_of(alice.address) == "alice"
    assert await bob.peers.address_of("alice") is None
    await bob.peers.set_up("alice")
    assert await known(bob, "alice") == (alice.address, True)


async def test_a_rust_engine_that_asks_us_is_answered_and_credited() -> None:
    """Its whole exchange, as it makes it; repeated messages change nothing; we pay once we have asked ourselves."""
    alice, rust = Somebody(0), Somebody(1)
    say = alice.listens("bob")
    challenge = new_challenge()
    answer = RustAnswer.read(await say(rust_request(challenge)))
    answer.check(challenge)
    assert answer.address == alice.address
    assert RustAnswer.read(await say(rust_request(challenge))).challenge == answer.challenge
    assert answer.challenge is not None
    last = sign_challenge(rust.key, None, answer.challenge, ask=None)
    for _ in range(3):
        assert await say(last) == RECEIVED
    assert await alice.peers.account_of(rust.address) == "bob"
    assert await alice.peers.address_of("bob") is None
    assert alice.services.nudged == ["bob"]
    alice.services.channels["bob"] = only_rust(rust, "alice")
    await alice.peers.set_up("bob")
    assert await known(alice, "bob") == (rust.address, True)


async def test_a_rust_engines_challenge_is_used_once_and_expires() -> None:
    """An answer to an old or a used one binds nobody."""
    alice, rust, other = Somebody(0), Somebody(1), Somebody(2)
    say = alice.listens("bob")

    async def asked_back() -> bytes:
        challenge = RustAnswer.read(await say(rust_request(b"x" * 36))).challenge
        assert challenge is not None
        return challenge

    old = await asked_back()
    alice.time_s += CHALLENGE_S + 1
    answer = await say(sign_challenge(rust.key, None, old, ask=None))
    assert answer["reason"] == "our challenge has expired, begin again"
    fresh = await asked_back()
    assert fresh != old
    assert await say(sign_challenge(rust.key, None, fresh, ask=None)) == RECEIVED
    await alice.peers.close("bob")
    for signer in (rust, other):
        answer = await say(sign_challenge(signer.key, None, fresh, ask=None))
        assert answer["reason"] == "no challenge of ours is waiting for an answer, begin again"
        assert await alice.peers.account_of(signer.address) is None


async def test_a_rust_engine_of_another_token_is_refused() -> None:
    """The peer's token is compared with ours and chooses nothing, whoever asks."""
    alice, bob = Somebody(0, token=TOKEN), Somebody(1)
    alice.services.channels["bob"] = only_rust(bob, "alice")
    await refused(alice, "bob", f"one side settles ether on chain 31337, the other token {TOKEN}")
    bob.services.channels["alice"] = only_rust(alice, "bob")
    await refused(bob, "alice", f"one side settles token {TOKEN} on chain 31337, the other ether")
    assert await alice.peers.account_of(bob.address) is None


async def test_a_rust_engine_that_signs_wrongly_is_refused() -> None:
    """Another's signature, or its own over something else."""
    alice, bob, carol = Somebody(0), Somebody(1), Somebody(2)
    join(alice, "bob", bob, "alice")
    for signed_over, named in ((b"another challenge", bob.address), (None, carol.address)):

        async def lie(message: Any, signed_over: bytes | None = signed_over, named: str = named) -> Any:
            if "challenge" not in message:
                raise ConnectorError("F00")
            answer = sign_challenge(bob.key, None, signed_over or bytes(message["challenge"]), ask=b"y" * 36)
            answer["to"]["own_address"] = named
            return answer

        alice.services.channels["bob"] = lie
        await refused(alice, "bob", "the challenge was signed by")


async def test_a_peer_that_was_only_away_is_not_taken_for_a_rust_engine() -> None:
    """It misses our first message and answers the Rust engine's: the better handshake is tried once more."""
    alice, bob = open_pair()
    carry = alice.services.channels["bob"]
    missed: list[Any] = []

    async def wake_up(message: Any) -> Any:
        if not missed:
            missed.append(message)
            raise ConnectorError("nobody answers")
        return await carry(message)

    alice.services.channels["bob"] = wake_up
    said = overhear(alice, "bob")
    await alice.peers.set_up("bob")
    assert steps(said) == ["hello", "", "hello", "proof"]
    # what only the stronger handshake brings: both are bound at once, and the weaker one is refused from now on
    assert await known(bob, "alice") == (alice.address, True)
    answer = await bob.peers.handle_message("alice", rust_request(b"x" * 36))
    assert answer["reason"] == "this account's peer is known by a stronger handshake (type ethereumPeer)"


async def test_a_rust_peer_may_learn_the_better_handshake() -> None:
    """The same address is proven again, and the account never goes back."""
    alice, bob = open_rust_pair()
    await alice.peers.set_up("bob")
    join(alice, "bob", bob, "alice")
    await bob.peers.set_up("alice")
    assert await known(bob, "alice") == (alice.address, True)
    assert await known(alice, "bob") == (bob.address, True)
    answer = await alice.peers.handle_message("bob", rust_request(b"x" * 36))
    assert answer["step"] == "refused"


async def test_the_weaker_handshake_can_be_switched_off() -> None:
    """Then a Rust engine is neither asked nor answered, and our key signs nothing that could be relayed."""
    alice, bob = open_rust_pair(require_strong=True)
    said = overhear(alice, "bob")
    await refused(alice, "bob", "only that is good enough here")
    assert steps(said) == ["hello"]
    for message in (rust_request(b"x" * 36), sign_challenge(bob.key, None, b"x" * 36, ask=None)):
        answer = await alice.peers.handle_message("bob", message)
        assert answer["reason"].startswith("this engine requires a handshake whose proofs cannot be relayed")


# with a core around them


class PeersOnly(SettlementEngine):
    """An engine that knows its peers and pays at once."""

    def __init__(self, services: AccountServices, somebody: Somebody) -> None:
        self.peers = Peers(services, somebody.key, chain_id=CHAIN_ID, token=None)
        self.setup_account = self.peers.set_up
        self.close_account = self.peers.close
        self.handle_message = self.peers.handle_message
        self.paid: list[tuple[str, Decimal]] = []

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay the address the peer has told."""
        address = await self.peers.address_of(account_id)
        assert address is not None, "settlement waits for the set-up"
        self.paid.append((address, amount))
        return amount


@dataclass
class Wire:
    """A connector that carries messages to a core's account."""

    to: dict[str, tuple[Core, str]] = field(default_factory=dict)

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Take it."""
        return Acknowledged()

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Carry it, as connectors do: an error's body is lost."""
        if account_id not in self.to:
            raise ConnectorError("nobody answers")
        core, theirs = self.to[account_id]
        try:
            return await core.handle_message(theirs, message)
        except Exception as problem:
            raise ConnectorError("rejected") from problem


@asynccontextmanager
async def open_peer(somebody: Somebody, wire: Wire) -> AsyncIterator[tuple[Core, PeersOnly]]:
    """Run a core with peers."""
    engines: list[PeersOnly] = []

    async def connect(services: AccountServices) -> PeersOnly:
        engines.append(PeersOnly(services, somebody))
        return engines[0]

    store = create_memory_store()
    async with open_core(connect, store=store, connector=wire, chance=lambda: 0.0) as core:
        yield core, engines[0]


async def test_two_cores_meet_and_pay_nobody_before() -> None:
    """Alice is asked to pay while bob's account is not there yet: she pays as soon as bob's own set-up reaches her."""
    alice, bob = open_pair()
    alices, bobs = Wire(), Wire()
    async with open_peer(alice, alices) as (core, engine), open_peer(bob, bobs) as (other_core, other_engine):
        alices.to["bob"] = (other_core, "alice")
        bobs.to["alice"] = (core, "bob")
        await core.create_account("bob")
        await core.request_settlement("bob", Decimal(5), "first")
        await anyio.sleep(60)
        assert engine.paid == []
        began = anyio.current_time()
        await other_core.create_account("alice")
        await other_core.request_settlement("alice", Decimal(7), "first")
        # rung for by the handshake: alice's back-off, which would last a minute and more, is over
        await anyio.sleep(0.5)
        assert engine.paid == [(bob.address, Decimal(5))]
        assert other_engine.paid == [(alice.address, Decimal(7))]
        assert anyio.current_time() - began == 0.5


# floods


def hello(somebody: Somebody) -> dict[str, Any]:
    """Return a message that costs its receiver a signature."""
    side, challenge = Side(somebody.address, "alice"), Challenge("0x" + "77" * 32, int(NOW) + CHALLENGE_S)
    return Introduction("hello", Asset(CHAIN_ID, None), side, challenge).to_json()


FLOOD: dict[str, Callable[[Somebody], Any]] = {
    "hello": hello,
    "rust": lambda _: rust_request(new_challenge()),
    "nonsense": lambda _: {"type": "ethereumPeer", "step": "nonsense"},
}


@pytest.mark.parametrize("kind", FLOOD)
async def test_flood_of_messages_is_refused_unread(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand messages of one account: sixty are read, the rest are refused in one log line; others are served."""
    alice, mallory, bob = Somebody(0), Somebody(3), Somebody(1)
    join(alice, "bob", bob, "alice")
    answers = [await alice.peers.handle_message("mallory", FLOOD[kind](mallory)) for _ in range(1000)]
    limited = [str(refused_because(answer)).startswith("too many messages") for answer in answers]
    assert limited == [False] * MESSAGES + [True] * (1000 - MESSAGES)
    assert len(caplog.records) == 1
    await bob.peers.set_up("alice")
    assert await known(alice, "bob") == (bob.address, True)


async def test_account_that_was_limited_is_served_again_later(caplog: pytest.LogCaptureFixture) -> None:
    """One message a second; the handshake that it interrupted ends well, and a later line counts the refusals."""
    alice, bob = open_pair()
    for _ in range(MESSAGES + 5):
        await bob.peers.handle_message("alice", hello(alice))
    with pytest.raises(PeerError, match="too many messages came from this account, the next is read in 1.0 s"):
        await alice.peers.set_up("bob")
    bob.time_s += 2 / MESSAGES_PER_S
    await alice.peers.set_up("bob")
    assert await known(bob, "alice") == (alice.address, True)
    bob.time_s += LOG_INTERVAL_S
    await bob.peers.handle_message("alice", None)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[1].endswith("(5 more such messages since the last line)")


async def test_address_of_another_account_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """However often a peer names it; the refusal and the error have a line each."""
    alice, bob = open_pair()
    await alice.peers.set_up("bob")
    for _ in range(20):
        assert refused_because(await alice.peers.handle_message("mallory", hello(bob))) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_limits_forget_accounts_that_send_no_more() -> None:
    """A thousand and one accounts are remembered, and those at rest are not."""
    now = [0.0]
    limits = MessageLimits(lambda: now[0])
    for number in range(3000):
        now[0] += 2.0
        assert limits.wait_s(f"account-{number}") == 0
        assert limits.log_note(f"account-{number}", "refused") == ""
    assert len(limits._buckets) <= 1_001
    assert len(limits._lines) <= 1_001

"""Two engines learn where to pay each other, and whatever else a peer says changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from settlement_core.engines.simulated import SimulatedLedger
from settlement_core.engines.simulated.messages import PeerError
from settlement_core.values.errors import ConnectorError
from tests.engines.simulated.world import D, FakeServices, balances, open_pair, open_side, transfer

pytestmark = pytest.mark.anyio

GARBAGE: list[Any] = [
    None,
    "",
    "RECEIVED",
    7,
    [],
    {},
    {"type": "error", "message": "no"},
    {"type": ["paymentDetails"]},
    {"type": "paymentDetails", "address": "carol"},
    {"type": "paymentDetails", "memo": "x"},
    {"type": "paymentDetails", "address": None, "memo": "x"},
    {"type": "paymentDetails", "address": {"a": 1}, "memo": "x"},
    {"type": "paymentDetails", "address": "carol", "memo": 5},
    {"type": "paymentDetails", "address": "carol", "memo": ""},
    {"type": "paymentDetails", "address": "carol", "memo": "x" * 129},
    {"type": "paymentDetails", "address": "carol", "memo": "a b"},
    {"type": "paymentDetails", "address": "carol\n", "memo": "x"},
    {"type": "paymentDetails", "address": "nobody", "memo": "x"},
    {"type": "paymentDetails", "address": "mint", "memo": "x"},
    {"type": "paymentDetails", "address": "alice", "memo": "x"},
    {"type": "paymentDetails", "address": "c" * 100_000, "memo": "x"},
]


async def test_one_exchange_teaches_both_sides(path: Path, ledger: SimulatedLedger) -> None:
    """Alice asks and tells; bob can then pay her even though his connector carries nothing."""
    async with open_pair(path) as (alice, bob):
        await alice.engine.setup_account("them")
        bob.services.peer = alice.services.peer = None
        there = await alice.engine.prepare("them", D(1), "there")
        back = await bob.engine.prepare("them", D(2), "back")
        await alice.engine.submit(there)
        await bob.engine.submit(back)
        ledger.mine(3)
        await bob.services.until(lambda: bob.services.credited() == 1)
        await alice.services.until(lambda: alice.services.credited() == 2)


async def test_setting_up_fails_until_the_peer_answers(path: Path, ledger: SimulatedLedger) -> None:
    """No answer is an error, never an assumption; preparing asks too, so a later answer is enough."""
    async with open_pair(path) as (alice, bob):
        carry, alice.services.peer = alice.services.peer, None
        with pytest.raises(ConnectorError):
            await alice.engine.setup_account("them")
        with pytest.raises(ConnectorError):
            await alice.engine.prepare("them", D(1), "attempt")
        alice.services.peer = carry
        payment = await alice.engine.prepare("them", D(1), "attempt")
        await alice.engine.submit(payment)
        ledger.mine(3)
        await bob.services.until(lambda: bob.services.credited() == 1)


@pytest.mark.parametrize("garbage", [*GARBAGE, {"type": "paymentDetails"}], ids=lambda g: json.dumps(g)[:60])
async def test_a_peers_garbage_answer_is_never_paid_to(path: Path, ledger: SimulatedLedger, garbage: Any) -> None:
    """What is malformed, does not exist or is our own is refused in one short sentence, and nothing is kept."""

    async def answer(_: Any) -> Any:
        return garbage

    async with open_side(path, "alice", FakeServices(peer=answer)) as alice:
        with pytest.raises(PeerError) as caught:
            await alice.engine.prepare("them", D(1), "attempt")
        assert len(str(caught.value)) < 600
        assert ("them", "peer-details") not in alice.services.saved


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: json.dumps(g)[:60])
async def test_a_peers_garbage_question_is_answered_and_changes_nothing(
    path: Path, ledger: SimulatedLedger, garbage: Any
) -> None:
    """The error travels in the answer, since connectors drop error bodies, and details known before stay."""
    known = {"type": "paymentDetails", "address": "carol", "memo": "known"}
    async with open_side(path, "alice") as alice:
        await alice.engine.handle_message("them", known)
        before = dict(alice.services.saved)
        answer = await alice.engine.handle_message("them", garbage)
        assert answer["type"] == "error"
        assert len(json.dumps(answer)) < 300
        assert alice.services.saved == before
        payment = await alice.engine.prepare("them", D(1), "attempt")
        await alice.engine.submit(payment)
        ledger.mine(3)
    assert ledger.balance("carol") == 101


async def test_each_accounts_own_peer_is_asked_and_paid(path: Path, ledger: SimulatedLedger) -> None:
    """Two accounts, two peers: what is owed to one is never paid to the other."""

    class TwoPeers(FakeServices):
        async def send_message(self, account_id: str, message: Any) -> Any:
            return {"type": "paymentDetails", "address": account_id, "memo": f"of-{account_id}"}

    async with open_side(path, "alice", TwoPeers()) as alice:
        for account_id, amount in (("bob", D(3)), ("carol", D(4))):
            await alice.engine.submit(await alice.engine.prepare(account_id, amount, f"to-{account_id}"))
        ledger.mine(3)
    assert balances(ledger) == {"alice": D(93), "bob": D(103), "carol": D(104)}


async def test_the_errors_say_whose_peer_said_what(path: Path, ledger: SimulatedLedger) -> None:
    """To the operator, whose account it is and what came; to the peer, what was wrong with its message."""

    async def say_nothing(_: Any) -> Any:
        return {"type": "paymentDetails"}

    async with open_side(path, "alice", FakeServices(peer=say_nothing)) as alice:
        with pytest.raises(PeerError, match="the peer of account 'them' did not .*: its answer holds none"):
            await alice.engine.setup_account("them")
        alice.services.peer = lambda _: say_no()
        with pytest.raises(PeerError, match="the peer of account 'them' .*; its answer was 'no'"):
            await alice.engine.setup_account("them")
        question = {"type": "paymentDetails", "address": "nobody", "memo": "x"}
        answer = await alice.engine.handle_message("them", question)
        assert "address 'nobody' does not exist" in answer["message"]
        answer = await alice.engine.handle_message("them", {"type": "hello"})
        assert answer["message"] == "this engine only knows messages of type paymentDetails"


async def say_no() -> Any:
    """Answer what no engine does."""
    return "no"


async def test_a_repeated_question_gets_the_same_answer(path: Path, ledger: SimulatedLedger) -> None:
    """Interledger.rs may deliver a message eleven times; the account has one memo all the same, and others another."""
    async with open_side(path, "alice") as alice:
        answers = [await alice.engine.handle_message("them", {"type": "paymentDetails"}) for _ in range(11)]
        other = await alice.engine.handle_message("others", {"type": "paymentDetails"})
    assert all(answer == answers[0] for answer in answers)
    assert other["memo"] != answers[0]["memo"]


async def test_a_memo_outlives_its_account(path: Path, ledger: SimulatedLedger) -> None:
    """Deleted, paid, revived: the memo is the same throughout, and a late payment is still credited."""
    async with open_pair(path) as (alice, bob):
        await alice.engine.setup_account("them")
        memo = (await bob.engine.handle_message("them", {"type": "paymentDetails"}))["memo"]
        await bob.engine.close_account("them")
        await bob.engine.close_account("them")
        ledger.submit(transfer("late", "4", memo=memo))
        ledger.mine(3)
        await bob.services.until(lambda: bob.services.credited() == 4)
        await bob.engine.setup_account("them")
        assert (await bob.engine.handle_message("them", {"type": "paymentDetails"}))["memo"] == memo


async def test_a_closed_account_asks_anew_where_to_pay(path: Path, ledger: SimulatedLedger) -> None:
    """What a former peer said is not used for whoever comes after it."""
    async with open_pair(path) as (alice, _):
        await alice.engine.setup_account("them")
        await alice.engine.close_account("them")
        alice.services.peer = None
        with pytest.raises(ConnectorError):
            await alice.engine.prepare("them", D(1), "attempt")


@pytest.mark.parametrize("broken_key", ["own-memo", "account-of-memo:"])
async def test_a_memo_is_never_told_before_its_account_is_known(
    path: Path, ledger: SimulatedLedger, broken_key: str
) -> None:
    """If we die at either step of making a memo, what a later run tells is still attributed."""
    services = FakeServices(broken_key=broken_key)
    async with open_side(path, "bob", services) as bob:
        with pytest.raises(RuntimeError):
            await bob.engine.handle_message("them", {"type": "paymentDetails"})
        services.broken_key = None
        memo = (await bob.engine.handle_message("them", {"type": "paymentDetails"}))["memo"]
        ledger.submit(transfer("paid", "4", memo=memo))
        ledger.mine(3)
        await services.until(lambda: services.credited() == 4)

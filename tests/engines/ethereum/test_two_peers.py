"""Two servers settle with each other on a real chain: everybody's books and the chain agree to the wei."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from settlement_core.testing.connector import random_faults
from tests.engines.ethereum.anvil import Anvil
from tests.engines.ethereum.contracts import deploy_token
from tests.engines.ethereum.stage import CONFIRMATIONS, D, Stage, fees_booked, open_stage

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    """Return the test's own loop; of the two servers, one runs on trio and one on asyncio."""
    return "trio"


async def settle_both_ways(stage: Stage) -> None:
    """Have each side owe the other two odd amounts, at once."""
    async with anyio.create_task_group() as tasks:
        for side, amounts in ((stage.alice, ("1.5", "0.000001")), (stage.bob, ("0.25", "3.141592"))):
            for amount in amounts:
                tasks.start_soon(side.settle, D(amount))


async def test_ether_both_ways(node: Anvil, tmp_path: Path) -> None:
    """Requested, settled, credited and moved are the same, down to a single wei, and gas is what else was spent."""
    async with open_stage(node, tmp_path) as stage:
        await stage.start()
        await settle_both_ways(stage)
        await stage.alice.settle(D("0.000000000000000001"))
        await stage.until_settled()
        reports = await stage.end()
        for side in stage.sides.values():
            assert await fees_booked(side) == stage.fees(side) > 0
    assert stage.alice.credited == D("3.391592")
    assert stage.bob.credited == D("1.500001000000000001")
    assert not any(report.unattributed for report in reports.values())


async def test_tokens_both_ways(node: Anvil, tmp_path: Path) -> None:
    """In units of a token with six decimals: what is finer stays owed, and ether pays for nothing but gas."""
    token = deploy_token(node, decimals=6)
    for account in node.accounts[1:3]:
        token.transfer(node.accounts[0].address, to=account.address, units=10_000_000)
    node.mine()
    async with open_stage(node, tmp_path, token=token) as stage:
        ether = {side.name: node.balance(side.address) for side in stage.sides.values()}
        await stage.start()
        await settle_both_ways(stage)
        await stage.until_settled()
        await stage.alice.settle(D("0.0000005"))
        await stage.alice.settle(D("0.0000005"))
        await stage.until_settled()
        await stage.end()
        spent = {side.name: ether[side.name] - node.balance(side.address) for side in stage.sides.values()}
        assert spent == {side.name: stage.fees(side) for side in stage.sides.values()}
        assert spent == {side.name: await fees_booked(side) for side in stage.sides.values()}
    assert (token.balance(stage.alice.address), token.balance(stage.bob.address)) == (11_891_590, 8_108_410)


async def test_the_stranger_who_pays_is_seen_and_credited_once_a_person_says_to_whom(
    node: Anvil, tmp_path: Path
) -> None:
    """The deposit waits, in sight, while others are credited; assigned, it is the peer's, and only once."""
    stranger = node.accounts[3].address
    async with open_stage(node, tmp_path) as stage:
        await stage.start()
        deposit = node.send(stranger, to=stage.bob.address, value=7 * 10**17)
        await stage.alice.settle(D(2))
        await stage.until(lambda: stage.bob.credited == 2, "what alice paid")
        (item,) = await stage.bob.ask("/suspense")
        assert deposit in item["settlement_id"]
        assert (D(item["amount"]), item["details"]["sender"]) == (D("0.7"), stranger)
        told = {"settlement_id": item["settlement_id"], "account_id": "alice", "reason": "told by phone", "by": "ann"}
        await stage.bob.ask("/suspense/assign", told)
        await stage.until(lambda: stage.bob.credited == D("2.7"), "what was assigned")
        await stage.bob.engine.kill()
        await stage.bob.engine.start()
        await stage.alice.settle(D(1))
        await stage.until(lambda: stage.bob.credited == D("3.7"), "what alice paid after the restart")
        assert stage.balance(stage.bob) - stage.bob.began_with == 37 * 10**17
        assert await stage.bob.ask("/suspense") == []


async def test_the_node_may_go_away_and_forget_what_it_had_not_mined(node: Anvil, tmp_path: Path) -> None:
    """While payments wait for a block the node is restarted, which empties its pool, and stays away for a while."""
    async with open_stage(node, tmp_path) as stage:
        await stage.start()
        # peers must know each other before anything is broadcast
        await stage.alice.settle(D(1))
        await stage.until_settled()
        await settle_both_ways(stage)
        with anyio.fail_after(30):
            while len(node.pool()) < 2:
                await anyio.sleep(0.02)
        node.stop()
        await anyio.sleep(0.3)
        node.start()
        assert node.pool() == []
        await stage.until_settled()
        await stage.end()


async def test_a_connector_that_fails_all_the_time_changes_nothing(node: Anvil, tmp_path: Path) -> None:
    """Messages and credits are lost, late, repeated or answered with errors, a third of them: the books still agree."""
    async with open_stage(node, tmp_path) as stage:
        for seed, side in enumerate(stage.sides.values()):
            side.connector.faults = random_faults(seed + 1, delay_s=0.01)
        await stage.start()
        await settle_both_ways(stage)
        await stage.until_settled()
        await stage.end()


async def test_nothing_is_credited_before_it_is_final(node: Anvil, tmp_path: Path) -> None:
    """A payment that a reorganisation takes back was never credited; it is paid again, and credited once."""
    async with open_stage(node, tmp_path) as stage:
        await stage.start()
        await stage.alice.settle(D(1))
        await stage.until_settled()
        await stage.alice.settle(D(4))
        with anyio.fail_after(30):
            while not node.pool():
                await anyio.sleep(0.02)
        node.mine(CONFIRMATIONS - 1)
        assert stage.balance(stage.bob) - stage.bob.began_with == 5 * 10**18
        node.reorganise(CONFIRMATIONS - 1)
        await stage.bob.proxy.wait_calls(10)  # so that it has looked
        assert stage.bob.credited == 1
        assert stage.balance(stage.bob) - stage.bob.began_with == 10**18
        await stage.until_settled()
        await stage.end()

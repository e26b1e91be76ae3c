"""The lying node over sockets: transparent without lies, the same lies for the same seed, and limits of providers."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx2
import pytest

from settlement_core.testing.lying_node import LIES, Limits, LyingNode, ViewLie, WireLie, open_lying_node
from tests.lying_node.samples import BLOCK, HASHES, LOGS, RECEIPT, RESULTS, FakeNode, ask, batch, open_fake, post

pytestmark = pytest.mark.anyio

READS = ["eth_blockNumber", "eth_getBalance", "eth_getTransactionCount", "eth_getTransactionReceipt"]


async def talk(node: LyingNode, times: int) -> list[str]:
    """Ask for many things in the same order; return what was told as lies."""
    for _ in range(times):
        for content in (batch(READS), batch(["eth_getLogs"])[0], batch(["eth_getBlockByNumber"])[0]):
            await node.respond("POST", "/", {}, json.dumps(content).encode())
    return [str(told) for told in node.told]


async def test_same_seed_tells_the_same_lies() -> None:
    """And another seed tells others; both at about the rate that was asked for."""
    async with open_fake() as fake:
        told = []
        for seed in (7, 7, 8):
            async with open_lying_node(fake.url, seed=seed, rate=0.3) as node:
                told.append(await talk(node, 40))
                liars = {lie.request for lie in node.told}
                assert 0.15 < len(liars) / node.requests < 0.6
        assert told[0] == told[1] != told[2]


async def test_rate_of_a_method_holds_for_its_requests() -> None:
    """Where it is higher than the general one; at a general rate of nothing no lie is told."""
    async with open_fake() as fake:
        for rate, lied in ((0.001, True), (0.0, False)):
            rates = {"eth_getLogs": 1.0}
            async with open_lying_node(fake.url, seed=7, rate=rate, rates=rates) as node:
                await talk(node, 10)
                assert {told.methods for told in node.told} == ({"eth_getLogs"} if lied else set())
                assert len({told.request for told in node.told}) == (10 if lied else 0)


async def test_one_request_more_does_not_change_the_lies_of_others() -> None:
    """Lies depend on the methods of a request and how many such requests came before."""
    async with open_fake() as fake:
        told = []
        for more in (0, 3):
            async with open_lying_node(fake.url, seed=7, rate=0.3) as node:
                for _ in range(more):
                    await ask(node, "eth_chainId")
                await talk(node, 15)
                told.append([(lie.lie, lie.methods) for lie in node.told if lie.methods != "eth_chainId"])
        assert told[0] == told[1]


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_a_node_that_is_honest_passes_every_byte(rate: float) -> None:
    """Without lies, or while they are switched off, single calls, batches and errors pass as they are."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=rate) as node:
        node.honest = rate > 0
        for content in (batch(READS), *batch(list(RESULTS))):
            assert (await post(node, content)).content == (await post(fake, content)).content
        assert node.told == []


@pytest.mark.parametrize("name", [name for name, lie in LIES.items() if isinstance(lie, WireLie)])
async def test_lie_of_the_wire_does_what_its_name_says(name: str) -> None:
    """The node has acted or not, and the answer is lost, late, or not JSON-RPC."""
    lie = LIES[name]
    assert isinstance(lie, WireLie)
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=0) as node:
        node.tell(name)
        truth = {"jsonrpc": "2.0", "id": 1, "result": "0x64"}
        try:
            said: Any = (await ask(node, "eth_blockNumber")) or None
        except (httpx2.TransportError, ValueError, RecursionError):
            said = None
        assert (said == truth) == (lie.answer is None)
        assert fake.acted == (["eth_blockNumber"] if lie.acts else [])
        assert lie.acts == (name not in BEFORE)
        assert [told.lie for told in node.told] == [name]
        assert await ask(node, "eth_blockNumber") == truth


BEFORE = {"the request is lost", "a gateway answers before the node acts", "too many requests"}


async def test_scripted_lie_waits_for_its_method() -> None:
    """It is told as often as ordered, about this method only, also in a batch."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=0) as node:
        node.tell("found nothing", times=2, method="eth_getTransactionReceipt")
        assert (await ask(node, "eth_getBlockByNumber"))["result"] == BLOCK
        assert [item["result"] for item in (await post(node, batch(READS))).json()][:3] == [
            "0x64",
            "0x8ac7230489e80000",
            "0x9",
        ]
        answers = [(await ask(node, "eth_getTransactionReceipt"))["result"] for _ in range(3)]
        assert answers == [None, RECEIPT, RECEIPT]
        assert [told.methods for told in node.told] == ["eth_getTransactionReceipt"] * 2


async def test_scripted_lie_of_an_unknown_name_is_refused() -> None:
    """With the name."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1) as node:
        with pytest.raises(KeyError, match="nonsense"):
            node.tell("nonsense")


async def test_no_lie_about_a_question_lasts() -> None:
    """A lie may be repeated when the same question comes again, but a few times only."""
    async with open_fake() as fake:
        longest = 0
        for seed in range(12):
            async with open_lying_node(fake.url, seed=seed, rate=1, lies=[LIES["found nothing"]]) as node:
                answers = []
                for _ in range(7):
                    answers.append((await ask(node, "eth_getTransactionReceipt"))["result"])
                    node.rate = 0.0
                assert answers[0] is None
                assert answers[-1] == RECEIPT
                longest = max(longest, answers.index(RECEIPT))
        assert longest > 1


async def test_report_says_how_to_repeat_and_what_was_said() -> None:
    """With the place in the answer at which the lie is."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=17, rate=0) as node:
        node.tell("a receipt of status 0x2")
        await ask(node, "eth_getTransactionReceipt")
        assert "seed=17, rate=0" in node.report()
        assert 'eth_getTransactionReceipt: a receipt of status 0x2: .status: "0x2" instead of "0x1"' in node.report()
        assert repr(node).startswith(f"<LyingNode {node.url}, seed 17, lying at a rate of 0, 1 lies in 1 requests")


# views


async def test_a_lagging_view_is_true_of_an_earlier_block() -> None:
    """Heights, tags, ranges and what stands in later blocks are those of one block some heights behind."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=0) as node:
        asked: list[Any] = []
        fake.results["eth_getBlockByNumber"] = lambda tag, _: {
            **BLOCK,
            "number": tag if tag.startswith("0x") else "0x62",
        }
        fake.results["eth_getTransactionCount"] = lambda _, tag: tag
        fake.results["eth_getLogs"] = lambda criteria: asked.append(criteria) or LOGS  # type: ignore[func-returns-value]
        for _ in range(20):
            node.tell("a view some blocks behind")
            calls = batch(
                ["eth_blockNumber", *["eth_getBlockByNumber"] * 3, *READS[2:], "eth_getLogs", "eth_getTransactionCount"]
            )
            calls[1]["params"], calls[2]["params"], calls[3]["params"] = (
                ["latest", False],
                ["0x64", False],
                ["0x10", False],
            )
            calls[6]["params"] = [{"fromBlock": "0x5", "toBlock": "0x64"}]
            calls[7]["params"] = ["0x0", "0x64"]
            head, latest, newest, old, count, receipt, logs, at_newest = (await post(node, calls)).json()
            height = head["result"]
            assert 100 - 8 <= int(height, 16) < 100
            assert latest["result"]["number"] == count["result"] == asked[-1]["toBlock"] == height
            assert (newest["result"], receipt["result"], logs["result"]) == (None, None, LOGS)
            assert old["result"]["number"] == "0x10"
            assert at_newest["error"]["message"] == "header not found"
        assert [told.lie for told in node.told] == ["a view some blocks behind"] * 20


async def test_a_swallowed_transaction_never_reaches_the_node() -> None:
    """Its hash is what the node computes, and a view that cannot be told waits for its opportunity."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=0) as node:
        node.tell("transactions taken and lost")
        await ask(node, "eth_blockNumber")
        assert node.told == []
        assert (await ask(node, "eth_sendRawTransaction", "0x02f8"))["result"] == HASHES[7]
        assert fake.acted == ["eth_blockNumber", "web3_sha3"]
        await ask(node, "eth_sendRawTransaction", "0x02f8")
        assert fake.acted[-1] == "eth_sendRawTransaction"


async def test_two_nodes_answer_with_two_heads() -> None:
    """Within one batch too; what is sent goes to the first."""
    async with open_fake() as one, open_fake() as other, open_lying_node([one.url, other.url], seed=1, rate=0) as node:
        other.results["eth_blockNumber"] = "0x60"
        assert (await ask(node, "eth_blockNumber"))["result"] == "0x64"
        node.tell("the view of the other node")
        assert (await ask(node, "eth_blockNumber"))["result"] == "0x60"
        node.tell("each call answered by another node", times=9)
        heads = [item["result"] for _ in range(9) for item in (await post(node, batch(["eth_blockNumber"] * 4))).json()]
        assert set(heads) == {"0x64", "0x60"}
        node.tell("the view of the other node")
        await ask(node, "eth_sendRawTransaction", "0x02f8")
        assert "eth_sendRawTransaction" not in other.acted


async def test_more_than_two_nodes_are_refused() -> None:
    """With a sentence."""
    with pytest.raises(ValueError, match="one or two nodes, not 3"):
        async with open_lying_node(["http://127.0.0.1:1"] * 3, seed=1):
            pass


@pytest.mark.parametrize("name", [name for name, lie in LIES.items() if isinstance(lie, ViewLie)])
async def test_a_view_of_a_node_that_is_down_is_no_lie(name: str) -> None:
    """The proxy closes the connection, as the node would."""
    async with open_lying_node("http://127.0.0.1:9", seed=1, rate=0) as node:
        node.tell(name)
        with pytest.raises(httpx2.TransportError):
            await ask(node, "eth_blockNumber")
        assert node.told == []


# limits


async def ranges(node: LyingNode, blocks: int) -> Any:
    """Ask for logs of so many blocks."""
    return await ask(node, "eth_getLogs", {"fromBlock": "0x5", "toBlock": hex(4 + blocks)})


async def test_limit_on_ranges_of_logs_is_held() -> None:
    """Ten blocks pass, eleven are refused in the same words each time, also while the node is honest."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, limits=Limits(log_range=10)) as node:
        node.honest = True
        assert (await ranges(node, 10))["result"] == LOGS
        refusals = [(await ranges(node, 11))["error"] for _ in range(3)]
        assert refusals[0] == refusals[1] == refusals[2]
        assert node.limited == 3
        assert node.told == []


async def test_limit_on_batches_is_held() -> None:
    """In one of three ways, by seed; smaller batches pass."""
    ways = set()
    async with open_fake() as fake:
        for seed in range(12):
            async with open_lying_node(fake.url, seed=seed, rate=0, limits=Limits(batch=3)) as node:
                assert len((await post(node, batch(READS[:3]))).json()) == 3
                refused = await post(node, batch(READS))
                said = refused.json()
                assert all("error" in item for item in (said if isinstance(said, list) else [said]))
                ways.add((refused.status_code, type(said).__name__))
                assert node.limited == 1
    assert ways == {(200, "dict"), (200, "list"), (413, "dict")}


async def test_limit_on_requests_a_second_is_held() -> None:
    """A second's worth passes at once, the rest is 429 with `Retry-After`, and later there is room again."""
    body = json.dumps(batch(["eth_chainId"])[0]).encode()
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=0, limits=Limits(requests_per_s=2)) as node:
        answers = [await node.respond("POST", "/", {}, body) for _ in range(40)]
        assert [answer.status for answer in answers[:2]] == [200] * 2
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert node.limited == len(refused)
        assert refused[0].headers["retry-after"] == "1"
        await anyio.sleep(0.6)
        assert (await node.respond("POST", "/", {}, body)).status == 200


# what is not JSON-RPC


async def test_what_is_not_json_rpc_is_left_to_the_node() -> None:
    """And what is not JSON is refused; the node is not broken by it."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=1, rate=1) as node:
        fake.results["odd"] = {"deep": [1]}
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.post(node.url, content=b"{")).status_code == 400
        node.honest = True
        assert (await ask(node, "odd"))["result"] == {"deep": [1]}


async def test_random_lies_are_of_every_kind() -> None:
    """Over some hundred requests nearly every lie that fits is told."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=3, rate=1) as node:
        await talk(node, 100)
        told = {lie.lie for lie in node.told}
        assert {"an older answer", "the view of the other node"}.isdisjoint(told)
        assert len(told) > 50


async def test_lies_are_chosen_from_those_given() -> None:
    """No other is told."""
    async with open_fake() as fake, open_lying_node(fake.url, seed=3, rate=1, lies=[LIES["refused"]]) as node:
        await talk(node, 5)
        assert {lie.lie for lie in node.told} == {"refused"}


def test_fake_answers_are_json(anyio_backend: str) -> None:
    """What these tests take for true answers can be written."""
    assert json.loads(json.dumps(RESULTS)) == RESULTS
    assert FakeNode().results == RESULTS

"""Each lie does what its name says; every one has a row here."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from settlement_core.testing.lying_node import LIES, TRUTH, AnswerLie, BodyLie, NodeCall, Refusal
from settlement_core.testing.lying_node._calls import ENDLESS, write
from settlement_core.testing.lying_node._memory import Memory
from tests.lying_node.samples import BLOCK, HASHES, LOGS, RECEIPT, RESULTS, TRANSACTIONS, call_of

SEEDS = range(40)

Check = Callable[[Any, Any], bool]


def only(field: str, holds: Check = lambda before, after: before != after) -> Check:
    """Return a check: that field is another, as it says, and no other is."""

    def check(truth: Any, said: Any) -> bool:
        rest = {key for key in truth if key != field and truth[key] != said.get(key)}
        return not rest and holds(truth[field], said.get(field))

    return check


def one_place(wrong: Callable[[Any], bool]) -> Check:
    """Return a check: one value within the answer is another, and it is wrong like this."""

    def check(truth: Any, said: Any) -> bool:
        found = list(differences(truth, said))
        return len(found) == 1 and wrong(found[0])

    return check


def differences(truth: Any, said: Any) -> list[Any]:
    """Return what stands in each place where two values differ."""
    if isinstance(truth, dict) and isinstance(said, dict) and truth.keys() == said.keys():
        return [found for key in truth for found in differences(truth[key], said[key])]
    if isinstance(truth, list) and isinstance(said, list) and len(truth) == len(said):
        return [found for before, after in zip(truth, said, strict=True) for found in differences(before, after)]
    return [] if truth == said and type(truth) is type(said) else [said]


def fields_of(value: Any) -> int:
    """Return how many fields there are within a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (len(value) if isinstance(value, dict) else 0) + sum(map(fields_of, inner))


def logs_lack_one(before: Any, after: Any) -> bool:
    """Tell whether one is missing."""
    return len(after) == len(before) - 1 and all(log in before for log in after)


def is_hash(value: Any) -> bool:
    """Tell whether it is a hash."""
    return isinstance(value, str) and len(value) == 66 and bool(int(value, 16))


def has_list(wrong: Callable[[Any, Any], bool]) -> Check:
    """Return a check: one of the lists is another, and wrong like this."""

    def check(truth: Any, said: Any) -> bool:
        return any(wrong(truth[key], said[key]) for key in ("transactions",)) and truth["hash"] == said["hash"]

    return check


FAR = hex(10**9)

ROWS: dict[str, tuple[str, Check]] = {
    # any field
    "a field dropped": ("eth_getBlockByNumber", lambda truth, said: fields_of(truth) > fields_of(said)),
    "a value is null": ("eth_getTransactionReceipt", one_place(lambda said: said is None)),
    "a value of another type": (
        "eth_getTransactionReceipt",
        one_place(lambda said: not isinstance(said, str) or not said.startswith("0x") or said in {"0x", "0xé"}),
    ),
    "an integer of thousands of digits": (
        "eth_getTransactionReceipt",
        one_place(lambda said: said == ENDLESS or int(said, 16) > 10**4000),
    ),
    "a negative integer": ("eth_getTransactionReceipt", one_place(lambda said: str(said).startswith("-"))),
    "another number": ("eth_getTransactionReceipt", one_place(lambda said: 0 <= int(said, 16) < 2**256)),
    "another hash": ("eth_getTransactionReceipt", one_place(is_hash)),
    "another address": ("eth_getTransactionReceipt", one_place(lambda said: len(said) == 42)),
    "a list shuffled": ("eth_getBlockByNumber", has_list(lambda before, after: before == after[::-1])),
    "a list shortened": ("eth_getBlockByNumber", has_list(logs_lack_one)),
    "a list with an item doubled": ("eth_getBlockByNumber", has_list(lambda before, after: len(after) > len(before))),
    "a list emptied": ("eth_getBlockByNumber", has_list(lambda _, after: after == [])),
    # the past
    "an older answer": ("eth_getBalance", lambda _, said: said == "0xold"),
    "the answer to another question": ("eth_getTransactionReceipt", lambda _, said: said == "of another"),
    "found nothing": ("eth_getTransactionReceipt", lambda _, said: said is None),
    # blocks
    "a block without its transactions": (
        "eth_getBlockByNumber",
        lambda truth, said: said["transactions"] == [] and said["hash"] == truth["hash"],
    ),
    "a block that lacks one transaction": ("eth_getBlockByNumber", only("transactions", logs_lack_one)),
    "transactions as hashes only": (
        "eth_getBlockByNumber",
        only("transactions", lambda _, after: after == [tx["hash"] for tx in TRANSACTIONS]),
    ),
    "a block without the field of its transactions": (
        "eth_getBlockByNumber",
        lambda truth, said: truth.keys() - said.keys() == {"transactions"},
    ),
    "another bloom": ("eth_getTransactionReceipt", only("logsBloom", lambda _, after: len(after) == 514)),
    "another root": (
        "eth_getBlockByNumber",
        lambda truth, said: (
            len({key for key in truth if truth[key] != said[key]} & {"transactionsRoot", "receiptsRoot", "stateRoot"})
            == 1
        ),
    ),
    "a block of another height": ("eth_getBlockByNumber", only("number")),
    "a block of another hash": ("eth_getBlockByNumber", only("hash", lambda _, after: is_hash(after))),
    "a block of another parent": ("eth_getBlockByNumber", only("parentHash", lambda _, after: is_hash(after))),
    "a head far ahead": ("eth_getBlockByNumber", only("number", lambda _, after: after == FAR)),
    # receipts
    "a receipt without its logs": (
        "eth_getTransactionReceipt",
        lambda truth, said: said["logs"] == [] and said["status"] == truth["status"],
    ),
    "a receipt that lacks one log": ("eth_getTransactionReceipt", only("logs", logs_lack_one)),
    "a receipt of another block": (
        "eth_getTransactionReceipt",
        lambda truth, said: (truth["blockHash"] != said["blockHash"]) != (truth["blockNumber"] != said["blockNumber"]),
    ),
    "a receipt of status 0x2": ("eth_getTransactionReceipt", only("status", lambda _, after: after == "0x2")),
    "a receipt of the opposite status": ("eth_getTransactionReceipt", only("status", lambda _, after: after == "0x0")),
    "a receipt of no status": (
        "eth_getTransactionReceipt",
        only("status", lambda _, after: after not in {"0x0", "0x1", "0x2"}),
    ),
    # logs
    "a log of another amount": (
        "eth_getLogs",
        lambda truth, said: (
            sum(before["data"] != after["data"] for before, after in zip(truth, said, strict=True)) == 1
        ),
    ),
    "no logs": ("eth_getLogs", lambda _, said: said == []),
    # numbers
    "a pending count too high": ("eth_getTransactionCount", lambda truth, said: int(said, 16) > int(truth, 16)),
    "a count too high": ("eth_getTransactionCount", lambda truth, said: int(said, 16) > int(truth, 16)),
    "a count too low": ("eth_getTransactionCount", lambda truth, said: int(said, 16) < int(truth, 16)),
    "a gas estimate too low": ("eth_estimateGas", lambda truth, said: int(said, 16) < int(truth, 16)),
    "a gas estimate too high": ("eth_estimateGas", lambda truth, said: int(said, 16) > int(truth, 16)),
    "a fee of nothing": ("eth_maxPriorityFeePerGas", lambda _, said: int(said, 16) == 0),
    "a fee far too high": ("eth_maxPriorityFeePerGas", lambda _, said: int(said, 16) >= 10**12),
    "a balance of nothing": ("eth_getBalance", lambda _, said: int(said, 16) == 0),
    "a balance far too high": ("eth_getBalance", lambda truth, said: int(said, 16) > int(truth, 16)),
    "another chain": ("eth_chainId", lambda _, said: 0 < int(said, 16) < 100),
    "a node that is syncing": ("eth_syncing", lambda _, said: said is True),
    # refusals
    "refused": ("eth_getBalance", lambda _, said: isinstance(said, Refusal)),
    "sent, and refused": ("eth_sendRawTransaction", lambda _, said: isinstance(said, Refusal)),
}

BODIES: dict[str, Check] = {
    "a batch that lacks an answer": lambda items, said: len(said) == len(items) - 1,
    "a batch with an answer doubled": lambda items, said: len(said) == len(items) + 1 and said[-1] in items,
    "a batch with two answers to one call": lambda items, said: (
        len(said) == len(items) + 1 and len({item["id"] for item in said}) == len(items) and said != items
    ),
    "a batch reordered": lambda items, said: said != items and sorted(said, key=str) == sorted(items, key=str),
    "a batch with two answers swapped": lambda items, said: (
        [item["id"] for item in said] == [item["id"] for item in items]
        and sorted(item["result"] for item in said) == sorted(item["result"] for item in items)
        and said != items
    ),
    "a batch with a wrong id": lambda items, said: (
        len({str(item["id"]) for item in items} & ids(said)) == len(items) - 1
    ),
    "a batch answered by one error": lambda _, said: said["id"] is None and "error" in said,
    "a batch answered by errors": lambda items, said: len(said) == len(items) and all("error" in item for item in said),
    "a batch answered by its first answer": lambda items, said: said == items[0],
    "a batch answered by an empty list": lambda _, said: said == [],
    "an answer with a wrong id": lambda items, said: type(said["id"]) is not int or said["id"] != items[0]["id"],
    "an answer without result": lambda _, said: said.keys() == {"jsonrpc", "id"},
    "an answer with an odd error": lambda _, said: "result" not in said and said["error"] is not None,
    "an answer in a list": lambda items, said: said == items,
    "an answer nested for nothing": lambda _, said: json.dumps(said).startswith("[[[["),
}


def ids(said: Any) -> set[str]:
    """Return the ids of a batch, with their types."""
    return {str(item["id"]) for item in said if type(item["id"]) is int}


def memory() -> Memory:
    """Return earlier answers: an older balance, and the receipt of another transaction."""
    known = Memory()
    known.remember(call_of("eth_getBalance"), "0xold")
    known.remember(NodeCall("eth_getTransactionReceipt", (HASHES[1],)), "of another")
    return known


def test_every_lie_about_answers_has_a_row() -> None:
    """So that a lie whose name is wrong cannot be added without anyone noticing."""
    assert ROWS.keys() == {name for name, lie in LIES.items() if isinstance(lie, AnswerLie)}
    assert BODIES.keys() == {name for name, lie in LIES.items() if isinstance(lie, BodyLie)}


@pytest.mark.parametrize("name", ROWS)
def test_lie_about_an_answer_does_what_its_name_says(name: str) -> None:
    """Under forty seeds: the answer is wrong as named, the truth itself stays as it is, and a seed repeats it."""
    lie, (method, is_right) = LIES[name], ROWS[name]
    assert isinstance(lie, AnswerLie)
    truth, call = copy.deepcopy(RESULTS[method]), call_of(method)
    assert lie.fits(call)
    for seed in SEEDS:
        said = lie.change(truth, call, random.Random(seed), memory())
        assert said is not TRUTH
        assert is_right(truth, said), said
        assert truth == RESULTS[method]
        assert said == lie.change(truth, call, random.Random(seed), memory())


@pytest.mark.parametrize("name", BODIES)
def test_lie_about_a_body_does_what_its_name_says(name: str) -> None:
    """Under forty seeds, of three answers or of one."""
    lie = LIES[name]
    assert isinstance(lie, BodyLie)
    items = [{"jsonrpc": "2.0", "id": number, "result": hex(number)} for number in range(3 if lie.batches else 1)]
    for seed in SEEDS:
        before = copy.deepcopy(items)
        said = lie.change(items, random.Random(seed))
        assert said is not TRUTH
        assert BODIES[name](items, said), said
        assert items == before


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("a block without its transactions", {**BLOCK, "transactions": []}),
        ("a block that lacks one transaction", {**BLOCK, "transactions": []}),
        ("transactions as hashes only", {**BLOCK, "transactions": HASHES}),
        ("a receipt without its logs", {**RECEIPT, "logs": []}),
        ("a receipt that lacks one log", {**RECEIPT, "logs": []}),
        ("no logs", []),
        ("found nothing", None),
        ("a count too low", "0x0"),
        ("an older answer", "0xold"),
        ("a list emptied", "0x1"),
        ("a field dropped", LOGS[:0]),
    ],
)
def test_truth_is_not_recorded_as_a_lie(name: str, result: Any) -> None:
    """What is true already cannot be told as a lie."""
    lie = LIES[name]
    assert isinstance(lie, AnswerLie)
    for seed in SEEDS:
        assert lie.change(result, call_of("eth_getBalance"), random.Random(seed), memory()) is TRUTH


def test_numbers_of_thousands_of_digits_are_written_as_json() -> None:
    """Python refuses to read them, as an engine must expect."""
    written = write({"number": ENDLESS})
    assert written == b'{"number":' + b"9" * 5000 + b"}"
    with pytest.raises(ValueError, match="4300"):
        json.loads(written)

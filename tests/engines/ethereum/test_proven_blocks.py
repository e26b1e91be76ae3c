"""Blocks and receipts are checked in every part: any change of what their hashes commit to is noticed.

The files of `blocks` are what go-ethereum answered of the test chain in ethereum/execution-apis (CC0): a block after
the Prague fork with transactions of types 0 to 3, and one of type 4.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settlement_core.engines.ethereum.blocks import read_block, read_receipts
from settlement_core.engines.ethereum.encoding import Envelope
from settlement_core.engines.ethereum.reading import parsed, quantity
from settlement_core.engines.ethereum.rpc import NodeError
from tests.engines.ethereum.anvil import open_node
from tests.engines.ethereum.contracts import deploy_token
from tests.engines.ethereum.rig import peer_address

BLOCKS = Path(__file__).parent / "blocks"

BLOCK = json.loads((BLOCKS / "with_blob.json").read_text())
SET_CODE = json.loads((BLOCKS / "set_code_transaction.json").read_text())

ODD: tuple[Any, ...] = (
    *(None, True, 7, -1, 0.5, "", "x", "0x", "0x0", "0x1", "-0x1", "0x" + "f" * 65, "0x" + "0" * 40, "0x" + "7" * 64),
    *("0x" + "9" * 5000, [], {}, [[]], ["0x1"], {"address": "0x1"}, 10**4000, "\ud800"),
)
"""What stands in a field instead."""


def test_a_block_with_every_type_of_transaction_is_what_its_hash_says() -> None:
    """Header, transactions and senders, as another implementation made them."""
    block = read_block(BLOCK, full=True, verify=True)
    assert [one.envelope and one.envelope.type for one in block.transactions] == [1, 3, 0, 2]
    assert {one.signer() for one in block.transactions} == {"0x7435ed30a8b4aeb0877cef0c6e8cffe834eb865f"}
    without = {**BLOCK, "transactions": [one["hash"] for one in BLOCK["transactions"]]}
    assert read_block(without, full=False, verify=True).block_hash == BLOCK["hash"]


def test_a_transaction_that_sets_code_is_read() -> None:
    """Type 4 (EIP-7702)."""
    envelope = Envelope(SET_CODE)
    assert (envelope.tx_hash, envelope.signer()) == (SET_CODE["hash"], SET_CODE["from"])


def _places(said: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each value stands."""
    if path:
        yield path
    parts = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for key, value in parts:
        yield from _places(value, (*path, key))


def _mutated(said: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value at a place; "drop" and "twice" leave it out, or repeat it."""
    changed = copy.deepcopy(said)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value == "drop":
        del place[path[-1]]
    elif value == "twice" and isinstance(place, list):
        place.insert(path[-1], place[path[-1]])
    else:
        place[path[-1]] = value
    return changed


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ANSWERS: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def _answers() -> Iterator[None]:
    """Record what a node answers of a block with a token's transfer and of one that failed."""
    with open_node(automine=False) as node:
        token = deploy_token(node)
        token.transfer(node.accounts[0].address, to=peer_address(), units=5)
        node.rpc(
            "eth_sendTransaction", {"from": peer_address(), "to": token.address, "data": "0x12345678", "gas": "0x186a0"}
        )
        node.mine()
        number = hex(node.height)
        ANSWERS["block"] = node.rpc("eth_getBlockByNumber", number, True)
        ANSWERS["receipts"] = node.rpc("eth_getBlockReceipts", number)
        yield


@PATIENT
@given(st.data())
def test_no_field_of_a_block_can_be_changed_unnoticed(data: st.DataObject) -> None:
    """Every single field of every answer, dropped, doubled or replaced: the same block is read, or none."""
    said = data.draw(st.sampled_from([ANSWERS["block"], BLOCK]))
    changed = _change(data, said)
    truth = read_block(said, full=True, verify=True)
    try:
        found = parsed("block", partial(read_block, full=True, verify=True), changed)
        assert [one.signer() for one in found.transactions] == [one.signer() for one in truth.transactions]
    except NodeError:
        return
    assert found == truth


@PATIENT
@given(st.data())
def test_no_field_of_receipts_can_be_changed_unnoticed(data: st.DataObject) -> None:
    """As of blocks."""
    block = read_block(ANSWERS["block"], full=True, verify=True)
    changed = _change(data, ANSWERS["receipts"])
    truth = read_receipts(ANSWERS["receipts"], block, verify=True)
    try:
        found = parsed("receipts", partial(read_receipts, block=block, verify=True), changed)
    except NodeError:
        return
    assert found == truth


@PATIENT
@given(st.data())
def test_unverified_answers_are_read_or_refused(data: st.DataObject) -> None:
    """Nothing but a node's failure comes of them, and no number is negative or beyond 256 bits."""
    changed = _change(data, ANSWERS["block"])
    try:
        block = parsed("block", partial(read_block, full=True, verify=False), changed)
        receipts = parsed(
            "receipts",
            partial(read_receipts, block=block, verify=False),
            _change(data, ANSWERS["receipts"]),
        )
    except NodeError:
        return
    assert all(0 <= one.value < 2**256 for one in block.transactions)
    assert all(one.fee >= 0 for one in receipts)


def _change(data: st.DataObject, said: Any) -> Any:
    path = data.draw(st.sampled_from(list(_places(said))))
    return _mutated(said, path, data.draw(st.sampled_from((*ODD, "drop", "twice"))))


@pytest.mark.parametrize("said", ["0x" + "f" * 65, "0x", "-0x1", "0x-1", "1", "0x1_0", " 0x1", "0x1\n", 1, True, None])
def test_a_number_has_256_bits_and_no_sign(said: object) -> None:
    """What Python's `int` would take beside that is no number of a chain."""
    with pytest.raises(NodeError, match="the node's count cannot be read"):
        parsed("count", quantity, said)

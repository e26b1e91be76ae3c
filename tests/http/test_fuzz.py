"""Whatever bytes come in: never a 5xx, nothing recorded unless the answer is a 2xx, nothing bad for the engine."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settlement_core.http.requests import (
    CreateAccount,
    DescribeApi,
    Dialect,
    HandleMessage,
    RequestSettlement,
    find_route,
    read_intent,
)
from settlement_core.testing.clocks import virtual_backend
from settlement_core.values.amounts import Quantity, check_amount
from settlement_core.values.errors import InvalidQuantity, LocalError
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.json_text import decode_json, encode_json
from settlement_core.values.records import AttemptState
from tests.core.worlds import D, MinimalEngine, World, until
from tests.http.asgi import books, serving

METHODS = ["GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW"]
SEGMENTS = [b"accounts", b"alice", b"bob", b"settlements", b"settlement", b"messages", b"", b".", b"..", b"%2e", b"%00"]

FIELD_BYTES = [9, *range(0x20, 0x7F), *range(0x80, 0x100)]
"""What a server lets through in a header (RFC 9110, section 5.5)."""

segments = st.one_of(st.sampled_from(SEGMENTS), st.sampled_from(SEGMENTS), st.binary(max_size=12))
paths = st.one_of(
    st.sampled_from(
        [b"/accounts", b"/accounts/alice", b"/accounts/alice/settlements", b"/accounts/alice/messages"],
    ),
    st.lists(segments, max_size=6).map(lambda parts: b"/" + b"/".join(parts)),
    st.binary(max_size=40).map(lambda raw: b"/" + raw),
)

# what JSON allows, and what only looks like it
numbers = st.one_of(
    st.integers(),
    st.integers(0, 300),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 1e308, float("nan"), float("inf"), 2**63, 2**64, -0.0]),
)
texts = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[0-9]{1,30}", fullmatch=True),
    st.sampled_from(
        ["0", "00", "1" * 1000, "1" * 1001, "-1", "1.0", "1e9", "٣", "\ud800", "alice", "bob", "a:b", "..", ""]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
members = st.lists(
    st.tuples(
        st.sampled_from(["amount", "amount", "scale", "scale", "id", "accountId", "x"]), st.one_of(values, texts)
    ),
    max_size=5,
)


def _written(pairs: list[tuple[str, Any]]) -> bytes:
    """Write an object by hand, so that members may come twice."""
    written = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    return ("{" + written + "}").encode("utf-8", "surrogatepass")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a good body with some bytes changed, lost, doubled or put in front."""
    body = bytearray(
        draw(
            st.sampled_from(
                [b'{"amount":"12","scale":3}', b'{"id":"carol"}', b'{"id":null}', b'{"accountId":"dave"}', b'[0,"x"]']
            )
        )
    )
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["set", "cut", "put", "bom", "nest"])):
            case "set":
                body[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del body[at : at + draw(st.integers(1, 5))]
            case "put":
                body[at:at] = draw(st.binary(max_size=5))
            case "bom":
                body[0:0] = b"\xef\xbb\xbf"
            case "nest":
                depth = draw(st.sampled_from([1, 50, 2000, 7000]))
                body[:] = b"[" * depth + body + b"]" * depth
    return bytes(body)


bodies = st.one_of(mutated(), mutated(), members.map(_written), members.map(_written), st.binary(max_size=60))

header_values = st.one_of(
    st.sampled_from(
        [
            b"application/json",
            b"application/json; charset=utf-8",
            b"application/octet-stream",
            b"text/plain",
            b"key",
            b"",
            b"0",
            b"-1",
            b"99999999999999999999",
            b"chunked",
            b"100-continue",
            b"websocket",
        ]
    ),
    st.lists(st.sampled_from(FIELD_BYTES), max_size=20).map(bytes),
    st.just(b"k" * 300),
)
header_names = st.sampled_from(
    [b"content-type", b"idempotency-key", b"content-length", b"accept", b"expect", b"upgrade", b"cookie", b"host"]
)
odd_headers = st.lists(st.tuples(header_names, header_values), max_size=4)
good_headers = st.sampled_from(
    [
        [(b"content-type", b"application/json"), (b"idempotency-key", b"key")],
        [(b"content-type", b"application/json")],
        [(b"content-type", b"application/octet-stream")],
    ]
)
headers = st.one_of(good_headers, st.builds(lambda good, odd: good + odd, good_headers, odd_headers), odd_headers)


class Guarded(MinimalEngine):
    """Refuses to be asked for anything that no good request holds."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay only what is a fair amount."""
        assert account_id
        assert isinstance(amount, Decimal)
        assert amount > 0
        return await super().settle(account_id, amount)

    async def handle_message(self, account_id: str, message: object) -> object:
        """Answer."""
        json.dumps(message, allow_nan=False)
        return message


async def _one_life(requests: list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]]) -> None:
    world = World(Guarded())
    async with serving(world) as client:
        for name in ("alice", "bob"):
            await client.create(name)
        for method, path, given_headers, body in requests:
            await until(lambda: client.core.statistics().active_lanes == 0)
            kept, calls = books(world.store), len(world.engine.calls)
            answer = await client.request(method, path, *given_headers, body=body)
            assert answer.status < 500, answer
            if answer.status >= 300:
                assert books(world.store) == kept, answer
                assert len(world.engine.calls) == calls
        assert (await client.settle("1", 3, "the last one", "bob")).status in {201, 404}
        await client.create("bob")
        assert (await client.settle("1", 3, "after all", "bob")).status == 201
        await until(lambda: client.core.statistics().active_lanes == 0)
        assert client.core.statistics().halted == {}
        accounts, attempts, _, _ = books(world.store)
        assert {attempt.state for attempt in attempts} == {AttemptState.CLOSED}
        assert D("0.001") in {attempt.amount for attempt in attempts} | {
            account.outgoing.settled for account in accounts
        }


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=st.lists(st.tuples(st.sampled_from(METHODS), paths, headers, bodies), min_size=1, max_size=12))
def test_nothing_that_comes_in_breaks_the_books(
    backend: str, requests: list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]]
) -> None:
    """Sequences of arbitrary and of almost right requests; each is compared with the books row by row."""
    name, options = virtual_backend(backend)
    anyio.run(_one_life, requests, backend=name, backend_options=options)


# what is parsed, part by part: many more examples than whole servers could be given

good_amounts = st.one_of(
    st.integers(0, 10**40).map(str), st.integers(0, 10**1000 - 1).map(str), st.sampled_from(["0", "007", "9" * 1000])
)
odd_amounts = st.one_of(
    st.sampled_from(["", "-1", "+1", "1.0", "1e9", "1\n", " 1", "1_0", "0x1", "1" * 1001, None, 1, True, ["1"]]),
    # digits of other scripts, powers, fractions, numerals
    st.text(st.characters(categories=["Nd", "Nl", "No"]), min_size=1, max_size=3),
    texts,
    values,
)
odd_scales = st.one_of(st.sampled_from([True, False, -1, 256, 3.0, -0.0, "3", None, [3], 10**400]), values)


def _quantities(amounts: st.SearchStrategy[Any], scales: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"amount": amounts, "scale": scales}, optional={"x": values})


# mostly good but for one thing
near_quantities = st.one_of(
    _quantities(good_amounts, st.integers(0, 255)),
    _quantities(odd_amounts, st.integers(0, 255)),
    _quantities(good_amounts, odd_scales),
    st.fixed_dictionaries({}, optional={"amount": good_amounts, "scale": st.integers(0, 255)}),
    values,
)


def _is_quantity(value: Any) -> bool:
    """Tell whether RFC 38 would have written it, by other means than the code does."""
    if not isinstance(value, dict):
        return False
    amount, scale = value.get("amount"), value.get("scale")
    return (
        isinstance(amount, str)
        and re.fullmatch("[0-9]{1,1000}", amount, re.ASCII) is not None
        and isinstance(scale, int)
        and not isinstance(scale, bool)
        and scale in range(256)
    )


@settings(max_examples=1000, deadline=None)
@given(value=near_quantities)
def test_a_quantity_is_what_rfc_38_writes_and_keeps_every_digit(value: Any) -> None:
    """Taken if and only if it is one; then its value is that of the integer and the power of ten, exactly."""
    if not _is_quantity(value):
        with pytest.raises(InvalidQuantity) as refused:
            Quantity.parse(value)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 100, "what was sent is not echoed"
        return
    quantity = Quantity.parse(value)
    amount = quantity.to_amount()
    assert Fraction(amount) == Fraction(int(value["amount"]), 10 ** value["scale"])
    assert check_amount(amount, "amount") == amount
    written = Quantity.of(amount)
    assert (int(written.amount), written.scale) == (int(value["amount"]), value["scale"])


@settings(max_examples=1000, deadline=None)
@given(
    body=st.one_of(
        bodies,
        values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
        st.sampled_from([b"1e999", b"-1e999", b'{"a":[1e400]}', b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000]),
    )
)
def test_a_message_is_json_that_can_be_written_again_or_refused_in_one_sentence(body: bytes) -> None:
    """What is taken for JSON comes back the same from being written and read; nothing but ValueError comes out."""
    sentence = ""
    try:
        message = decode_json(body)
    except ValueError as refused:
        sentence = str(refused)
    if sentence:
        assert sentence.startswith("it ")
        assert len(sentence) < 100, "what was sent is not echoed"
        return
    assert decode_json(encode_json(message)) == message
    assert encode_json(message).isascii()


@st.composite
def near_settlements(draw: st.DrawFn) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    """Return a request to settle that is good but perhaps for its body, whose members may come twice."""
    pairs = list(draw(near_quantities.filter(lambda value: isinstance(value, dict))).items())
    pairs += draw(st.sampled_from([[], [], pairs, [("scale", 3)], [("amount", "1")]]))
    key = (b"idempotency-key", draw(st.one_of(st.just(b"key"), header_values)))
    return "POST", b"/accounts/alice/settlements", [(b"content-type", b"application/json"), key], _written(pairs)


@settings(max_examples=1000, deadline=None)
@given(
    request=st.one_of(near_settlements(), st.tuples(st.sampled_from(METHODS), paths, headers, bodies)),
    rafiki=st.booleans(),
)
def test_a_request_is_a_whole_intent_or_refused(
    request: tuple[str, bytes, list[tuple[bytes, bytes]], bytes], rafiki: bool
) -> None:
    """Of whatever bytes: an intent whose ids, key and amount are good, or a `LocalError`, or none of our paths."""
    method, path, given_headers, body = request
    dialect = Dialect(rafiki=rafiki)
    intent, sentence = None, "none of ours"
    try:
        route = find_route(method, path, dialect)
        intent = None if route is None else read_intent(route, given_headers, body, dialect)
    except LocalError as refused:
        sentence = str(refused)
    match intent:
        case None:
            assert sentence.isprintable()
            assert 10 < len(sentence) < 400
        case RequestSettlement(account_id, amount, key):
            members = json.loads(body, object_pairs_hook=list)
            content = dict(members)
            assert len(content) == len(members), "of an amount that comes twice nobody knows which is meant"
            assert _is_quantity(content)
            assert check_account_id(account_id) in path.decode()
            assert check_key(key, "key")
            assert Fraction(amount) == Fraction(int(content["amount"]), 10 ** content["scale"])
        case CreateAccount(account_id):
            assert account_id is None or check_account_id(account_id) in json.loads(body).values()
        case HandleMessage(_, message):
            assert message == body
        case DescribeApi():
            assert method == "GET"

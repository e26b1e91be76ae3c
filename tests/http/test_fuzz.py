"""Whatever bytes come in: never a 5xx, nothing recorded unless the answer is a 2xx, nothing bad for the engine."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settlement_core.testing.clocks import virtual_backend
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
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=st.lists(st.tuples(st.sampled_from(METHODS), paths, headers, bodies), min_size=1, max_size=12))
def test_nothing_that_comes_in_breaks_the_books(
    backend: str, requests: list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]]
) -> None:
    """Sequences of arbitrary and of almost right requests; each is compared with the books row by row."""
    name, options = virtual_backend(backend)
    anyio.run(_one_life, requests, backend=name, backend_options=options)

"""What any connector used with an engine must do, as a check to run against one (RFC 38, "Accounting System HTTP API").

The check plays both engines on loopback sockets and talks plain HTTP to the connectors. How two connectors are
started and joined, and how their books are read, is the caller's to say: see `ConnectorPair`.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import JSON, OCTETS, Answer, json_answer
from settlement_core.values.amounts import Quantity, total

if TYPE_CHECKING:
    import httpx2

__all__ = ["CLAIMS", "ConnectorPair", "ConnectorSide", "OpenPair", "check_connector", "find_deviations"]

CLAIM_S: Final = 60.0
"""Seconds one claim may take."""

CALL_S: Final = 30.0
"""Seconds one request may take: the least a client waits for a message."""

MAX_MESSAGE: Final = 32_767
"""Bytes a connector must carry: what fits into the data of one ILP packet."""

BAD_QUANTITIES: Final[tuple[bytes, ...]] = (
    b'{"amount":"-5","scale":0}',
    b'{"amount":"1.5","scale":0}',
    b'{"amount":"1e3","scale":0}',
    b'{"amount":"","scale":0}',
    b'{"amount":"seven","scale":0}',
    b'{"amount":"5","scale":-1}',
    b'{"amount":"5","scale":256}',
    b'{"amount":"5","scale":1.5}',
    b'{"amount":"5"}',
    b'{"scale":5}',
    b"[]",
    b"null",
    b"",
    b"\xff\xfe not JSON",
)
"""What no connector may credit."""


@dataclass(frozen=True, slots=True)
class ConnectorSide:
    """One connector of a pair.

    Attributes:
        url: its base URL for engines.
        account_id: the account of the other side, as its engine calls it.
        credited: how to read what that account was credited, in standard units.
    """

    url: str
    account_id: str
    credited: Callable[[], Awaitable[Decimal]]


@dataclass(frozen=True, slots=True)
class ConnectorPair:
    """Two connectors whose accounts are each other's peers."""

    left: ConnectorSide
    right: ConnectorSide


OpenPair: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[ConnectorPair]]
"""Opens a fresh pair, given the base URLs of the left and the right connector's engine."""


async def check_connector(open_pair: OpenPair) -> None:
    """Raise AssertionError, naming every broken claim, unless the connectors keep all of `CLAIMS`."""
    broken = await find_deviations(open_pair)
    if broken:
        told = "".join(f"\n- {name}: {problem}" for name, problem in broken.items())
        raise AssertionError(f"this connector breaks {len(broken)} of {len(CLAIMS)} claims:{told}")


async def find_deviations(open_pair: OpenPair) -> dict[str, str]:
    """Return the broken claims by name, each with what was found instead. Every claim gets a fresh pair."""
    broken: dict[str, str] = {}
    for claim in CLAIMS:
        async with _open_bench(open_pair) as bench:
            # caught in here: whatever task groups the pair is made of would wrap it
            try:
                with anyio.fail_after(CLAIM_S):
                    await claim(bench)
            except AssertionError as error:
                broken[claim.__name__] = str(error)
            except TimeoutError:
                broken[claim.__name__] = f"not done within {CLAIM_S:g} s"
    return broken


class _StubEngine:
    """An engine that answers every message with what it is told to."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.reply = Answer(201, b"ok", {"content-type": OCTETS})

    async def respond(self, _method: str, path: str, _headers: dict[str, str], body: bytes) -> Answer:
        """Answer one request of the connector."""
        if path.endswith("/messages"):
            self.messages.append(body)
            return self.reply
        if path.endswith("/accounts"):
            return json_answer(201, {"id": json.loads(body).get("id") or str(uuid.uuid4())})
        return json_answer(201, json.loads(body or b"{}"))


@dataclass(frozen=True, slots=True)
class _Bench:
    """A pair, its two stub engines, and a client."""

    pair: ConnectorPair
    left_engine: _StubEngine
    right_engine: _StubEngine
    client: httpx2.AsyncClient

    async def credit(
        self, body: bytes | Quantity, *, key: str | None, account_id: str | None = None, note: str = "credit"
    ) -> httpx2.Response:
        """Tell the left connector of an incoming settlement."""
        content = body if isinstance(body, bytes) else json.dumps(body.to_json()).encode()
        headers = {"content-type": JSON, "accept": JSON}
        if key is not None:
            headers["idempotency-key"] = key
        side = self.pair.left
        return await self._post(
            f"{side.url}/accounts/{account_id or side.account_id}/settlements", content, headers, note
        )

    async def send(self, side: ConnectorSide, message: bytes, *, account_id: str | None = None) -> httpx2.Response:
        """Hand a message to a connector."""
        url = f"{side.url}/accounts/{account_id or side.account_id}/messages"
        return await self._post(url, message, {"content-type": OCTETS, "accept": OCTETS}, "message")

    async def _post(self, url: str, content: bytes, headers: dict[str, str], note: str) -> httpx2.Response:
        import httpx2  # noqa: PLC0415

        try:
            return await self.client.post(url, content=content, headers=headers)
        except httpx2.TransportError as error:
            raise AssertionError(f"no answer to a {note}: {error or type(error).__name__}") from None

    async def expect_credited(self, expected: Decimal, after: str) -> None:
        """Look into the left books."""
        found = await self.pair.left.credited()
        assert found == expected, f"credited {found:f} instead of {expected:f} after {after}"


@asynccontextmanager
async def _open_bench(open_pair: OpenPair) -> AsyncIterator[_Bench]:
    import httpx2  # noqa: PLC0415

    left, right = _StubEngine(), _StubEngine()
    async with (
        open_server(left.respond) as left_url,
        open_server(right.respond) as right_url,
        # a bare context: connectors are called by plain HTTP
        httpx2.AsyncClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=CALL_S) as client,
        open_pair(left_url, right_url) as pair,
    ):
        yield _Bench(pair, left, right, client)


def _key() -> str:
    return str(uuid.uuid4())


def _ok(response: httpx2.Response) -> bool:
    return 200 <= response.status_code < 300


def _expect(response: httpx2.Response, statuses: range | tuple[int, ...], to: str) -> None:
    wanted = f"{statuses[0]}-{statuses[-1]}" if isinstance(statuses, range) else " or ".join(map(str, statuses))
    assert response.status_code in statuses, f"status {response.status_code} instead of {wanted} to {to}"


# the claims


async def credits_what_it_is_told(bench: _Bench) -> None:
    """A credit is answered 2xx and booked, to the last digit."""
    _expect(await bench.credit(Quantity("468200000", 8), key=_key()), range(200, 300), "a credit")
    await bench.expect_credited(Decimal("4.682"), "4.682 under one key")


async def credits_every_key(bench: _Bench) -> None:
    """The same amount under another key is another settlement."""
    for _ in range(3):
        _expect(await bench.credit(Quantity("5", 1), key=_key()), range(200, 300), "a credit")
    await bench.expect_credited(Decimal("1.5"), "0.5 under three keys")


async def credits_once_per_key(bench: _Bench) -> None:
    """However often a credit is repeated under its key, it is booked once."""
    key = _key()
    for _ in range(3):
        await bench.credit(Quantity("7", 0), key=key)
    await bench.expect_credited(Decimal(7), "7 sent three times under one key")


async def replays_the_first_answer(bench: _Bench) -> None:
    """The same key gets the same response (RFC 38, "Handling idempotent requests")."""
    key = _key()
    first = await bench.credit(Quantity("7", 0), key=key)
    again = await bench.credit(Quantity("7", 0), key=key)
    found = (again.status_code, again.content)
    assert found == (first.status_code, first.content), f"status {again.status_code} after {first.status_code}"


async def credits_once_in_a_crowd(bench: _Bench) -> None:
    """Ten repetitions at the same time are booked once."""
    key = _key()
    problems: list[AssertionError] = []

    async def repeat() -> None:
        try:
            await bench.credit(Quantity("3", 0), key=key)
        except AssertionError as error:
            problems.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(repeat)
    assert not problems, f"{len(problems)} of 10 repetitions at once: {problems[0]}"
    await bench.expect_credited(Decimal(3), "3 sent ten times at once under one key")


async def refuses_another_amount_under_a_key(bench: _Bench) -> None:
    """A key is tied to its first amount: another one is a conflict and changes nothing."""
    key = _key()
    await bench.credit(Quantity("7", 0), key=key)
    _expect(await bench.credit(Quantity("8", 0), key=key), (409,), "another amount under the same key")
    await bench.expect_credited(Decimal(7), "7 and then 8 under one key")


async def refuses_a_credit_without_key(bench: _Bench) -> None:
    """A credit that could not be told from its repetition is refused."""
    response = await bench.credit(Quantity("7", 0), key=None, note="credit without key")
    _expect(response, (400,), "a credit without key")
    await bench.expect_credited(Decimal(0), "a credit without key")


async def refuses_an_unknown_account(bench: _Bench) -> None:
    """An account it does not have is 404, and nobody is credited."""
    response = await bench.credit(Quantity("7", 0), key=_key(), account_id=str(uuid.uuid4()))
    _expect(response, (404,), "a credit for an unknown account")
    await bench.expect_credited(Decimal(0), "a credit for another account")


async def refuses_zero(bench: _Bench) -> None:
    """A settlement of nothing is 4xx."""
    for zero in (Quantity("0", 0), Quantity("000", 255)):
        _expect(await bench.credit(zero, key=_key()), range(400, 500), "a credit of zero")
    await bench.expect_credited(Decimal(0), "a credit of zero")


async def refuses_bad_quantities(bench: _Bench) -> None:
    """Negative and garbled quantities are 4xx and change nothing."""
    for body in BAD_QUANTITIES:
        response = await bench.credit(body, key=_key(), note=f"quantity {body!r}")
        _expect(response, range(400, 500), f"quantity {body!r}")
        await bench.expect_credited(Decimal(0), f"quantity {body!r}")


async def keeps_every_digit(bench: _Bench) -> None:
    """Amounts beyond 64 bits and beyond floating point are booked exactly."""
    amounts = (Quantity("9" * 60, 0), Quantity(str(2**53 + 1), 0), Quantity("1", 0))
    for amount in amounts:
        _expect(await bench.credit(amount, key=_key()), range(200, 300), f"amount {amount.amount}")
    await bench.expect_credited(total(amount.to_amount() for amount in amounts), "amounts beyond 64 bits")


async def keeps_every_fraction(bench: _Bench) -> None:
    """What is finer than the connector's own scale is not lost once it adds up."""
    # nine times 1.111…, and the last digit that is missing to 10: fractions at every scale up to 24
    for amount in (*[Quantity("1" * 25, 24)] * 9, Quantity("1", 24)):
        _expect(await bench.credit(amount, key=_key()), range(200, 300), "a fine credit")
    await bench.expect_credited(Decimal(10), "fractions that add up to 10")


async def carries_messages_byte_for_byte(bench: _Bench) -> None:
    """A message reaches the peer's engine, and its answer comes back, unchanged at any size a packet can hold."""
    every_byte = bytes(range(256))
    for size in (1, 256, MAX_MESSAGE):
        message = (every_byte * 128)[:size]
        await _expect_carried(bench, message, answer=message[::-1])
        await _expect_carried(bench, b"?", answer=message)


async def _expect_carried(bench: _Bench, message: bytes, *, answer: bytes) -> None:
    reply = Answer(201, answer, {"content-type": OCTETS})
    ways = ((bench.pair.left, bench.right_engine), (bench.pair.right, bench.left_engine))
    for side, engine in ways:
        engine.reply = reply
        engine.messages.clear()
        response = await bench.send(side, message)
        _expect(response, range(200, 300), f"a message of {len(message)} bytes")
        assert set(engine.messages) == {message}, f"a message of {len(message)} bytes did not arrive unchanged"
        assert response.content == answer, f"an answer of {len(answer)} bytes did not come back unchanged"


async def tells_that_a_message_failed(bench: _Bench) -> None:
    """What the peer's engine refused does not look like its answer."""
    bench.right_engine.reply = Answer(500, b"cannot", {"content-type": "text/plain"})
    response = await bench.send(bench.pair.left, b"hello")
    assert not _ok(response), f"status {response.status_code} though the peer's engine answered 500"


async def refuses_messages_of_unknown_accounts(bench: _Bench) -> None:
    """A message for an account it does not have is 404 and reaches nobody."""
    response = await bench.send(bench.pair.left, b"hello", account_id=str(uuid.uuid4()))
    _expect(response, (404,), "a message for an unknown account")
    assert not bench.right_engine.messages, "a message for an unknown account reached an engine"


Claim: TypeAlias = Callable[[_Bench], Coroutine[None, None, None]]

CLAIMS: Final[tuple[Claim, ...]] = (
    credits_what_it_is_told,
    credits_every_key,
    credits_once_per_key,
    replays_the_first_answer,
    credits_once_in_a_crowd,
    refuses_another_amount_under_a_key,
    refuses_a_credit_without_key,
    refuses_an_unknown_account,
    refuses_zero,
    refuses_bad_quantities,
    keeps_every_digit,
    keeps_every_fraction,
    carries_messages_byte_for_byte,
    tells_that_a_message_failed,
    refuses_messages_of_unknown_accounts,
)
"""Every claim, its name as its promise. One claim fails without hiding the others."""

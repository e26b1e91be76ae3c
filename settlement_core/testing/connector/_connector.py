"""The test connector: books, a server for its engine to call, and a client that calls its engine."""

from __future__ import annotations

import json
import random
import ssl
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import anyio

from settlement_core.testing.connector._books import AccountBooks, Books
from settlement_core.testing.connector._faults import Faults, Incoming, next_fault
from settlement_core.testing.connector._modes import MODES, Mode, ModeName
from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import JSON, OCTETS, Answer, Request, json_object, problem
from settlement_core.values.amounts import Quantity, check_amount, floor, plain
from settlement_core.values.errors import InvalidAmount, LocalError, RemoteError

if TYPE_CHECKING:
    import httpx2

__all__ = ["EngineRefused", "EngineSilent", "TestConnector", "link_accounts", "open_test_connector"]

MAX_MESSAGE = 32_767
"""Bytes that fit into the data of one ILP packet, in either direction."""

PATIENCE_S = 30.0
"""Seconds after which one call of the engine is given up, retries and all."""


class EngineRefused(LocalError):
    """The engine answered "never"."""

    def __init__(self, tried: str, answer: Answer) -> None:
        super().__init__(f"the engine refused to {tried}: status {answer.status}, {answer.body[:200]!r}")
        self.status = answer.status
        self.body = answer.body


class EngineSilent(RemoteError):
    """The engine gave no usable answer in time; whether it took the request is unknown."""

    def __init__(self, tried: str, tries: int, last: Answer | None) -> None:
        found = "there was no answer" if last is None else f"the last answer was status {last.status}"
        super().__init__(f"gave up asking the engine to {tried} after {tries} tries: {found}")
        self.tries = tries


@dataclass(slots=True)
class _Asked:
    """A settlement asked for under one key; only the first time counts."""

    account_id: str
    quantity: Quantity
    booked: bool = False


class TestConnector:
    """One accounting system, served at `url` by `open_test_connector`, which also ends it.

    Attributes:
        url: the base URL its engine is given.
        engine_url: the base URL of its engine; may be set once that is known.
        mode: its habits.
        books: what it asked for and what it was credited.
        faults: what befalls the next requests of its engine.
        received: those requests, in order.
    """

    __test__ = False  # it is not a test, whatever pytest makes of its name

    def __init__(
        self,
        client: httpx2.AsyncClient,
        mode: Mode,
        *,
        engine_url: str,
        base_path: str,
        patience_s: float,
        seed: int | None,
    ) -> None:
        self.url = ""
        self.engine_url = engine_url
        self.mode = mode
        self.books = Books()
        self.faults: Faults = deque()
        self.received: list[Incoming] = []
        self._client = client
        self._base_path = base_path
        self._patience_s = patience_s
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._peers: dict[str, tuple[TestConnector, str]] = {}
        self._asked: dict[str, _Asked] = {}

    def __repr__(self) -> str:
        return f"<TestConnector {self.url}, {len(self.books.accounts)} accounts>"

    def account(self, account_id: str) -> AccountBooks:
        """Return an account's books. Raises KeyError for one that was never opened."""
        return self.books.accounts[account_id]

    # what it asks of its engine

    async def create_account(self, account_id: str, *, scale: int | None = None) -> str:
        """Open an account here and at the engine, trying as settlements do; return what the engine calls it."""
        tried = f"create account {account_id!r}"
        account = self.books.open(account_id, scale=self.mode.scale if scale is None else scale)
        body = json.dumps(self.mode.create_body(account_id)).encode()
        retries = self.mode.retries if self.mode.create_again else _never
        headers = {"content-type": JSON, "accept": JSON}
        answer = await self._ask(tried, "/accounts", body, headers=headers, retries=retries)
        if self.mode.engine_names:
            given = (json_object(answer.body) or {}).get("id")
            if not isinstance(given, str) or not given:
                raise EngineRefused(tried, answer)
            account.engine_id = given
        return account.engine_id

    async def delete_account(self, account_id: str) -> None:
        """Have the engine forget the account, if connectors of this kind ever do; our books stay."""
        if self.mode.deletes:
            path = f"/accounts/{quote(self.account(account_id).engine_id, safe='')}"
            await self._ask(f"delete account {account_id!r}", path, b"", headers={}, method="DELETE")

    async def settle(
        self, account_id: str, amount: Decimal, *, key: str | None = None, scale: int | None = None
    ) -> str:
        """Book and ask the engine to settle `amount` standard units; return the idempotency key.

        As long as nobody answers, or the engine says "later", the same is sent again (RFC 38, "Retry behavior"; some
        modes do otherwise), for `patience_s` altogether. The same key again is the same settlement: it is booked
        once. Raises `EngineRefused` (nothing stays booked) or `EngineSilent` (booked, unless the mode takes it back).
        """
        quantity = _quantity(amount, scale)
        key = self._new_key() if key is None else key
        account = self.account(account_id)
        asked = self._asked.setdefault(key, _Asked(account_id, quantity))
        if (asked.account_id, asked.quantity) != (account_id, quantity):
            raise LocalError(f"idempotency key {key!r} was used for {asked.quantity} of account {asked.account_id!r}")
        if not asked.booked:
            asked.booked = True
            account.request(quantity.to_amount(), key)
        tried = f"settle {amount:f} with account {account_id!r}"
        path = f"/accounts/{quote(account.engine_id, safe='')}/{self.mode.settle_path}"
        body = json.dumps(self.mode.settle_body(quantity)).encode()
        try:
            answer = await self._ask(tried, path, body, headers={"content-type": JSON, "accept": JSON}, key=key)
            if self.mode.needs_quantity and not {"amount", "scale"} <= (json_object(answer.body) or {}).keys():
                raise EngineRefused(tried, answer)  # refunded below like any refusal
        except (EngineRefused, EngineSilent) as error:
            if asked.booked and (self.mode.refunds or isinstance(error, EngineRefused)):
                asked.booked = False
                account.refund(quantity.to_amount(), key)
            raise
        return key

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Hand a message to our own engine, as though the peer had sent it, and return its answer."""
        answer = await self._hand_over(account_id, message)
        if answer is None:
            raise EngineSilent(f"take a message for account {account_id!r}", self.mode.message_tries, None)
        if not answer.ok:
            raise EngineRefused(f"take a message for account {account_id!r}", answer)
        return answer.body

    async def _hand_over(self, account_id: str, message: bytes) -> Answer | None:
        path = f"/accounts/{quote(self.account(account_id).engine_id, safe='')}/messages"
        with anyio.move_on_after(self._patience_s):
            for _ in range(self.mode.message_tries):
                headers = {"content-type": OCTETS, "accept": OCTETS}
                if self.mode.message_key:
                    headers = {"content-type": OCTETS, "idempotency-key": self._new_key()}
                answer = await self._call("POST", path, message, headers)
                if answer is not None:
                    return answer
                await anyio.sleep(self.mode.pause_s(1, self._random.random(), False))
        return None

    async def _ask(
        self,
        tried: str,
        path: str,
        body: bytes,
        *,
        headers: dict[str, str],
        key: str | None = None,
        method: str = "POST",
        retries: Callable[[int], bool] | None = None,
    ) -> Answer:
        """Call the engine until it answers for good, or patience or tries run out."""
        retries = retries or self.mode.retries
        tries = 0
        answer: Answer | None = None
        with anyio.move_on_after(self._patience_s):
            while self.mode.tries is None or tries < self.mode.tries:
                sent = dict(headers)
                if key is not None and self.mode.keys != "none":
                    sent["idempotency-key"] = key if self.mode.keys == "settlement" else self._new_key()
                if tries:
                    pause_s = self.mode.pause_s(tries, self._random.random(), answer is not None)
                    await anyio.sleep(pause_s)
                tries += 1
                answer = await self._call(method, path, body, sent)
                if answer is not None and answer.ok:
                    return answer
                if answer is not None and not retries(answer.status or 0):
                    break
        if answer is not None and not retries(answer.status or 0):
            raise EngineRefused(tried, answer)
        raise EngineSilent(tried, tries, answer)

    async def _call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer | None:
        """Send one request to the engine; return its answer, or None."""
        if not self.engine_url:
            raise LocalError("the test connector has no engine: set engine_url first")
        url = self.engine_url.rstrip("/") + path
        try:
            with anyio.fail_after(self.mode.try_s):
                response = await self._client.request(method, url, content=body, headers=headers)
        except Exception:  # noqa: BLE001  an engine may be killed at any byte; there was no answer
            return None
        return Answer(response.status_code, response.content, dict(response.headers))

    def _new_key(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    # what its engine asks of it

    async def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer one request of the engine, with the fault that befalls it."""
        segments = [unquote(part) for part in path.removeprefix(self._base_path).split("/")]
        if not path.startswith(f"{self._base_path}/") or len(segments) != 4 or segments[1] != "accounts":
            return problem(404, "Not Found", "no such endpoint")
        if segments[3] not in self.mode.credit_paths | {"messages"}:
            return problem(404, "Not Found", "no such endpoint")
        if method != "POST":
            return problem(405, "Method Not Allowed", "only POST is")
        request = Request(segments[2], headers, body, anyio.current_time())
        kind = "message" if segments[3] == "messages" else "credit"
        incoming = Incoming(kind, request.account_id, request.key, len(self.received))  # type: ignore[arg-type]
        self.received.append(incoming)
        fault = next_fault(self.faults, incoming)
        answer = problem(500, "Internal Server Error", "the test connector was told not to act")
        for _ in range(1 if fault is None else fault.times):
            answer = await self._message(request) if kind == "message" else self.mode.credit(self.books, request)
        if fault is not None:
            await anyio.sleep(fault.delay_s)
        return answer if fault is None or fault.answer is None else fault.answer

    async def _message(self, request: Request) -> Answer:
        """Carry a message to the peer's engine, and its answer back."""
        objection = self.mode.objection(self.books, request)
        if objection is not None:
            return objection
        account = self.books.find(request.account_id)
        if account is None:
            return self.mode.missing(request.account_id)
        peer = self._peers.get(account.account_id)
        if peer is None:
            return self.mode.rejected("F02", "there is no route to the peer")
        if len(request.body) > MAX_MESSAGE:
            return self.mode.rejected("F08", "the message is too large for a packet")
        connector, account_id = peer
        answer = await connector._hand_over(account_id, request.body)  # noqa: SLF001  one of us
        if answer is None:
            return self.mode.rejected("T00", "the settlement engine did not answer")
        if not answer.ok:
            told = f"Settlement engine rejected request with error code: {answer.status}"
            return self.mode.rejected("F00" if 400 <= (answer.status or 0) < 500 else "T00", told)
        if len(answer.body) > MAX_MESSAGE:
            return self.mode.rejected("F08", "the answer is too large for a packet")
        return self.mode.carried(answer.body)


def link_accounts(left: TestConnector, left_account: str, right: TestConnector, right_account: str) -> None:
    """Make two accounts peers: what one's engine sends, the other's engine receives."""
    left._peers[left_account] = (right, right_account)  # noqa: SLF001
    right._peers[right_account] = (left, left_account)  # noqa: SLF001


@asynccontextmanager
async def open_test_connector(
    mode: ModeName | Mode = "rfc38",
    *,
    engine_url: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    base_path: str = "",
    patience_s: float = PATIENCE_S,
    seed: int | None = None,
) -> AsyncIterator[TestConnector]:
    """Serve a connector on a loopback socket until the block ends, on trio or asyncio.

    Args:
        mode: whose habits it has, by name or as a table row of your own.
        engine_url: where its engine listens, by plain HTTP; may be set later.
        host: address to bind.
        port: port to bind, 0 for any free one.
        base_path: path before `/accounts`, such as `/secret`.
        patience_s: seconds after which one call of the engine is given up.
        seed: makes its keys and pauses repeatable; never use one twice with the same engine.
    """
    import httpx2  # noqa: PLC0415  only who opens a connector pays for it

    habits = mode if isinstance(mode, Mode) else MODES[mode]
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)
    base_path = "/" + base_path.strip("/") if base_path.strip("/") else ""
    # a bare context, because reading the system's authorities takes longer than most tests
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx2.AsyncClient(verify=tls, trust_env=False, timeout=habits.try_s, limits=limits) as client:
        connector = TestConnector(
            client, habits, engine_url=engine_url, base_path=base_path, patience_s=patience_s, seed=seed
        )
        async with open_server(connector.respond, host=host, port=port) as origin:
            connector.url = origin + base_path
            yield connector


def _never(_status: int) -> bool:
    return False


def _quantity(amount: Decimal, scale: int | None) -> Quantity:
    """Return the quantity for an amount, written in a certain scale if there is one."""
    exact = plain(check_amount(amount, "amount to settle"))
    if scale is None:
        return Quantity.of(exact)
    if floor(exact, scale) != exact:
        raise InvalidAmount("amount to settle", f"{amount} is finer than a scale of {scale}")
    shortest = Quantity.of(exact)
    return Quantity(shortest.amount + "0" * (scale - shortest.scale), scale)

"""JSON-RPC to one Ethereum node over HTTP: every call ends in a result, the node's refusal, or "nobody knows".

The three are kept apart because only a result proves anything: a refusal tells what the node thinks now, and after
no answer at all a transaction may well be on its way. Nothing is repeated here; whoever asks knows what is safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import anyio

from settlement_core.values.errors import LocalError, RemoteError
from settlement_core.values.json_text import decode_json

if TYPE_CHECKING:
    import httpx2

__all__ = ["Call", "NodeError", "NodeRefused", "NodeUnavailable", "Rpc", "describe_origin", "open_rpc"]

MAX_BATCH = 50
"""Calls in one request at most. Providers that take fewer are asked for fewer."""

PATIENT = 50
"""Batches that the node answered in full, after which it is offered more calls than it once took."""

_OVERLOADED = frozenset({429, 502, 503, 504})
"""Statuses after which fewer calls at once are no remedy, but more requests."""

MAX_ANSWER = 64 * 2**20
"""Bytes of one answer: ten times what a batch of the largest blocks takes."""

SHORTEST_SECRET = 6
"""Characters of a part of the URL that may be a provider's key; shorter ones are words such as "v3"."""

MAX_EXCERPT = 200
"""Characters of a node's words that are shown to a person."""


class NodeError(RemoteError):
    """The node did not do what was asked; it may later."""


class NodeUnavailable(NodeError):
    """No usable answer came, so what became of the request is unknown."""


class _TooMuch(NodeUnavailable):
    """An answer came that is none to all calls of the request: the node may take fewer at once."""


class NodeRefused(NodeError):
    """The node answered with an error; `code` and `text` are its own."""

    def __init__(self, method: str, *, code: object, text: str) -> None:
        super().__init__(f"the node refused {method}: {text} ({code})")
        self.method = method
        self.code = code
        self.text = text


class Call(NamedTuple):
    """One method with its parameters, all of them JSON."""

    method: str
    params: Sequence[Any] = ()


Answer: TypeAlias = Any
"""A result, or a `NodeRefused` as a value."""


class Rpc:
    """One node; `open_rpc` gives it. Calls may run side by side."""

    def __init__(self, client: httpx2.AsyncClient, url: str, *, timeout_s: float) -> None:
        self._client = client
        self._url = url
        self._timeout_s = timeout_s
        self.origin = describe_origin(url)
        self._secrets = _secrets_of(url)
        self._largest = MAX_BATCH
        self._granted = 0

    def __repr__(self) -> str:
        """Show no path and no password: providers put the customer's key there."""
        return f"<Rpc {self.origin}, timeout {self._timeout_s:g} s>"

    async def call(self, method: str, *params: Any) -> Any:
        """Return the result of one call. Raises `NodeRefused` and `NodeUnavailable`."""
        (answer,) = await self.ask([Call(method, params)])
        return answer

    async def ask(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results of several calls; raises the first refusal."""
        answers = await self.try_all(calls)
        for answer in answers:
            if isinstance(answer, NodeRefused):
                raise answer
        return answers

    async def try_all(self, calls: Sequence[Call]) -> list[Answer]:
        """Return for each call its result, or the node's refusal as a value. Raises `NodeUnavailable` for all."""
        answers: list[Answer] = []
        smaller: int | None = None
        while len(answers) < len(calls):
            batch = calls[len(answers) : len(answers) + (smaller or self._largest)]
            try:
                found = await self._try_batch(batch)
            except _TooMuch:
                if len(batch) == 1:
                    raise
                smaller = len(batch) // 2
                continue
            answers += found
            if not all(isinstance(answer, NodeRefused) for answer in found):
                self._learn(smaller, len(batch))
                smaller = None
        return answers

    def _learn(self, smaller: int | None, size: int) -> None:
        """Remember what the node takes at once; offer twice as much after a while, as the trouble may be over."""
        if smaller is not None:
            self._largest, self._granted = smaller, 0
        self._granted += size == self._largest
        if self._granted >= PATIENT and self._largest < MAX_BATCH:
            self._largest, self._granted = min(self._largest * 2, MAX_BATCH), 0

    async def _try_batch(self, calls: Sequence[Call]) -> list[Answer]:
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": list(call.params)}
            for number, call in enumerate(calls)
        ]
        # some nodes do not take a batch of one
        said = await self._post(requests if len(requests) > 1 else requests[0])
        items = [item for item in (said if isinstance(said, list) else [said]) if _is_answer(item)]
        by_id = {item["id"]: item for item in items}
        if len(items) != len(calls) or by_id.keys() != set(range(len(calls))):
            raise _TooMuch(f"{self.origin} answered {self._quote(said)}, not once every call that was made")
        answers = [self._read(call, by_id[number]) for number, call in enumerate(calls)]
        if len(answers) > 1 and all(isinstance(answer, NodeRefused) for answer in answers):
            # some say of each call that there are too many
            raise _TooMuch(f"{self.origin} refused all of {len(calls)} calls: {answers[0].text}")
        return answers

    def _read(self, call: Call, item: dict[str, Any]) -> Answer:
        error = item.get("error")
        if error is None:
            return item.get("result")
        known = error if isinstance(error, dict) else {}
        code = self._quote(known.get("code"))
        return NodeRefused(call.method, code=code, text=self._quote(known.get("message", error)))

    async def _post(self, content: Any) -> Any:
        try:
            # the client's own timeouts begin anew with each byte; this one does not
            with anyio.fail_after(self._timeout_s):
                status, body = await self._fetch(content)
        except TimeoutError:
            raise NodeUnavailable(f"no answer from {self.origin} within {self._timeout_s:g} s") from None
        except Exception as error:  # noqa: BLE001  whatever HTTP library or loop make of it, there is no answer
            raise NodeUnavailable(f"no answer from {self.origin}: {self._quote(_words_of(error))}") from None
        if len(body) > MAX_ANSWER:
            raise _TooMuch(f"{self.origin} answered more than {MAX_ANSWER} bytes")
        problem = NodeUnavailable if status in _OVERLOADED else _TooMuch
        try:
            return decode_json(bytes(body))
        except ValueError:
            raise problem(f"{self.origin} answered status {status} without JSON") from None

    async def _fetch(self, content: Any) -> tuple[int, bytearray]:
        """Return status and body of the answer; of one that is too long, a little more than is allowed."""
        body = bytearray()
        async with self._client.stream("POST", self._url, json=content) as response:
            with anyio.CancelScope() as reading:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        # not `break`, which would leave httpx's generators to the garbage collector; trio rejects that
                        reading.cancel()
            return response.status_code, body

    def _quote(self, said: object) -> str:
        """Return a node's words in one line, shortened, without what our URL keeps secret."""
        try:
            text = said if isinstance(said, str) else json.dumps(said)
        except ValueError:  # integers of thousands of digits
            text = "an unreadable answer"
        text = self._secrets.sub("[secret]", text)
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"


def _is_answer(item: object) -> bool:
    return (
        isinstance(item, dict) and ("result" in item or item.get("error") is not None) and type(item.get("id")) is int
    )


def _secrets_of(url: str) -> re.Pattern[str]:
    """Return what finds every part of a URL that may be a secret, as it is written there and as it is meant."""
    parts = urlsplit(url)
    fields = [field.partition("=") for field in parts.query.split("&")]
    whole = [parts.path.strip("/"), parts.query, parts.netloc.rpartition("@")[0]]
    single = [*parts.path.split("/"), *(name for name, _, _ in fields), *(value for _, _, value in fields)]
    # however short: a name and a password are never words of an error
    found = {text for text in (parts.username, parts.password, *whole) if text}
    found |= {text for text in single if len(text) >= SHORTEST_SECRET}
    longest_first = sorted(found | {unquote(text) for text in found}, key=len, reverse=True)
    # without any, it finds nothing
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _words_of(error: BaseException) -> str:
    told: BaseException | None = error
    while told is not None and not str(told):  # trio's errors leave the words to their cause
        told = told.__cause__ or told.__context__
    return str(told or type(error).__name__)


def describe_origin(url: str) -> str:
    """Return scheme, host and port of a node's URL, which is all that may be shown of it; raise LocalError if bad."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in {"http", "https"} or not url.isascii() or not url.isprintable() or " " in url:
        raise LocalError("cannot use the node's URL: it must be one such as http://127.0.0.1:8545")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


@asynccontextmanager
async def open_rpc(url: str, *, timeout_s: float) -> AsyncIterator[Rpc]:
    """Give the node at a URL for the block. Nothing is asked yet. Proxies from the environment are ignored."""
    describe_origin(url)
    import httpx2  # noqa: PLC0415  only who opens a node pays for it

    async with httpx2.AsyncClient(trust_env=False, timeout=timeout_s) as client:
        yield Rpc(client, url, timeout_s=timeout_s)

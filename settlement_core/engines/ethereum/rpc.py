"""JSON-RPC to one Ethereum node over HTTP: every call ends in a result, the node's refusal, or "nobody knows".

The three are kept apart because only a result proves anything: a refusal tells what the node thinks now, and after
no answer at all a transaction may well be on its way. Nothing is repeated here; whoever asks knows what is safe.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

from settlement_core.outbound.client import NoReply, Outbound, open_outbound
from settlement_core.outbound.trust import make_trust
from settlement_core.outbound.urls import CheckedUrl, check_proxy, check_url
from settlement_core.values.errors import RemoteError
from settlement_core.values.json_text import decode_json

__all__ = ["Call", "NodeError", "NodeRefused", "NodeUnavailable", "Rpc", "check_node_url", "open_rpc"]

MAX_BATCH = 50
"""Calls in one request at most. Providers that take fewer are asked for fewer."""

PATIENT = 50
"""Batches that the node answered in full, after which it is offered more calls than it once took."""

_OVERLOADED = frozenset({429, 502, 503, 504})
"""Statuses after which fewer calls at once are no remedy, but more requests."""

MAX_ANSWER = 64 * 2**20
"""Bytes of one answer: ten times what a batch of the largest blocks takes."""

MAX_CONNECTIONS = 100
"""Connections to the node at once; accounts that ask side by side need one each."""

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


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

    def __init__(self, outbound: Outbound, target: CheckedUrl) -> None:
        self._outbound = outbound
        self._url = target.url
        self.origin = target.origin
        self._largest = MAX_BATCH
        self._granted = 0

    def __repr__(self) -> str:
        """Show no path and no password: providers put the customer's key there."""
        return f"<Rpc {self.origin}, timeout {self._outbound.timeout_s:g} s>"

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
        body = json.dumps(content, separators=(",", ":")).encode()
        reply = await self._outbound.post(self._url, body, headers=_JSON, max_bytes=MAX_ANSWER)
        if isinstance(reply, NoReply):
            raise NodeUnavailable(reply.reason.replace("no answer", f"no answer from {self.origin}", 1))
        if reply.too_long:
            raise _TooMuch(f"{self.origin} answered more than {MAX_ANSWER} bytes")
        if reply.flaw:
            raise NodeUnavailable(f"no whole answer from {self.origin}: {reply.flaw}")
        if reply.encoded:
            raise NodeUnavailable(f"{self.origin} answered in a content encoding that was not asked for")
        problem = NodeUnavailable if reply.status in _OVERLOADED else _TooMuch
        try:
            return decode_json(reply.body)
        except ValueError:
            raise problem(f"{self.origin} answered status {reply.status} without JSON") from None

    def _quote(self, said: object) -> str:
        """Return a node's words in one line, shortened, without what our URL keeps secret."""
        try:
            text = said if isinstance(said, str) else json.dumps(said)
        except ValueError:  # integers of thousands of digits
            text = "an unreadable answer"
        return self._outbound.excerpt(text)


def _is_answer(item: object) -> bool:
    return (
        isinstance(item, dict) and ("result" in item or item.get("error") is not None) and type(item.get("id")) is int
    )


def check_node_url(url: str) -> CheckedUrl:
    """Return a node's usable URL; raise `LocalError` with a sentence that tells no secret."""
    return check_url(url, "node's URL", example="http://127.0.0.1:8545")


@asynccontextmanager
async def open_rpc(
    url: str, *, timeout_s: float, ca_file: str | None = None, proxy: str | None = None
) -> AsyncIterator[Rpc]:
    """Give the node at a URL for the block. Nothing is asked yet. Proxies from the environment are ignored.

    Trusted are the authorities of `ca_file`, else those of SSL_CERT_FILE, else the system's. `proxy` is the URL of an
    HTTP proxy to go through. Raises `LocalError` if any of these cannot be used.
    """
    target, through = check_node_url(url), check_proxy(proxy, "proxy to the node")
    async with open_outbound(
        target,
        timeout_s=timeout_s,
        trust=make_trust(target, ca_file=ca_file, proxy=through),
        max_connections=MAX_CONNECTIONS,
        ca_option="-o ca_file=PATH",
        proxy=through,
    ) as outbound:
        yield Rpc(outbound, target)

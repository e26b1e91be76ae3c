"""Between an engine and its node: counts the calls, and lets a test do something before or after any one of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import anyio
import httpx2

from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import DROP, Answer

__all__ = ["Call", "NodeProxy", "When", "open_proxy"]

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the node: its method, those of a batch joined by "+", and its number."""

    method: str
    number: int


@dataclass
class NodeProxy:
    """Passes requests on. `interrupt`, if set, is asked before each is passed on, and again after the node has acted.

    While it runs the engine waits; if it says True, the engine gets no answer, its connection is closed.
    """

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    interrupt: Callable[[Call, When], Awaitable[bool]] | None = None

    async def wait_calls(self, count: int) -> None:
        """Return once the engine has called so many times more."""
        enough = len(self.calls) + count
        with anyio.fail_after(30):
            while len(self.calls) < enough:
                await anyio.sleep(0.01)


@asynccontextmanager
async def open_proxy(node_url: str) -> AsyncIterator[NodeProxy]:
    """Serve a proxy on a free port for the block."""
    proxy = NodeProxy()
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=30.0) as client:

        async def respond(_method: str, _path: str, _headers: dict[str, str], body: bytes) -> Answer:
            content = json.loads(body)
            methods = [call["method"] for call in (content if isinstance(content, list) else [content])]
            call = Call("+".join(methods), len(proxy.calls))
            proxy.calls.append(call)
            if proxy.interrupt is not None and await proxy.interrupt(call, "before"):
                return DROP
            try:
                # the node acts even if the engine is killed meanwhile and this request with it
                with anyio.CancelScope(shield=True):
                    answer = await client.post(node_url, content=body, headers={"content-type": "application/json"})
            except httpx2.TransportError:
                return DROP
            if proxy.interrupt is not None and await proxy.interrupt(call, "after"):
                return DROP
            return Answer(answer.status_code, answer.content, {"content-type": "application/json"})

        async with open_server(respond) as url:
            proxy.url = url
            yield proxy

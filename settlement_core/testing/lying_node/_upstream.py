"""The real nodes behind a lying one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from settlement_core.testing.connector._wire import DROP, JSON, Answer
from settlement_core.testing.lying_node._calls import NodeCall, Refusal, pair, write
from settlement_core.testing.lying_node._kinds import Ask

if TYPE_CHECKING:
    import httpx2

__all__ = ["Upstream"]


class Upstream:
    """One or two nodes; the first is the one that gets transactions."""

    def __init__(self, client: httpx2.AsyncClient, urls: Sequence[str]) -> None:
        self._client = client
        self._urls = tuple(urls)
        self.asks: list[Ask] = [self._asker(number) for number in range(len(self._urls))]
        """For each node, a function that asks it. It raises OSError or ValueError if there is no usable answer."""

    def __repr__(self) -> str:
        return f"<Upstream {', '.join(self._urls)}>"

    async def post(self, body: bytes, number: int = 0) -> Answer:
        """Pass a body on to one of the nodes, byte by byte, and back; `DROP` if it is down."""
        import httpx2  # noqa: PLC0415  only who opens a node pays for it

        try:
            # the node acts even if whoever asked is gone
            with anyio.CancelScope(shield=True):
                said = await self._client.post(
                    self._urls[number], content=body, headers={"content-type": "application/json"}
                )
        except httpx2.TransportError:
            return DROP
        return Answer(said.status_code, said.content, {"content-type": said.headers.get("content-type", JSON)})

    def _asker(self, number: int) -> Ask:
        async def ask(calls: Sequence[NodeCall]) -> list[Any]:
            numbered = [replace(call, call_id=at) for at, call in enumerate(calls)]
            content = [call.to_json() for call in numbered]
            said = await self.post(write(content if len(content) > 1 else content[0]), number)
            items = None if said.status is None else pair(numbered, json.loads(said.body))
            if items is None:
                raise ConnectionError(f"node {number} gave no answer")
            return [_result_of(item) for item in items]

        return ask


def _result_of(item: dict[str, Any]) -> Any:
    error = item.get("error")
    return Refusal(error.get("code", 0), error.get("message", "")) if isinstance(error, dict) else item.get("result")

"""Hypercorn made to survive its connections: what breaks one connection ends that one alone.

On trio, whatever escapes from a connection would end the server for everybody, and on asyncio spoil the shutdown. A
client can bring that about: hypercorn 0.18 raises for a path beyond ASCII over HTTP/2, and for data of a request that
it has answered already.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import sniffio

from settlement_core.core.effects import Failed, perform

__all__ = ["load_hypercorn"]


def load_hypercorn() -> Callable[..., Awaitable[None]]:
    """Return hypercorn's `serve` for the loop that runs."""
    library = f"hypercorn.{sniffio.current_async_library()}"
    runner: Any = importlib.import_module(f"{library}.run")
    if not issubclass(runner.TCPServer, _Contained):
        # where hypercorn looks it up: it offers no other way
        runner.TCPServer = type("ContainedTCPServer", (_Contained, runner.TCPServer), {})
    serve: Callable[..., Awaitable[None]] = importlib.import_module(library).serve
    return serve


class _Contained:
    """Mixed into hypercorn's class for a connection."""

    config: Any

    async def run(self) -> None:
        parent: Any = super()
        connections = getattr(self.config, "connections", None)
        if connections is None:
            await parent.run()
            return
        tell = connections.broken.note
        outcome = await perform(parent.run, misbehaved=tell)
        if isinstance(outcome, Failed):
            tell(outcome.reason)

"""An engine as the core sees it: which contract it fulfils, and which optional members it has."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import anyio

from settlement_core.abc import AccountServices, ConnectEngine, SettlementEngine, VerifiableEngine
from settlement_core.values.amounts import MAX_SCALE
from settlement_core.values.assets import MAX_LABEL, is_label
from settlement_core.values.errors import InvalidEngine
from settlement_core.values.events import CoreStarted

__all__ = ["ConnectedEngine", "open_engine"]

_DISCONNECT_S = 5.0
"""A connection is closed even when we are cancelled, but not for ever."""

_VERIFIABLE = ("prepare", "submit", "verify")


class ConnectedEngine:
    """A checked engine. `minimal` or `verifiable` is set, never both."""

    def __init__(self, engine: object) -> None:
        self.name = type(engine).__name__
        present = [name for name in _VERIFIABLE if callable(getattr(engine, name, None))]
        self.verifiable: VerifiableEngine | None = None
        self.minimal: SettlementEngine | None = None
        if len(present) == len(_VERIFIABLE):
            self.verifiable = cast("VerifiableEngine", engine)
        elif present:
            missing = ", ".join(name for name in _VERIFIABLE if name not in present)
            raise InvalidEngine(self.name, f"it has {', '.join(present)} but not {missing}")
        elif callable(getattr(engine, "settle", None)):
            self.minimal = cast("SettlementEngine", engine)
        else:
            raise InvalidEngine(self.name, "it has neither settle nor prepare, submit and verify")
        self.setup_account = _optional(engine, "setup_account")
        self.close_account = _optional(engine, "close_account")
        self.handle_message = _optional(engine, "handle_message")
        self.status = _optional(engine, "status")
        self.disconnect = _optional(engine, "disconnect")
        self.asset_scale: int | None = getattr(engine, "asset_scale", None)
        scale = self.asset_scale
        if scale is not None and (type(scale) is not int or not 0 <= scale <= MAX_SCALE):
            raise InvalidEngine(self.name, f"its asset_scale is {scale!r}, not an integer from 0 to {MAX_SCALE}")
        self.asset: str = getattr(engine, "asset", None) or ""
        if type(self.asset) is not str or not is_label(self.asset):
            found = f"{self.asset!r:.60}"
            raise InvalidEngine(self.name, f"its asset is {found}, not a word of up to {MAX_LABEL} visible signs")

    def started(self) -> CoreStarted:
        """Return the event that a core begins to settle with it."""
        return CoreStarted(engine=self.name, verifiable=self.verifiable is not None, asset=self.asset)


def _optional(engine: object, name: str) -> Callable[..., Awaitable[Any]] | None:
    member = getattr(engine, name, None)
    return member if callable(member) else None


@asynccontextmanager
async def open_engine(connect: ConnectEngine, services: AccountServices) -> AsyncIterator[ConnectedEngine]:
    """Make the engine for the block, in whichever of the accepted ways it is given.

    An async context manager ends itself; an engine that was simply returned is asked to `disconnect`, if it can.
    """
    made: Any = connect(services)
    if inspect.isawaitable(made):
        made = await made
    if isinstance(made, AbstractAsyncContextManager) and not _is_engine(made):
        async with made as engine:
            yield ConnectedEngine(engine)
        return
    connected = ConnectedEngine(made)
    try:
        yield connected
    finally:
        if connected.disconnect is not None:
            with anyio.fail_after(_DISCONNECT_S, shield=True):
                await connected.disconnect()


def _is_engine(made: object) -> bool:
    return isinstance(made, SettlementEngine | VerifiableEngine)

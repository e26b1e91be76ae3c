"""The Lua scripts, by name, and calls of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeAlias

__all__ = ["Call", "Script", "script"]


@dataclass(frozen=True, slots=True)
class Script:
    """One script and what Redis knows it by."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script of that name in `lua/`."""
    source = files("settlement_core.stores.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One call to Redis: a script, or a plain command that reads.

    Attributes:
        keys: all keys it touches, at least one; they share a hash tag.
        writes: it may change something, which must then be durable before anybody is told.
    """

    what: Script | str
    keys: Sequence[str]
    arguments: Sequence[Any] = ()
    writes: bool = False


Reply: TypeAlias = Any
"""What Redis answers a call, texts decoded."""

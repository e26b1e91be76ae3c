"""The Lua scripts, by name, and calls of them.

Every script that is made by `script` first compares the store's mark (see `marks`) with the one its caller knows: the
prelude takes the mark's key off the end of KEYS, the mark and the clock's difference off the end of ARGV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeAlias

__all__ = ["Call", "Reply", "Script", "bare_script", "plain", "script"]


@dataclass(frozen=True, slots=True)
class Script:
    """One script and what Redis knows it by; `checked` if it begins with the prelude."""

    name: str
    source: str
    sha: str
    checked: bool


@cache
def script(name: str) -> Script:
    """Return the script of that name in `lua/`, which refuses to touch another store than the caller's."""
    return _script(name, _text("prelude") + _text(name), checked=True)


@cache
def bare_script(name: str) -> Script:
    """Return the script of that name in `lua/` without the prelude: one of the few that look after marks."""
    return _script(name, _text(name), checked=False)


def _script(name: str, source: str, *, checked: bool) -> Script:
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest(), checked)


def _text(name: str) -> str:
    return files("settlement_core.stores.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Call:
    """One call to Redis.

    Attributes:
        keys: all keys it touches, at least one; they share a hash tag.
        writes: it may change something, which must then be durable before the caller goes on.
    """

    what: Script
    keys: Sequence[str]
    arguments: Sequence[Any] = ()
    writes: bool = False


def plain(command: str, keys: Sequence[str], arguments: Sequence[Any] = (), *, writes: bool = False) -> Call:
    """Return the call of a single command of Redis, on the caller's store only; maps are answered as flat lists."""
    return Call(script("plain"), keys, [command, *arguments], writes)


Reply: TypeAlias = Any
"""What Redis answers a call, texts decoded."""

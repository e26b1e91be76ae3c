"""Stores by URL: `memory:`, `sqlite:PATH`, and those in Redis."""

from __future__ import annotations

from pathlib import Path

from settlement_core.abc import Store
from settlement_core.values.errors import LocalError

__all__ = ["DEFAULT_STORE", "open_store", "sqlite_path"]

DEFAULT_STORE = "sqlite:settlement.db"


def open_store(url: str, *, create: bool = True, incomplete: bool = False) -> Store:
    """Open the store a URL names; raises a `LocalError` or `StoreBroken` with one sentence if it cannot be had.

    Without `create` it must exist, in this version's format, and is not changed: an empty one in place of one that is
    mistyped would say that all is well. With
    `incomplete` a SQLite file is taken that was copied while it was in use, without its log.
    """
    scheme, colon, rest = url.partition(":")
    if url == "memory:":
        if not create:
            raise LocalError("store memory: lives and ends with its server; only that can be asked, by its admin URL")
        from settlement_core.stores.memory import create_memory_store  # noqa: PLC0415 - only what is used

        return create_memory_store()
    if scheme == "sqlite" and rest.strip("/"):
        from settlement_core.stores.sqlite import open_sqlite_store  # noqa: PLC0415 - only what is used

        return open_sqlite_store(sqlite_path(url), create=create, incomplete=incomplete)
    if scheme.partition("+")[0] in {"redis", "rediss", "unix"}:
        return _connect_redis(url, create=create)
    known = "memory:, sqlite:PATH, redis://…, rediss://…, unix://PATH, redis+sentinel://… and redis+cluster://…"
    if not colon:
        raise LocalError(f"store {url!r} is no URL; known are {known}")
    raise LocalError(f"store {scheme}:… is not known, or lacks its path; known are {known}")


def sqlite_path(url: str) -> Path:
    """Return the absolute path that a URL `sqlite:PATH` names; raises `LocalError` if it names none for certain.

    `sqlite:PATH` is relative to the working directory, `sqlite:/PATH` and `sqlite:///PATH` begin at the root, `~/` is
    the home directory. What SQLite or other tools would read otherwise (`?mode=ro`, `:memory:`, `//name`) is refused.
    """
    rest = url.partition(":")[2]
    problem = _problem_with(rest)
    if problem:
        raise LocalError(f"store {url!r} {problem}; nothing was opened")
    try:
        path = Path(rest.removeprefix("//") if rest.startswith("///") else rest).expanduser()
        return path.absolute()
    except RuntimeError:
        raise LocalError(f"store {url!r}: the home directory of ~ is not known; name the whole path") from None
    except OSError as gone:
        raise LocalError(f"store {url!r}: the working directory is gone ({gone.strerror})") from None


def _problem_with(rest: str) -> str:
    """Return why the part after `sqlite:` is refused, or "" if it is a path."""
    name = rest.lstrip("/")
    if not rest.isprintable():
        return "holds characters that are not printable"
    if name == ":memory:":
        return "is not a file: memory: keeps money in memory, until the server ends"
    if "?" in rest or "#" in rest:
        return "has options, which a store takes none of: sqlite:PATH is all"
    if rest.endswith("/"):
        return "names a directory; name a file in it"
    if rest.startswith("//") and not rest.startswith("///"):
        return f"names a host, not a file: say sqlite:{name} for a file in this directory, or sqlite:/{name}"
    return ""


def _connect_redis(url: str, *, create: bool) -> Store:
    try:
        from settlement_core.stores.redis import connect_redis  # noqa: PLC0415 - only what is used
    except ModuleNotFoundError as problem:
        raise LocalError(f"cannot open {url.partition(':')[0]}:…: {problem}") from None
    return connect_redis(url, create=create)

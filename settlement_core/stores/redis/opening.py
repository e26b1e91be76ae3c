"""Finding a store in Redis, or making it: its settings, and the marks by which every call knows it from then on.

A store is made in this order, and whoever opens it next goes on where that was cut off: its number of partitions, its
identity and generation; then all marks; then its format, which says that it is complete. From then on a mark that is
missing is a broken store and never made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from settlement_core.stores._steps import make_waits
from settlement_core.stores.redis.layout import Keyspace
from settlement_core.stores.redis.marks import Mark, explain_foreign, fence, mark_call, mark_keys
from settlement_core.stores.redis.scripts import Call, Reply, bare_script, plain
from settlement_core.stores.redis.servers import Servers
from settlement_core.values.errors import LocalError, StoreBroken

__all__ = ["open_keyspace"]

PARTITIONS = 64
"""Of a new store: workers beyond this number would have nothing to do."""

FORMAT = 3
"""The layout of the keys; a store of another is refused."""

WHOLE_HISTORY = 2
"""The format in which no attempt ever left the history: those who know no other would credit what did once more."""

UNMARKED = 1
"""The format that had no marks: it is given them."""

_LOOKS = 5
"""How often the generation may be raised by others while the store is opened."""


def open_keyspace(servers: Servers, namespace: str, partitions: int | None, *, create: bool) -> Keyspace:
    """Return the keys of the store, and have the servers know its mark.

    Raises `LocalError` if there is no such store, or not for us, and `StoreBroken` if a part of it is not there.
    """
    for _ in range(_LOOKS):
        settings = _settings(servers, namespace, partitions, create=create)
        places = Keyspace(namespace, int(settings["partitions"]))
        places.created = "format" not in settings
        if partitions not in {None, len(places.partitions)}:
            raise LocalError(
                f"the store at {servers.name} has {len(places.partitions)} partitions, which cannot be changed to "
                f"{partitions}: leave the option out, or migrate to a new store"
            )
        known = settings.get("format")
        complete = known in {str(FORMAT), str(WHOLE_HISTORY)}
        mark = Mark.read(f"{settings.get('identity', '')}:{settings.get('generation', '')}")
        if mark is None:
            raise StoreBroken(f"the store at {servers.name} has lost its identity; bring back the Redis it was in")
        found = _marks(servers, places, mark, complete=complete)
        if all(text == str(mark) for text in found):
            servers.mark = mark
            if not complete:
                made = FORMAT if create else WHOLE_HISTORY
                _ask(servers, [plain("HSET", [places.settings], ["format", made], writes=True)])
            if known == str(WHOLE_HISTORY) and create and not _renew(servers, places, mark):
                continue
            return places
        # which a fence may have raised since the settings were read
        odd = next(text for text in found if text != str(mark))
    raise StoreBroken(explain_foreign(servers.name, mark, odd))


def _renew(servers: Servers, places: Keyspace, mark: Mark) -> bool:
    """Bring a store to this format, and take it away from whoever has it open in the old one; False if others did."""
    work = fence(servers.name, places, mark, uuid4().hex, becomes=str(FORMAT))
    try:
        replies = _ask(servers, list(next(work)))
        while True:
            replies = _ask(servers, list(work.send(replies)))
    except StopIteration as finished:
        servers.mark = finished.value
        return True
    except StoreBroken:
        return False


def _settings(servers: Servers, namespace: str, partitions: int | None, *, create: bool) -> Mapping[str, str]:
    """Return the settings of the store, which is begun to be made if it may be."""
    key = Keyspace(namespace, 0).settings
    client: Any = servers.client_for(key)
    found: Mapping[str, str] = client.hgetall(key)
    known = found.get("format")
    if known not in {None, str(UNMARKED), str(WHOLE_HISTORY), str(FORMAT)}:
        raise LocalError(
            f"the store at {servers.name} has format {known}, this version knows {FORMAT}; it was not changed: run the "
            "version that wrote it"
        )
    if known in {str(WHOLE_HISTORY), str(FORMAT)}:
        return found
    there = known is not None and "partitions" in found
    if not there and not create:
        raise LocalError(f"there is no store {namespace!r} at {servers.name}; nothing was read")
    make = Call(bare_script("make"), [key], [uuid4().hex, partitions or PARTITIONS], writes=True)
    _ask(servers, [make])
    made: Mapping[str, str] = client.hgetall(key)
    return made


def _marks(servers: Servers, places: Keyspace, mark: Mark, *, complete: bool) -> list[str]:
    """Return all marks of the store, having raised or made what is behind."""
    keys = mark_keys(places)
    found: list[str] = _ask(servers, [mark_call(key, mark, "look") for key in keys])
    behind = [place for place, text in enumerate(found) if text != str(mark)]
    if behind:
        what = "raise" if complete else "make"
        now = _ask(servers, [mark_call(keys[place], mark, what) for place in behind])
        for place, text in zip(behind, now, strict=True):
            found[place] = text
    return found


def _ask(servers: Servers, calls: list[Call]) -> list[Reply]:
    return make_waits(servers.run(calls))

"""The mark by which every call knows the store, and the fence that takes the store away from those who know an old one.

A mark is "IDENTITY:GENERATION". The identity is random and stays; a fence raises the generation. There is one mark for
each hash tag, so that each script can compare it: one of the store, one of every partition. The settings of the store
hold identity and generation, too. They are raised first, and whoever opens the store raises the marks left behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from settlement_core.stores.redis.layout import Keyspace, mark_key
from settlement_core.stores.redis.queries import Work
from settlement_core.stores.redis.scripts import Call, bare_script
from settlement_core.values.errors import StoreBroken

__all__ = ["Mark", "explain_foreign", "fence", "mark_call", "mark_keys"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Which store it is, and how often it was fenced."""

    identity: str
    generation: int

    def __str__(self) -> str:
        return f"{self.identity}:{self.generation}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the mark that a text is, None if it is none."""
        identity, _, generation = text.rpartition(":")
        return cls(identity, int(generation)) if identity and generation.isdecimal() else None


def mark_keys(places: Keyspace) -> list[str]:
    """Return the keys of all marks: the store's, then those of its partitions."""
    return [mark_key(places.settings), *(mark_key(partition.lease) for partition in places.partitions)]


def mark_call(key: str, mark: Mark, what: str) -> Call:
    """Return the call that looks at a mark, raises it, or makes it."""
    return Call(bare_script("mark"), [key], [mark.identity, mark.generation, what], writes=what != "look")


def fence(where: str, places: Keyspace, mark: Mark, asker: str, *, becomes: str = "") -> Work[Mark]:
    """Raise the generation of the store at `where` everywhere; return the new mark, which only the asker knows.

    Applied again after a lost answer, by the same asker, it ends at the same mark. With `becomes` the store is of that
    format from the same instant on.
    """
    following = Mark(mark.identity, mark.generation + 1)
    own, *others = mark_keys(places)
    arguments = [mark.identity, mark.generation, asker, becomes]
    yield [Call(bare_script("fence"), [places.settings, own], arguments, writes=True)]
    found = yield [mark_call(key, following, "raise") for key in others]
    for text in found:
        if text != str(following):
            raise StoreBroken(explain_foreign(where, following, text))
    return following


def explain_foreign(where: str, mark: Mark | None, text: str) -> str:
    """Return the sentence for a mark that is not the one the caller knows; `where` is the store's URL."""
    found = Mark.read(text)
    start = f"the store at {where} is not the one it was, and is used no more: "
    if mark is None or not text:
        return start + (
            "its mark is gone, and so may be everything it kept (FLUSHALL, a failover to a server without its data, or "
            "another database). Bring back the Redis that has its data before anything is served again"
        )
    if found is None or found.identity != mark.identity:
        return start + (
            f"another store ({text}) is where it was ({mark}). Find out which Redis, and which database, has its data "
            "before anything is served again"
        )
    if found.generation > mark.generation:
        return start + (
            f"it was taken over since (generation {found.generation}, opened as {mark.generation}), as a migration "
            "does. Start again: that tells whether it was moved, and where to"
        )
    return start + (
        f"an older copy of it is in its place (generation {found.generation}, opened as {mark.generation}), after a "
        "failover or a restored backup. Compare it with the ledger before anything is served again"
    )

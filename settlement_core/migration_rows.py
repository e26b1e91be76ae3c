"""Everything that a store holds, page by page: what a migration copies and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from settlement_core.abc import ImportingStore, Store
from settlement_core.values import commands as c
from settlement_core.values.known import KnownSettlement
from settlement_core.values.records import EngineValue, SuspenseItem
from settlement_core.values.sealing import SEAL

__all__ = [
    "PAGE",
    "after_value",
    "all_rows",
    "ask",
    "kept_values",
    "known_of",
    "pages",
    "rows_of",
    "suspense_of",
    "values_of",
]

R = TypeVar("R")

PAGE = 1000
"""Rows asked for at once."""


def ask(store: Store, command: c.Command[R]) -> R:
    """Return a command's result, or raise its refusal."""
    (result,) = store.apply([command])
    if isinstance(result, Exception):
        raise result
    answer: R = result
    return answer


def kept_values(values: Sequence[EngineValue]) -> list[EngineValue]:
    """Return all values but the mark of a migration itself."""
    return [value for value in values if (value.account_id, value.key) != (SEAL.account_id, SEAL.key)]


def after_value(value: EngineValue) -> tuple[str, str]:
    """Return what the page after this value comes after."""
    return value.account_id, value.key


def pages(store: Store, query: Any, cursor: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """Yield the pages of a query."""
    while page := ask(store, query):
        yield page
        if len(page) < query.limit:
            return
        query = replace(query, after=cursor(page[-1]))


def rows_of(store: Store, query: Any, first: list[Any], cursor: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield all rows of a query of which the first page is there."""
    yield from first
    if len(first) == query.limit:
        yield from all_rows(store, replace(query, after=cursor(first[-1])), cursor)


def all_rows(store: Store, query: Any, cursor: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield all rows of a query."""
    return chain.from_iterable(pages(store, query, cursor))


def known_of(store: Store) -> Iterator[KnownSettlement]:
    """Yield the settlement ids whose credits have left the history."""
    # a store from which accounts cannot be brought elsewhere keeps its whole history
    return store.export_known() if isinstance(store, ImportingStore) else iter(())


def values_of(store: Store) -> Iterator[EngineValue]:
    """Yield all of the engine's values but the mark of a migration."""
    for page in pages(store, c.Values(limit=PAGE), after_value):
        yield from kept_values(page)


def suspense_of(store: Store) -> Iterator[SuspenseItem]:
    """Yield all money whose owner is, or was, unknown."""
    return all_rows(store, c.Suspense(limit=PAGE, assigned=True), lambda item: item.settlement_id)

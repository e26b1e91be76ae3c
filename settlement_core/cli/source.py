"""Where the command line reads and changes books: a running server's operator API, or a stopped one's store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Protocol

import httpx2

from settlement_core.abc import SharedStore, Store
from settlement_core.auditing.audit import audit
from settlement_core.http import views
from settlement_core.store_urls import open_store
from settlement_core.values.commands import Assign, Command, History, Overview, Release, Resolve, Suspense, Workers
from settlement_core.values.errors import LocalError, SettlementError
from settlement_core.values.records import AttemptState
from settlement_core.values.sealing import SEAL, refuse_sealed

__all__ = ["Source", "open_source"]

PAGE = 500

USUAL_ADMIN_URL = "http://127.0.0.1:3001"


class Source(Protocol):
    """Books that can be read, and decided upon by a person."""

    def accounts(self, after: str) -> list[dict[str, Any]]:
        """Return the next accounts after an id."""
        ...

    def attempts(
        self, account: str | None, states: tuple[str, ...], after: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Return the next attempts after one."""
        ...

    def suspense(self, after: str) -> list[dict[str, Any]]:
        """Return the next money without an owner after a settlement id."""
        ...

    def workers(self) -> dict[str, Any]:
        """Return who shares the store, and whether it can be shared."""
        ...

    def audit(self) -> dict[str, Any]:
        """Return an audit's report."""
        ...

    def resolve(self, attempt: dict[str, Any], *, settled: Decimal, reason: str, by: str) -> None:
        """Say how much of an attempt moved."""
        ...

    def release(self, attempt: dict[str, Any], *, reason: str, by: str) -> None:
        """Have a held credit offered again."""
        ...

    def assign(self, settlement_id: str, account_id: str, *, reason: str, by: str) -> None:
        """Say whose money it is."""
        ...


@contextmanager
def open_source(*, store: str | None, admin_url: str | None, default_store: str) -> Iterator[Source]:
    """Give the books: the named store or server; if neither is named, the usual server, or else the usual store."""
    url = admin_url or USUAL_ADMIN_URL
    if store is None:
        with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
            if admin_url is not None or _answers(client):
                yield _Server(client, url)
                return
    try:
        books = open_store(store or default_store, create=False)
    except LocalError as problem:
        if store is not None:
            raise
        raise LocalError(f"no server answers at {url}, and {problem}; say --admin-url or --store") from None
    try:
        yield _Stopped(books)
    finally:
        books.close()


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/statistics").is_success
    except httpx2.TransportError:
        return False


class _Stopped:
    """The store of a server that is not running."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _ask(self, command: Command[Any]) -> Any:
        (result,) = self._store.apply([command])
        if isinstance(result, SettlementError):
            raise result
        return result

    def accounts(self, after: str) -> list[dict[str, Any]]:
        return [views.account_view(account) for account in self._ask(Overview(after=after, limit=PAGE))]

    def attempts(
        self, account: str | None, states: tuple[str, ...], after: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        wanted = frozenset(AttemptState(state) for state in states)
        start = {} if after is None else {"after": after["id"], "after_account": after["account"]}
        found = self._ask(History(account_id=account, states=wanted, limit=PAGE, **start))
        return [views.attempt_view(attempt) for attempt in found]

    def suspense(self, after: str) -> list[dict[str, Any]]:
        return [views.suspense_view(item) for item in self._ask(Suspense(after=after, limit=PAGE))]

    def workers(self) -> dict[str, Any]:
        partitions: int = getattr(self._store, "partitions", 1)
        shared = isinstance(self._store, SharedStore)
        return views.workers_view(self._ask(Workers()), shared=shared, partitions=partitions)

    def audit(self) -> dict[str, Any]:
        return audit(self._store).to_json()

    def _decide(self, command: Command[Any]) -> None:
        # nobody would ever act on what is decided about books that have moved
        refuse_sealed(self._ask(SEAL))
        self._ask(command)

    def resolve(self, attempt: dict[str, Any], *, settled: Decimal, reason: str, by: str) -> None:
        self._decide(
            Resolve(
                account_id=attempt["account"],
                attempt_id=attempt["id"],
                settled=settled,
                reason=reason,
                by=by,
                at=time.time(),
            )
        )

    def release(self, attempt: dict[str, Any], *, reason: str, by: str) -> None:
        self._decide(Release(account_id=attempt["account"], attempt_id=attempt["id"], reason=reason, by=by))

    def assign(self, settlement_id: str, account_id: str, *, reason: str, by: str) -> None:
        self._decide(Assign(settlement_id=settlement_id, account_id=account_id, reason=reason, by=by, at=time.time()))


class _Server:
    """A running server."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client = client
        self._url = url

    def _request(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = self._client.request(method, path, **content)
            said = answer.json()
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
            raise LocalError(f"no server answers at {self._url}: {problem}") from None
        except ValueError:
            raise LocalError(f"what answers at {self._url} is no settlement engine's operator API") from None
        if not answer.is_success:
            raise LocalError(str(said.get("detail", said)) if isinstance(said, dict) else str(said))
        return said

    def accounts(self, after: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._request("GET", "/accounts", params={"after": after, "limit": PAGE})
        return found

    def attempts(
        self, account: str | None, states: tuple[str, ...], after: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        chosen = {"account": account, "limit": PAGE, "state": list(states)}
        if after is not None:
            chosen |= {"after": after["id"], "after_account": after["account"]}
        params = {name: value for name, value in chosen.items() if value is not None}
        found: list[dict[str, Any]] = self._request("GET", "/attempts", params=params)
        return found

    def suspense(self, after: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._request("GET", "/suspense", params={"after": after, "limit": PAGE})
        return found

    def workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", "/workers")
        return found

    def audit(self) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", "/audit")
        return found

    def resolve(self, attempt: dict[str, Any], *, settled: Decimal, reason: str, by: str) -> None:
        path = f"/accounts/{attempt['account']}/attempts/{attempt['id']}/resolve"
        self._request("POST", path, json={"settled": f"{settled:f}", "reason": reason, "by": by})

    def release(self, attempt: dict[str, Any], *, reason: str, by: str) -> None:
        path = f"/accounts/{attempt['account']}/attempts/{attempt['id']}/release"
        self._request("POST", path, json={"reason": reason, "by": by})

    def assign(self, settlement_id: str, account_id: str, *, reason: str, by: str) -> None:
        content = {"settlement_id": settlement_id, "account_id": account_id, "reason": reason, "by": by}
        self._request("POST", "/suspense/assign", json=content)
